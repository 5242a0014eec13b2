"""What must not survive the end of a session, and who may not bring it about."""

import json
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest

from support.config import ENVIRONMENT, IMPATIENT, base
from support.databases import Standalone
from support.http import assert_refused, bearer, send, send_json
from support.people import hashes
from support.processes import eventually, tollgate

OLD = "correct horse"
TOKENS = """
[tokens]
algorithm = "HS256"
key = { env = "TOKEN_SECRET" }
"""
SETTINGS = f"""
register = true
throttle = {{ enabled = false }}
{TOKENS}
"""
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def started(gateway):
    running = gateway(base("{folder}") + SETTINGS)
    made = send_json(running.port, "/auth/register", {"username": "ada", "password": OLD})
    assert made.status == 201, made
    return running


def log_in(gateway, password=OLD, headers=None):
    return send_json(gateway.port, "/auth/login", {"username": "ada", "password": password}, headers)


def cookie(answer):
    return answer.header("Set-Cookie").split(";")[0]


def refresh(gateway, held):
    return send(gateway.port, "POST", "/auth/refresh", {"Cookie": held, **JSON}).status


def test_no_login_by_the_old_password_outlives_its_change(started):
    """A login that was queued before the change has read the old hash, and passes its check behind the change."""
    passwords = [OLD, *(f"new password {number}" for number in range(3))]

    def log_in_until_refused(password):
        answers = []
        while not answers or answers[-1].status == 200:
            answers.append(log_in(started, password))
        assert_refused(answers.pop(), 401, "login_failed")
        return answers

    with ThreadPoolExecutor(4) as pool:
        for old, new in zip(passwords, passwords[1:]):
            token = log_in(started, old).json()["access_token"]
            logins = [pool.submit(log_in_until_refused, old) for _ in range(4)]
            change = {"current_password": old, "new_password": new}
            answer = send_json(started.port, "/auth/password", change, bearer(token))
            assert answer.status == 200, answer
            assert [refresh(started, cookie(login)) for each in logins for login in each.result()].count(200) == 0
            live = send(started.port, "GET", "/auth/sessions", bearer(token)).json()["sessions"]
            assert [session["current"] for session in live] == [True]


@pytest.mark.parametrize("scope", ["global", "others"])
def test_an_access_token_that_is_no_good_ends_no_other_session(started, scope):
    first, second = log_in(started), log_in(started)
    good = second.json()["access_token"]
    key = ENVIRONMENT["TOKEN_SECRET"]
    claims = jwt.decode(good, key, ["HS256"], options={"verify_aud": False})
    past = {**claims, "iat": claims["iat"] - 9000, "nbf": claims["iat"] - 9000, "exp": claims["exp"] - 9000}
    expired = jwt.encode(past, key, "HS256", headers=jwt.get_unverified_header(good))
    log_out = lambda token, scope: send(started.port, "POST", f"/auth/logout?scope={scope}", bearer(token))
    assert_refused(log_out(expired, scope), 401, "refresh_invalid")
    # Its own session it does end, and that session's good token is no good from then on.
    assert log_out(expired, "local").json() == {"sessions_ended": 1}
    assert_refused(log_out(good, scope), 401, "refresh_invalid")
    assert refresh(started, cookie(first)) == 200


def test_a_logout_deletes_only_a_cookie_that_came(started):
    """A link on another site: `SameSite=Strict` keeps the cookie back, and some browsers say nothing else of the page."""
    answer = send(started.port, "GET", "/auth/logout")
    assert (answer.status, answer.header("Set-Cookie")) == (200, None)
    held = cookie(log_in(started))
    answer = send(started.port, "GET", "/auth/logout", {"Cookie": held, **JSON})
    assert answer.header("Set-Cookie").endswith("; Max-Age=0")
    assert refresh(started, held) == 401


@pytest.mark.parametrize("scope", ["global", "others"])
def test_who_cannot_be_told_is_not_told_that_all_devices_are_out(started, scope):
    other, held = log_in(started), cookie(log_in(started))
    log_out = lambda scope, headers: send(started.port, "POST", f"/auth/logout?scope={scope}", {**JSON, **headers})
    assert log_out("local", {"Cookie": held}).json() == {"sessions_ended": 1}
    for dead in (held, "tollgate_refresh=x"):
        answer = log_out(scope, {"Cookie": dead})
        assert_refused(answer, 401, "refresh_invalid")
        # It is of no use any more; for the others this device was to stay.
        assert bool(answer.header("Set-Cookie")) == (scope == "global"), answer
    body = json.dumps({"refresh_token": held.split("=")[1]}).encode()
    assert_refused(send(started.port, "POST", f"/auth/logout?scope={scope}", JSON, body), 401, "refresh_invalid")
    assert refresh(started, cookie(other)) == 200
    # With nothing at all there is nobody to be told.
    assert log_out(scope, {}).json() == {"sessions_ended": 0}
    # Nor is a good access token without effect because of a dead cookie.
    answer = log_out(scope, {"Cookie": held, **bearer(log_in(started).json()["access_token"])})
    assert (answer.status, answer.json()["sessions_ended"]) == (200, {"global": 2, "others": 1}[scope])


def test_a_cookie_that_was_used_before_ends_its_session_and_no_others(started):
    other, first = log_in(started), cookie(log_in(started))
    held = first
    for _ in range(2):
        answer = send(started.port, "POST", "/auth/refresh", {"Cookie": held, **JSON})
        assert answer.status == 200, answer
        held = cookie(answer)
    answer = send(started.port, "POST", "/auth/logout?scope=global", {"Cookie": first, **JSON})
    assert_refused(answer, 401, "refresh_reused")
    assert [refresh(started, each) for each in (held, cookie(other))] == [401, 200]


def test_in_an_outage_a_logout_is_refused_and_the_browser_forgets_the_cookie(tmp_path, gateway):
    """On a gateway that knows the keys of refresh tokens, and on one that has not read them yet."""
    database = Standalone(tmp_path / "mongod")
    try:
        with database.client() as client:
            client.out.users.insert_one({"username": "ada", "password": hashes.hash(OLD)})
        config = base("{folder}", database.uri("out")) + IMPATIENT + TOKENS
        running = gateway(config)
        held = log_in(running)
        database.kill()
        for number, running in enumerate((running, gateway(config))):
            log_out = lambda scope: send(running.port, "POST", f"/auth/logout?scope={scope}", {"Cookie": cookie(held), **JSON})
            for scope in ("local", "global", "others"):
                answer = log_out(scope)
                assert_refused(answer, 503, "store_unavailable")
                deleted = answer.header("Set-Cookie")
                assert (deleted is not None) == (scope != "others"), (number, scope, answer)
                assert deleted is None or deleted.startswith("tollgate_refresh=;") and deleted.endswith("; Max-Age=0")
        database.start()
        # The cookie is gone from the browser; the access token still ends the session.
        token = bearer(held.json()["access_token"])
        ended = lambda: send(running.port, "POST", "/auth/logout", token).json().get("sessions_ended")
        assert eventually("the end of the session", ended, 30) == 1
        assert refresh(running, cookie(held)) == 401
    finally:
        database.stop()


def test_two_cookies_keep_nobody_from_logging_in(started):
    """One of a sibling of this host that shares its domain, or of another path. Neither says who asks, so neither is ended."""
    first, second = cookie(log_in(started)), cookie(log_in(started))
    both = {"Cookie": f"{first}; {second}"}
    answer = log_in(started, headers=both)
    assert answer.status == 200 and answer.header("Set-Cookie"), answer
    made = send_json(started.port, "/auth/register", {"username": "eve", "password": OLD}, both)
    assert made.status == 201, made
    # What a page of another site could have sent is asked for all the same.
    form = {"Content-Type": "application/x-www-form-urlencoded", **both}
    answer = send(started.port, "POST", "/auth/login", form, f"username=ada&password={OLD}".replace(" ", "+").encode())
    assert_refused(answer, 403, "csrf_refused")
    for path in ("/auth/refresh", "/auth/logout"):
        assert_refused(send(started.port, "POST", path, {**JSON, **both}), 400, "bad_request")
    headers = ["-H", f"Cookie: {both['Cookie']}", "-H", "Content-Type: application/json"]
    explained = tollgate("explain", "POST", "http://127.0.0.1/auth/login", *headers, "-c", started.config, environment=ENVIRONMENT)
    assert "it is no page of another site" in explained.stdout, explained
    assert [refresh(started, held) for held in (first, second)] == [200, 200]


def told(started, event):
    return [line for line in started.audit() if line["audit.event"] == event]


def test_the_audit_names_whose_session_a_token_ended(started, gateway):
    """The token names the session only; its row says whose it is. Also on a gateway that has not seen the person log in."""
    sub = lambda answer: jwt.decode(answer.json()["access_token"], options={"verify_signature": False})["sub"]
    held = log_in(started)
    subject = sub(held)
    assert log_in(started, headers={"Cookie": cookie(held)}).status == 200
    (line,) = eventually("the logout", lambda: told(started, "logout"))
    assert (line["session.id"], line["subject"]) == (held.json()["session"], subject)

    folder = started.config.parent
    stranger = gateway(base(folder) + SETTINGS)
    ended = [log_in(started) for _ in range(3)]
    answer = send(stranger.port, "POST", "/auth/logout", {"Cookie": cookie(ended[0]), **JSON})
    assert answer.json() == {"sessions_ended": 1}
    assert send(stranger.port, "POST", "/auth/logout", bearer(ended[1].json()["access_token"])).json() == {"sessions_ended": 1}
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert send(stranger.port, "POST", "/auth/revoke", form, cookie(ended[2]).replace("tollgate_refresh", "token").encode()).status == 200
    lines = eventually("three ends", lambda: lines if len(lines := told(stranger, "logout") + told(stranger, "session_revoked")) == 3 else None)
    assert [(line["session.id"], line["subject"]) for line in lines] == [(answer.json()["session"], subject) for answer in ended]
    assert [line["audit.outcome"] for line in lines] == ["ok"] * 3 and lines[2]["audit.reason"] == "revoked"


def test_the_audit_tells_a_refresh_from_a_replay(started):
    held = log_in(started)
    tokens = [cookie(held)]
    for _ in range(2):
        answer = send(started.port, "POST", "/auth/refresh", {"Cookie": tokens[-1], **JSON})
        tokens.append(cookie(answer))
    assert refresh(started, tokens[0]) == 401
    lines = eventually("the replay", lambda: lines if len(lines := told(started, "refresh")) == 3 else None)
    assert [line["audit.outcome"] for line in lines] == ["ok", "ok", "replayed"]
    assert {line["session.id"] for line in lines} == {held.json()["session"]}
    assert len({line["subject"] for line in lines}) == 1 and lines[0]["subject"] and lines[0]["login"] == "ada"
