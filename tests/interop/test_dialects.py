"""Clients that were written for another server find it at an alias: its field names, its statuses, its errors."""

import json
from datetime import datetime, timezone

import httpx
import jwt
import pytest

from support.config import base
from support.processes import Application, tollgate

PASSWORD = "correct horse battery staple"
ALIASES = {
    "/authenticate": ("login", "ra-in-memory-jwt"),
    "/ra/me": ("me", "ra-in-memory-jwt"),
    "/token": ("login", "fastapi"),
    "/users/me": ("me", "fastapi"),
    "/admin/login": ("login", "fastapi-mongo"),
    "/admin/me": ("me", "fastapi-mongo"),
    "/hasura/login": ("login", "hasura"),
    "/oauth/token": ("login", "oauth2"),
    "/login": ("login", "native"),
}


def aliases(entries):
    return "".join(
        f'\n[[login.aliases]]\npath = "{path}"\ndoes = "{does}"\nprofile = "{profile}"\n'
        for path, (does, profile) in entries.items()
    )


@pytest.fixture(scope="module")
def server(module_gateway):
    server = module_gateway(base("{folder}") + aliases(ALIASES))
    added = tollgate(
        *["user", "add", "ada", "--name", "Ada Lovelace", "--role", "admin", "--scope", "read", "--password-stdin"],
        *["-c", server.config],
        stdin=PASSWORD,
    )
    assert added.returncode == 0, added.stderr
    return server


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=server.url) as client:
        yield client


@pytest.fixture(scope="module")
def real():
    application = Application("login_app")
    with httpx.Client(base_url=application.url) as client:
        yield client
    application.stop()


GOOD = {"username": "ada", "password": PASSWORD}
BAD = {"username": "ada", "password": "wrong"}


def good_token(token):
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["sub"] and claims["scope"] == "read"
    return token


def test_ra_in_memory_jwt(client):
    told = client.post("/authenticate", json={**GOOD, "rememberMe": True})
    assert told.status_code == 200 and told.headers["cache-control"] == "no-store"
    assert told.json() == {"token": good_token(told.json()["token"]), "tokenExpiry": 300}
    me = client.get("/ra/me", headers={"Authorization": f"Bearer {told.json()['token']}"}).json()
    assert (me["fullName"], me["id"], me["roles"]) == ("Ada Lovelace", me["subject"], ["admin"])
    refused = client.post("/authenticate", json=BAD)
    assert refused.status_code == 401 and refused.reason_phrase == "Unauthorized"
    assert refused.headers["content-type"] == "application/json"
    assert refused.json() == {"status": 401, "message": "The username or the password is wrong."}
    for body, status in [({"username": "ada"}, 400), ({"username": {"$ne": ""}, "password": "x"}, 400)]:
        refused = client.post("/authenticate", json=body)
        assert refused.status_code == status and set(refused.json()) == {"status", "message"}
    refused = client.get("/ra/me")
    assert refused.status_code == 401 and set(refused.json()) == {"status", "message"}
    refused = client.put("/authenticate", json=GOOD)
    assert refused.status_code == 405 and refused.json()["status"] == 405 and refused.headers["allow"] == "POST"


def test_fastapi(client):
    told = client.post("/token", data={**GOOD, "grant_type": "password", "scope": "read"})
    assert told.status_code == 200
    assert told.json() == {"access_token": good_token(told.json()["access_token"]), "token_type": "bearer"}
    refused = client.post("/token", data={**GOOD, "scope": "read everything"})
    assert refused.status_code == 400 and list(refused.json()) == ["detail"]
    refused = client.get("/users/me", headers={"Authorization": "Bearer a.b.c"})
    assert (refused.status_code, refused.json()) == (401, {"detail": "Could not validate credentials"})
    refused = client.get("/users/me")
    assert (refused.status_code, refused.json()) == (401, {"detail": "Not authenticated"})
    assert refused.headers["www-authenticate"] == "Bearer"


def test_fastapi_mongo(client):
    told = client.post("/admin/login", json={**GOOD, "fullname": "ignored"})
    assert told.status_code == 200
    assert told.json() == {"access_token": good_token(told.json()["access_token"])}
    refused = client.get("/admin/me", headers={"Authorization": "Bearer a.b.c"})
    assert (refused.status_code, refused.json()) == (403, {"detail": "Invalid token or expired token"})
    assert "www-authenticate" not in refused.headers


def test_hasura(client):
    # What `fetch` sends when it is told nothing.
    text = {"Content-Type": "text/plain;charset=UTF-8"}
    for sent in [
        {"json": GOOD},
        {"json": {"email": "ada", "password": PASSWORD}},
        {"content": json.dumps(GOOD), "headers": text},
    ]:
        before = datetime.now(timezone.utc)
        told = client.post("/hasura/login", **sent)
        assert told.status_code == 200, told.text
        assert set(told.json()) == {"jwt_token", "jwt_token_expiry"}
        good_token(told.json()["jwt_token"])
        expiry = datetime.fromisoformat(told.json()["jwt_token_expiry"])
        assert 298 <= (expiry - before).total_seconds() <= 330
    refused = client.post("/hasura/login", json={"email": "ada", "username": "ada", "password": PASSWORD})
    assert refused.status_code == 400
    refused = client.post("/hasura/login", json=BAD)
    assert refused.status_code == 401 and refused.json()["code"] == "login_failed" and refused.json()["message"]
    # Nobody else takes JSON that calls itself text, which a page of any site could send without asking.
    for path in ["/authenticate", "/admin/login", "/token", "/login", "/auth/login"]:
        assert client.post(path, content=json.dumps(GOOD), headers=text).status_code in (400, 422), path


def test_oauth2_and_native_are_the_endpoints_themselves(client):
    told = client.post("/oauth/token", data={**GOOD, "grant_type": "password"}).json()
    assert told["token_type"] == "bearer" and told["expires_in"] == 300 and good_token(told["access_token"])
    refused = client.post("/oauth/token", data={**BAD, "grant_type": "password"})
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    assert client.post("/login", json=GOOD).json().keys() == client.post("/auth/login", json=GOOD).json().keys()
    refused = client.post("/login", json=BAD)
    assert (refused.status_code, refused.json()["code"]) == (401, "login_failed")


FORMS = [
    {"data": BAD},
    {"data": {"username": "ada"}},
    {"data": {"password": "x"}},
    {"data": {"username": "", "password": "x"}},
    {"data": {"other": "x"}},
    {"files": {"username": (None, "ada"), "password": (None, "x")}},
    {"json": BAD},
    {"content": b"x", "headers": {"Content-Type": "text/plain"}},
]
BODIES = [
    {"json": BAD},
    {"json": {"username": "ada"}},
    {"json": {"password": "x"}},
    {"json": {}},
    {"json": {"username": {"$ne": ""}, "password": "x"}},
    {"json": {"username": "ada", "password": 5}},
    {"json": {"username": "ada", "password": ["x"]}},
    {"content": b'{"username": "ada", ', "headers": {"Content-Type": "application/json"}},
    {"data": BAD},
    {"content": json.dumps(BAD), "headers": {"Content-Type": "text/plain"}},
]


@pytest.mark.parametrize(
    ("path", "sent"), [("/token", sent) for sent in FORMS] + [("/admin/login", sent) for sent in BODIES], ids=str
)
def test_a_refusal_is_the_one_of_the_real_fastapi(client, real, path, sent):
    """Status, challenge, and the errors but for what was sent, which FastAPI says back and the gateway does not."""
    ours, theirs = client.post(path, **sent), real.post(path, **sent)

    def errors(answer):
        detail = answer.json()["detail"]
        if isinstance(detail, str):
            return detail
        # Where in the text JSON ends to be JSON is counted differently by each parser.
        place = lambda error: error["loc"][:1] if error["type"] == "json_invalid" else error["loc"]
        return [(error["type"], place(error), error["msg"]) for error in detail]

    assert (ours.status_code, errors(ours)) == (theirs.status_code, errors(theirs))
    assert ours.headers.get("www-authenticate") == theirs.headers.get("www-authenticate")
    assert ours.headers["content-type"] == theirs.headers["content-type"]
    assert "wrong" not in ours.text and list(ours.json()) == list(theirs.json())


def test_the_access_log_and_explain_know_an_alias(server, client):
    refused = client.post("/authenticate", json=BAD)
    line = server.access_line(refused.headers["x-request-id"])
    assert (line["route.name"], line["login.profile"], line["refusal.code"]) == (
        "tollgate:login",
        "ra-in-memory-jwt",
        "login_failed",
    )
    shown = tollgate("explain", "POST", "http://127.0.0.1/authenticate", "-c", server.config)
    assert "`tollgate:login`, an endpoint of the gateway itself, found by an alias; profile `ra-in-memory-jwt`" in shown.stdout
    shown = json.loads(tollgate("explain", "GET", "http://127.0.0.1/admin/me", "--json", "-c", server.config).stdout)
    assert (shown["refusal"]["status"], shown["refusal"]["body"]) == (401, {"detail": "Not authenticated"})
