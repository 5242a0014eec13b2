"""Clients that were written for another server find it at an alias: its field names, its statuses, its errors."""

import json
from datetime import datetime, timezone
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx
import jwt
import pytest

from support.config import base
from support.processes import INTEROP, ROOT, Application, tollgate
from support.session_auth import Session

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
    "/oauth/refresh": ("refresh", "oauth2"),
    "/oauth/revoke": ("logout", "oauth2"),
    "/login": ("login", "native"),
    "/refresh-token": ("refresh", "ra-in-memory-jwt"),
    "/logout": ("logout", "ra-in-memory-jwt"),
    "/refresh": ("refresh", "fastapi"),
    "/users/logout": ("logout", "fastapi"),
    "/admin/refresh": ("refresh", "fastapi-mongo"),
    "/refresh_token": ("refresh", "hasura"),
    "/hasura/logout": ("logout", "hasura"),
}
JSON = {"Content-Type": "application/json"}


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
    """Keeps no cookie: with one, a login has to show that no page of another site sent it."""
    none = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    with httpx.Client(base_url=server.url, cookies=none) as client:
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
    assert told.json() == {"token": good_token(told.json()["token"]), "tokenExpiry": 300, "username": "ada"}
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


def log_in(server, path, **sent):
    """A client of its own, which keeps the cookie that the login set."""
    client = httpx.Client(base_url=server.url)
    told = client.post(path, **sent)
    assert told.status_code == 200, told.text
    (cookie,) = client.cookies.jar
    assert "HttpOnly" in told.headers["set-cookie"] and cookie.path == "/"
    return client, cookie.value


def test_ra_in_memory_jwt_refreshes_and_logs_out_with_get(server):
    client, cookie = log_in(server, "/authenticate", json=GOOD)
    told = client.get("/refresh-token", headers=JSON)
    assert told.status_code == 200
    assert told.json() == {"token": good_token(told.json()["token"]), "tokenExpiry": 300, "username": "ada"}
    (successor,) = client.cookies.jar
    assert successor.value != cookie
    # A tab that was restored with the same cookie.
    again = httpx.get(f"{server.url}/refresh-token", headers={**JSON, "Cookie": f"{successor.name}={cookie}"})
    assert again.status_code == 200 and successor.value in again.headers["set-cookie"]
    told = client.get("/logout", headers=JSON)
    assert (told.status_code, told.json()) == (200, {"message": "logout"})
    assert not list(client.cookies.jar)
    # It is called without a cookie, too, and twice.
    assert client.get("/logout", headers=JSON).json() == {"message": "logout"}
    for kept in ({}, {"Cookie": f"{successor.name}={successor.value}"}, {"Cookie": f"{successor.name}=x"}):
        refused = httpx.get(f"{server.url}/refresh-token", headers={**JSON, **kept})
        assert refused.status_code == 400
        assert refused.json() == {"status": 400, "message": "The refresh token is not valid."}
        assert "www-authenticate" not in refused.headers
    refused = httpx.get(f"{server.url}/refresh-token", headers={"Origin": "https://evil.example"})
    assert refused.status_code == 403 and set(refused.json()) == {"status", "message"}
    client.close()


def test_the_other_dialects_refresh(server):
    client, _ = log_in(server, "/hasura/login", json=GOOD)
    told = client.post("/refresh_token")
    assert told.status_code == 403, "a POST that says nothing of where it comes from may be any page's"
    told = client.post("/refresh_token", headers=JSON)
    assert told.status_code == 200 and set(told.json()) == {"jwt_token", "jwt_token_expiry"}
    assert client.post("/hasura/logout", headers=JSON).status_code == 200
    refused = client.post("/refresh_token", headers=JSON)
    assert refused.status_code == 401 and refused.json()["message"]
    client.close()

    client, _ = log_in(server, "/token", data=GOOD)
    told = client.get("/refresh", headers=JSON)
    assert told.json() == {"access_token": good_token(told.json()["access_token"]), "token_type": "bearer"}
    assert client.get("/users/logout", headers=JSON).status_code == 200
    refused = client.get("/refresh", headers=JSON)
    assert (refused.status_code, refused.json()) == (401, {"detail": "Could not validate credentials"})
    assert refused.headers["www-authenticate"] == "Bearer"
    client.close()

    client, _ = log_in(server, "/admin/login", json=GOOD)
    told = client.get("/admin/refresh", headers=JSON)
    assert told.json() == {"access_token": good_token(told.json()["access_token"])}
    client.cookies.clear()
    refused = client.get("/admin/refresh", headers=JSON)
    assert (refused.status_code, refused.json()) == (403, {"detail": "Invalid token or expired token"})
    client.close()


def test_oauth2_refreshes_and_revokes(client):
    first = client.post("/oauth/token", data={**GOOD, "grant_type": "password"}).json()
    second = client.post("/oauth/refresh", data={"grant_type": "refresh_token", "refresh_token": first["refresh_token"]})
    assert second.status_code == 200 and second.json()["refresh_token"] != first["refresh_token"]
    assert client.post("/oauth/revoke", data={"token": second.json()["refresh_token"]}).status_code == 200
    third = {"grant_type": "refresh_token", "refresh_token": second.json()["refresh_token"]}
    refused = client.post("/oauth/refresh", data=third)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")


def test_a_session_of_httpx(server):
    """support/session_auth.py, which docs/clients.md shows."""
    session = Session(server.url, "ada", PASSWORD)
    with httpx.Client(base_url=server.url, auth=session) as client:
        assert client.get("/auth/me").json()["name"] == "Ada Lovelace"
        first = session.access
        # As good as expired: the gateway refuses it, and the session gets another.
        session.access = first[:-4] + "AAAA"
        assert client.get("/auth/me").status_code == 200 and session.access != first
        assert client.post("/auth/logout", headers=JSON, json={"refresh_token": session.refresh}).status_code == 200
        session.access = "expired"
        with pytest.raises(PermissionError, match="(?i)refresh"):
            client.get("/auth/me")
    with pytest.raises(PermissionError, match="password is wrong"):
        httpx.get(f"{server.url}/auth/me", auth=Session(server.url, "ada", "wrong"))


def test_the_documents_for_clients_show_what_is_run():
    code = (INTEROP / "support" / "session_auth.py").read_text().split("\n\n\n", 1)[1]
    assert code in (ROOT / "docs" / "clients.md").read_text()
    assert (INTEROP / "browser" / "session.js").read_text() in (ROOT / "README.md").read_text()


FORMS = [
    {"data": BAD},
    {"data": {"username": "ada"}},
    {"data": {"password": "x"}},
    {"data": {"username": "", "password": "x"}},
    {"data": {"other": "x"}},
    {"files": {"username": (None, "ada"), "password": (None, "x")}},
    {"json": BAD},
    {"content": b"x", "headers": {"Content-Type": "text/plain"}},
    {"data": {**BAD, "grant_type": "password"}},
    {"data": {**BAD, "grant_type": ""}},
    {"data": {**BAD, "grant_type": "refresh_token"}},
    {"data": {**BAD, "grant_type": "xpasswordx"}},
]
BODIES = [
    {"json": BAD},
    {"json": {"username": "ada"}},
    {"json": {"password": "x"}},
    {"json": {}},
    {"json": {"username": {"$ne": ""}, "password": "x"}},
    {"json": {"username": "ada", "password": 5}},
    {"json": {"username": "ada", "password": ["x"]}},
    {"json": {"username": None, "password": "x"}},
    {"json": {"username": "ada", "password": None}},
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
        # Where in the text JSON ends to be JSON is counted differently by each parser, and told in its own words.
        known = lambda error: (error["loc"][:1],) if error["type"] == "json_invalid" else (error["loc"], error.get("ctx"))
        return [(error["type"], error["msg"], *known(error)) for error in detail]

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
