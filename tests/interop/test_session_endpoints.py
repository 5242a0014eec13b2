"""Sessions from outside, on both stores: curl with a cookie jar, people's own sessions and passwords, revocation, introspection."""

import json
import subprocess
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from support.config import ENVIRONMENT, TRUSTED_LAB, base, lab_token
from support.http import assert_refused, bearer, send, send_json
from support.people import PASSWORD, hashes
from support import processes

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}

def tollgate(*arguments, stdin=""):
    return processes.tollgate(*arguments, stdin=stdin, environment=ENVIRONMENT)


LOGIN = "register = true\nintrospection_scope = \"introspect\"\n"


@pytest.fixture(scope="module", params=["sqlite", "mongodb"])
def server(request, mongod, module_gateway):
    """After all tests of the module, no token and no password that was sent may stand in its logs."""
    store = mongod.uri(f"sessions_{request.param}") if request.param == "mongodb" else None
    config = base("{folder}", store).replace("[login]\n", "[login]\n" + LOGIN).replace("[log]", '[log]\nlevel = "trace"')
    server = module_gateway(config + TRUSTED_LAB)
    server.secrets = {PASSWORD}
    for name, scopes in [("alice", ["read", "write"]), ("bob", ["read"]), ("service", ["introspect"])]:
        options = [word for scope in scopes for word in ("--scope", scope)]
        added = tollgate("user", "add", name, *options, "--password-stdin", "-c", server.config, stdin=PASSWORD)
        assert added.returncode == 0, added
    yield server
    server.stop()
    log = server.log_file.read_text() + server.access_file.read_text()
    for secret in server.secrets:
        assert secret not in log
    if request.param == "mongodb":
        mongod.client.drop_database("sessions_mongodb")


def begin(server, user="alice", password=PASSWORD, **more):
    """A session by the token endpoint: its answer as JSON."""
    form = "&".join(f"{name}={value}" for name, value in {"grant_type": "password", "username": user, **more}.items())
    body = f"{form}&password={password}".replace(" ", "+").encode()
    answer = send(server.port, "POST", "/auth/token", {**FORM, "User-Agent": f"{user}'s program"}, body)
    assert answer.status == 200, answer
    server.secrets |= {answer.json()["access_token"], answer.json()["refresh_token"]}
    return answer.json()


def refresh(server, token, headers=None, **more):
    answer = send_json(server.port, "/auth/refresh", {"refresh_token": token, **more}, headers)
    if answer.status == 200:
        server.secrets |= {answer.json()["access_token"], answer.json()["refresh_token"]}
    return answer


def claims(token):
    return jwt.decode(token, options={"verify_signature": False})


def test_curl_with_a_cookie_jar(server, tmp_path):
    """As a person at a shell does it, without a header that a browser would send but the JSON type."""
    jar, url = tmp_path / "jar", f"{server.url}/auth"

    def curl(*arguments):
        command = ["curl", "-sS", "-b", jar, "-c", jar, "-w", "\n%{http_code}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        body, status = done.stdout.rsplit("\n", 1)
        return int(status), json.loads(body)

    status, first = curl(f"{url}/login", "-d", "username=alice", "--data-urlencode", f"password={PASSWORD}")
    assert (status, set(first)) == (200, {"access_token", "token_type", "expires_in", "session"})
    assert (first["token_type"], first["expires_in"]) == ("bearer", 300)
    assert "#HttpOnly_127.0.0.1" in jar.read_text() and "tollgate_refresh" in jar.read_text()
    kept = jar.read_text()
    status, refused = curl("-X", "POST", f"{url}/refresh")
    assert (status, refused["code"]) == (403, "csrf_refused")
    status, second = curl("-X", "POST", "-H", "Content-Type: application/json", f"{url}/refresh")
    assert (status, second["session"]) == (200, first["session"]) and jar.read_text() != kept
    assert claims(second["access_token"])["sid"] == first["session"]
    status, third = curl("-H", "Content-Type: application/json", f"{url}/refresh")
    assert (status, third["session"]) == (200, first["session"])
    status, out = curl("-X", "POST", "-H", "Content-Type: application/json", f"{url}/logout")
    assert (status, out) == (200, {"sessions_ended": 1})
    assert "tollgate_refresh" not in jar.read_text()
    status, over = curl("-H", "Content-Type: application/json", f"{url}/refresh")
    assert (status, over["code"]) == (401, "refresh_invalid")
    # The cookie from before the logout is dead, too.
    jar.write_text(kept)
    status, over = curl("-H", "Content-Type: application/json", f"{url}/refresh")
    assert (status, over["code"]) == (401, "refresh_invalid")


def test_a_refresh_brings_changed_scopes_and_a_disabled_account_none(server):
    tollgate("user", "add", "carol", "--scope", "read", "--password-stdin", "-c", server.config, stdin=PASSWORD)
    session = begin(server, "carol")
    assert session["scope"] == "read"
    tollgate("user", "grant", "carol", "--scope", "write", "-c", server.config)
    answer = refresh(server, session["refresh_token"]).json()
    assert claims(answer["access_token"])["scope"].split() == ["read", "write"]
    tollgate("user", "disable", "carol", "-c", server.config)
    assert_refused(refresh(server, answer["refresh_token"]), 401, "refresh_invalid")
    tollgate("user", "enable", "carol", "-c", server.config)
    assert_refused(refresh(server, answer["refresh_token"]), 401, "refresh_invalid")


def test_a_refresh_narrows_and_never_widens(server):
    session = begin(server, scope="read")
    answer = refresh(server, session["refresh_token"], scope="read")
    assert claims(answer.json()["access_token"])["scope"] == "read"
    assert_refused(refresh(server, answer.json()["refresh_token"], scope="write"), 400, "invalid_scope")
    session = begin(server)
    answer = refresh(server, session["refresh_token"], scope="write").json()
    assert claims(answer["access_token"])["scope"] == "write"
    # The session keeps what it began with.
    answer = refresh(server, answer["refresh_token"]).json()
    assert claims(answer["access_token"])["scope"].split() == ["read", "write"]


def test_an_access_token_beside_must_be_of_the_same_session(server):
    own, other = begin(server), begin(server)
    headers = bearer(own["access_token"])
    good = refresh(server, own["refresh_token"], headers)
    assert good.status == 200, good
    token = good.json()["refresh_token"]
    assert_refused(refresh(server, token, bearer(other["access_token"])), 401, "refresh_invalid")
    assert_refused(refresh(server, token, bearer("a.b.c")), 401, "token_malformed")
    forged = own["access_token"][:-6] + ("AAAAAA" if not own["access_token"].endswith("AAAAAA") else "BBBBBB")
    assert_refused(refresh(server, token, bearer(forged)), 401, "token_signature")
    assert_refused(refresh(server, token, bearer(lab_token())), 401, "refresh_invalid")
    twice = [*JSON.items(), *headers.items(), *headers.items()]
    answer = send(server.port, "POST", "/auth/refresh", twice, json.dumps({"refresh_token": token}).encode())
    assert_refused(answer, 400, "multiple_tokens")
    # None of these harmed the session.
    assert refresh(server, token).status == 200


def of_a_key_that_is_gone(token):
    """The same claims, signed with a key that nobody has any more."""
    key = ec.generate_private_key(ec.SECP256R1())
    return jwt.encode(claims(token), key, "ES256", headers={"typ": "at+jwt", "kid": "retired"})


def test_a_key_that_rotated_away_keeps_nobody_from_a_refresh(server):
    """The client sends both tokens, as it always does, and its access token is of a key that has gone meanwhile."""
    session, other = begin(server), begin(server)
    unknown = bearer(of_a_key_that_is_gone(session["access_token"]))
    assert_refused(send(server.port, "GET", "/auth/me", unknown), 401, "token_key_unknown")
    assert_refused(refresh(server, other["refresh_token"], unknown), 401, "refresh_invalid")
    answer = refresh(server, session["refresh_token"], unknown)
    assert answer.status == 200, answer
    # It lets nobody in without a refresh token, nor with one that is none.
    assert_refused(send_json(server.port, "/auth/refresh", {}, unknown), 401, "refresh_invalid")
    assert_refused(refresh(server, "x", unknown), 401, "refresh_invalid")
    assert refresh(server, answer.json()["refresh_token"]).status == 200


@pytest.mark.parametrize("lost", ["Bearer null", "Bearer undefined", "Bearer", "Bearer ", "Bearer [object Object]", ""])
def test_what_a_page_sends_that_has_lost_its_token_is_none(server, lost):
    session = begin(server)
    answer = refresh(server, session["refresh_token"], {"Authorization": lost})
    assert answer.status == 200, answer
    held = {"refresh_token": answer.json()["refresh_token"]}
    answer = send(server.port, "POST", "/auth/logout", {"Authorization": lost})
    assert (answer.status, answer.json()) == (200, {"sessions_ended": 0})
    assert send_json(server.port, "/auth/logout", held, {"Authorization": lost}).json() == {"sessions_ended": 1}


def test_an_expired_access_token_beside_is_as_good(gateway):
    """PyJWT signs what the gateway would have signed an hour ago, with the secret that both have."""
    key = '[tokens]\nalgorithm = "HS256"\nkey = { env = "TOKEN_SECRET" }\n'
    server = gateway(base("{folder}") + key)
    server.secrets = set()
    assert tollgate("user", "add", "bob", "--password-stdin", "-c", server.config, stdin=PASSWORD).returncode == 0
    session, other = begin(server, "bob"), begin(server, "bob")

    def expired(token):
        past = {**claims(token), "iat": int(time.time()) - 3600, "exp": int(time.time()) - 3300}
        header = jwt.get_unverified_header(token)
        return jwt.encode(past, ENVIRONMENT["TOKEN_SECRET"], "HS256", headers=header)

    headers = bearer(expired(session["access_token"]))
    assert_refused(send(server.port, "GET", "/auth/me", headers), 401, "token_expired")
    assert refresh(server, session["refresh_token"], headers).status == 200
    assert_refused(refresh(server, other["refresh_token"], headers), 401, "refresh_invalid")
    # It ends its own session, too, which is all that it is good for.
    answer = send(server.port, "POST", "/auth/logout", headers)
    assert (answer.status, answer.json()) == (200, {"sessions_ended": 1})


def test_people_see_and_end_their_own_sessions_only(server):
    mine, second, theirs = begin(server, "bob"), begin(server, "bob"), begin(server, "alice")
    answer = send(server.port, "GET", "/auth/sessions", bearer(mine["access_token"]))
    assert answer.status == 200 and answer.header("Cache-Control") == "no-store"
    rows = {row["id"]: row for row in answer.json()["sessions"]}
    ids = [claims(session["access_token"])["sid"] for session in (mine, second, theirs)]
    assert {ids[0], ids[1]} <= set(rows) and ids[2] not in rows
    assert [rows[ids[0]]["current"], rows[ids[1]]["current"]] == [True, False]
    row = rows[ids[1]]
    assert (row["address"], row["user_agent"], row["client_id"]) == ("127.0.0.1", "bob's program", "tollgate")
    assert row["created_at"] <= row["used_at"] < row["expires_at"]
    for id in (ids[2], "AAAAAAAAAAAAAAAAAAAAAA", "x", "%2e%2e"):
        answer = send(server.port, "DELETE", f"/auth/sessions/{id}", bearer(mine["access_token"]))
        assert answer.status in (400, 404) and answer.json()["code"] in ("session_not_found", "bad_path"), answer
    answer = send(server.port, "DELETE", f"/auth/sessions/{ids[1]}", bearer(mine["access_token"]))
    assert (answer.status, answer.json()) == (200, {"sessions_ended": 1})
    assert_refused(refresh(server, second["refresh_token"]), 401, "refresh_invalid")
    assert refresh(server, theirs["refresh_token"]).status == 200
    assert refresh(server, mine["refresh_token"]).status == 200


def test_a_logout_ends_this_session_all_or_all_others(server):
    for scope, alive in [("local", [False, True, True]), ("others", [True, False, False]), ("global", [False] * 3)]:
        user = f"logout_{scope}"
        tollgate("user", "add", user, "--password-stdin", "-c", server.config, stdin=PASSWORD)
        sessions = [begin(server, user) for _ in range(3)]
        body = {"refresh_token": sessions[0]["refresh_token"]}
        answer = send_json(server.port, f"/auth/logout?scope={scope}", body)
        assert (answer.status, answer.json()) == (200, {"sessions_ended": alive.count(False)}), answer
        # A cookie that did not come is not deleted either.
        assert not answer.all("Set-Cookie"), answer
        assert [refresh(server, session["refresh_token"]).status == 200 for session in sessions] == alive, scope
    session = begin(server)
    answer = send(server.port, "POST", "/auth/logout", bearer(session["access_token"]))
    assert (answer.status, answer.json()) == (200, {"sessions_ended": 1})
    assert_refused(refresh(server, session["refresh_token"]), 401, "refresh_invalid")


@pytest.mark.parametrize("scope", ["local", "global", "others"])
def test_an_access_token_that_proves_nothing_is_told_so_by_a_logout(server, scope):
    """Its session goes on, and whoever is told of a success believes that it does not."""
    session = begin(server)
    good, url = session["access_token"], f"/auth/logout?scope={scope}"
    for token, code in [
        (of_a_key_that_is_gone(good), "token_key_unknown"),
        (good[:-6] + ("AAAAAA" if not good.endswith("AAAAAA") else "BBBBBB"), "token_signature"),
        ("not.a.token", "token_malformed"),
    ]:
        assert_refused(send(server.port, "POST", url, bearer(token)), 401, code)
    twice = [*bearer(good).items(), *bearer(good).items()]
    assert_refused(send(server.port, "POST", url, twice), 400, "multiple_tokens")
    answer = refresh(server, session["refresh_token"])
    assert answer.status == 200, answer
    # Nobody who shows a refresh token is kept from leaving by it.
    body = {"refresh_token": answer.json()["refresh_token"]}
    answer = send_json(server.port, url, body, bearer(of_a_key_that_is_gone(good)))
    assert answer.status == 200, answer
    assert (refresh(server, body["refresh_token"]).status == 200) == (scope == "others")


def test_a_new_password_ends_the_other_sessions(server):
    tollgate("user", "add", "dora", "--password-stdin", "-c", server.config, stdin=PASSWORD)
    mine, other = begin(server, "dora"), begin(server, "dora")
    headers, new = bearer(mine["access_token"]), "a new and longer phrase"
    server.secrets.add(new)

    def change(current, new):
        body = {"current_password": current, "new_password": new}
        return send_json(server.port, "/auth/password", body, headers)

    assert_refused(change("wrong", new), 401, "login_failed")
    assert_refused(change(PASSWORD, ""), 400, "bad_request")
    assert_refused(change(PASSWORD, "x" * 2000), 400, "bad_request")
    assert refresh(server, other["refresh_token"]).status == 200
    answer = change(PASSWORD, new)
    assert (answer.status, answer.json()) == (200, {"sessions_ended": 1})
    assert refresh(server, mine["refresh_token"]).status == 200
    form = {"username": "dora", "password": PASSWORD}
    assert_refused(send_json(server.port, "/auth/login", form), 401, "login_failed")
    assert send_json(server.port, "/auth/login", {**form, "password": new}).status == 200
    wanted = {("password_changed", "failed"), ("password_changed", "ok"), ("session_revoked", "ok")}
    told = lambda: {(line["audit.event"], line["audit.outcome"]) for line in server.audit()}
    processes.eventually("the audit's lines", lambda: wanted <= told())


def test_an_account_of_ones_own_has_no_rights(server):
    form = {"username": "newcomer", "password": PASSWORD, "email": "new@example.org", "roles": ["admin"], "scopes": "read"}
    answer = send_json(server.port, "/auth/register", form)
    assert answer.status == 201 and answer.json()["username"] == "newcomer", answer
    assert_refused(send_json(server.port, "/auth/register", form), 409, "login_taken")
    assert_refused(send_json(server.port, "/auth/register", {**form, "username": "new@example.org", "email": None}), 409, "login_taken")
    for wrong in ({"username": " a"}, {"username": "a\nb"}, {"username": "x" * 1025}, {"password": ""}, {"password": "x" * 80}):
        assert_refused(send_json(server.port, "/auth/register", {**form, "email": None, "username": "n2", **wrong}), 400, "bad_request")
    evil = {"Origin": "https://evil.example"}
    assert_refused(send_json(server.port, "/auth/register", {**form, "username": "n3"}, evil), 403, "csrf_refused")
    token = claims(begin(server, "newcomer")["access_token"])
    assert "scope" not in token and "roles" not in token
    assert_refused(send_json(server.port, "/auth/login", {"username": "n2", "password": PASSWORD}), 401, "login_failed")


def revoke(server, token, **more):
    body = "&".join(f"{name}={value}" for name, value in {"token": token, **more}.items()).encode()
    return send(server.port, "POST", "/auth/revoke", FORM, body)


def test_a_revoked_token_ends_its_session_and_an_unknown_one_is_fine(server):
    for member in ("refresh_token", "access_token"):
        session = begin(server)
        answer = revoke(server, session[member], token_type_hint="access_token")
        assert (answer.status, answer.json(), answer.header("Cache-Control")) == (200, {}, "no-store")
        assert_refused(refresh(server, session["refresh_token"]), 401, "refresh_invalid")
    for unknown in ("nothing", "a.b.c", lab_token()):
        assert revoke(server, unknown).status == 200
    answer = send(server.port, "POST", "/auth/revoke", FORM, b"token_type_hint=refresh_token")
    assert (answer.status, answer.json()["error"]) == (400, "invalid_request")
    answer = revoke(server, "x", client_secret="s")
    assert (answer.status, answer.json()["error"]) == (401, "invalid_client")


def introspect(server, token, caller):
    return send(server.port, "POST", "/auth/introspect", {**FORM, **bearer(caller)}, f"token={token}".encode())


def test_introspection_tells_those_who_may_ask(server):
    session, service = begin(server), begin(server, "service")["access_token"]
    answer = introspect(server, session["access_token"], service)
    said = answer.json()
    token = claims(session["access_token"])
    assert answer.status == 200 and said["active"] is True and answer.header("Cache-Control") == "no-store"
    for name in ("iss", "sub", "aud", "exp", "iat", "jti", "client_id", "scope", "sid"):
        assert said[name] == token[name], name
    for none in ("nothing", session["refresh_token"], session["access_token"][:-4] + "AAAA", lab_token(exp=1)):
        assert introspect(server, none, service).json() == {"active": False}
    assert_refused(introspect(server, session["access_token"], session["access_token"]), 403, "scope_missing")
    anonymous = send(server.port, "POST", "/auth/introspect", FORM, b"token=x")
    assert_refused(anonymous, 401, "token_missing")


def test_endpoints_about_accounts_take_tokens_of_ours_only(server):
    """`sub` of another issuer may be the very text that one of our accounts has."""
    sub = claims(begin(server)["access_token"])["sub"]
    headers = bearer(lab_token(sub=sub))
    assert send(server.port, "GET", "/auth/me", headers).status == 200
    assert_refused(send(server.port, "GET", "/auth/sessions", headers), 401, "token_issuer")
    assert_refused(send(server.port, "DELETE", "/auth/sessions/AAAAAAAAAAAAAAAAAAAAAA", headers), 401, "token_issuer")
    body = {"current_password": PASSWORD, "new_password": "another one"}
    assert_refused(send_json(server.port, "/auth/password", body, headers), 401, "token_issuer")


def test_the_documents_name_the_endpoints(server):
    document = send(server.port, "GET", "/.well-known/oauth-authorization-server").json()
    assert document["grant_types_supported"] == ["password", "refresh_token"]
    assert document["revocation_endpoint"].endswith("/auth/revoke")
    assert document["introspection_endpoint"].endswith("/auth/introspect")


def test_people_of_an_application_get_sessions_too(mongod, gateway):
    """Written by passlib into a collection that is not ours; nothing of a session goes in there."""
    database = mongod.client.sessions_app
    database.users.insert_one({"username": "eve", "password": hashes.hash(PASSWORD), "scopes": "read"})
    try:
        server = gateway(base("{folder}", mongod.uri(database.name)))
        server.secrets = set()
        session = begin(server, "eve")
        assert refresh(server, session["refresh_token"]).status == 200
        assert set(database.users.find_one({"username": "eve"})) == {"_id", "username", "password", "scopes"}
        dump = "".join(str(row) for name in database.list_collection_names() for row in database[name].find())
        assert session["refresh_token"] not in dump and session["access_token"] not in dump
    finally:
        mongod.client.drop_database(database.name)
