"""A SQLite file that is sick under a running gateway: locked by another program, or on a disk that is full."""

import contextlib
import resource
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.config import base, route, upstream
from support.http import assert_refused, bearer, send, send_json
from support.people import PASSWORD
from support.processes import eventually, tollgate

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
RIGHT = {"username": "ada", "password": PASSWORD}
# How long a write waits for those of this process, and for those of others; the rest is for a busy machine.
LOCK_BOUND = 5 + 5 + 5


@pytest.fixture
def server(gateway, echo, tmp_path):
    """A gateway with a file of its own, in the test's folder."""
    config = base(tmp_path) + 'store_patience = "1s"\n' + upstream("app", echo.url) + route("/{*rest}", "app")
    (tmp_path / "users.toml").write_text(config)
    added = tollgate("user", "add", "-c", tmp_path / "users.toml", "ada", "--password-stdin", stdin=f"{PASSWORD}\n")
    assert added.returncode == 0, added
    return gateway(config)


def token_answer(server, body):
    return send(server.port, "POST", "/auth/token", FORM, body.encode())


def password_grant(server):
    return token_answer(server, f"grant_type=password&username=ada&password={PASSWORD.replace(' ', '+')}")


def refresh(server, token):
    return token_answer(server, f"grant_type=refresh_token&refresh_token={token}")


def sessions(tmp_path):
    with contextlib.closing(sqlite3.connect(f"file:{tmp_path}/tollgate.db?mode=ro", uri=True)) as connection:
        return dict(connection.execute("SELECT id, counter FROM sessions").fetchall())


def is_outage(answer):
    assert answer.status == 503, answer
    assert int(answer.header("Retry-After")) >= 1
    assert b"token" not in answer.body or "access_token" not in answer.json(), answer
    return True


def check_outage(server, tmp_path, held, bound):
    """Whatever writes is refused as an outage and leaves nothing; whatever only verifies goes on."""
    before = sessions(tmp_path)
    for ask in (
        lambda: send_json(server.port, "/auth/login", RIGHT),
        lambda: password_grant(server),
        lambda: refresh(server, held["refresh_token"]),
        lambda: send(server.port, "POST", "/auth/logout", bearer(held["access_token"])),
    ):
        began = time.monotonic()
        assert is_outage(ask())
        assert time.monotonic() - began < bound
        answer = send(server.port, "GET", "/echo/a", bearer(held["access_token"]))
        assert answer.status == 200, answer
    assert_refused(send_json(server.port, "/auth/login", RIGHT), 503, "store_unavailable")
    assert sessions(tmp_path) == before


def check_recovery(server, held):
    """The token that was refused is still good, and so are logins."""
    answer = eventually("a login", lambda: (got := password_grant(server)).status == 200 and got, 30)
    assert refresh(server, answer.json()["refresh_token"]).status == 200
    answer = refresh(server, held["refresh_token"])
    assert answer.status == 200, answer
    access = bearer(answer.json()["access_token"])
    assert send(server.port, "GET", "/echo/a", access).status == 200
    assert send(server.port, "POST", "/auth/logout", access).status in (200, 204)
    eventually("the end of the session", lambda: send(server.port, "GET", "/auth/me", access).status == 401)
    assert "tollgate_panics_total 0" in send(server.admin_port, "GET", "/metrics").body.decode()


def test_a_file_that_another_program_locks_is_an_outage_and_recovers(server, tmp_path):
    held = password_grant(server).json()
    with contextlib.closing(sqlite3.connect(tmp_path / "tollgate.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        check_outage(server, tmp_path, held, LOCK_BOUND)
        # Nobody waits for all who came before.
        began = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            assert all(is_outage(answer) for answer in pool.map(lambda _: password_grant(server), range(8)))
        assert time.monotonic() - began < LOCK_BOUND
        other.execute("ROLLBACK")
    check_recovery(server, held)


def test_a_full_disk_is_an_outage_gives_no_token_that_is_not_kept_and_recovers(server, tmp_path):
    held = password_grant(server).json()
    # What the process writes behind this fails, in every file: SQLite's write-ahead file and the log among them.
    _, most = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
    assert most == resource.RLIM_INFINITY
    check_outage(server, tmp_path, held, 10)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    check_recovery(server, held)
