"""What must not survive the end of a session, and who may not bring it about."""

from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest

from support.config import ENVIRONMENT, base
from support.http import assert_refused, bearer, send, send_json

OLD = "correct horse"
SETTINGS = """
register = true
throttle = { enabled = false }
[tokens]
algorithm = "HS256"
key = { env = "TOKEN_SECRET" }
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


def test_the_audit_hears_of_a_session_that_a_login_replaces(started):
    held = log_in(started)
    assert log_in(started, headers={"Cookie": cookie(held)}).status == 200
    (line,) = [line for line in started.audit() if line["audit.event"] == "logout"]
    assert line["session.id"] == held.json()["session"]
