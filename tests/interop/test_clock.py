"""M13: clocks that are wrong, or jump: tokens are judged by the wall clock, timers by the monotonic one, nothing panics."""

import http.client
import re
import socket
import time

import pytest

from support.clock import Clock
from support.config import TRUSTED_LAB, base, lab_token, route, upstream
from support.http import assert_refused, bearer, log_in, send
from support.people import PASSWORD
from support.processes import eventually, tollgate


@pytest.fixture
def start(gateway, echo, tmp_path):
    """Starts a gateway with a clock of its own, and a user `ada` in its store."""

    def start(offset="+0"):
        clock = Clock(tmp_path, offset)
        config = base(tmp_path) + TRUSTED_LAB + upstream("app", echo.url) + route("/{*rest}", "app")
        (tmp_path / "users.toml").write_text(base(tmp_path))
        added = tollgate("user", "add", "-c", tmp_path / "users.toml", "ada", "--password-stdin", stdin=f"{PASSWORD}\n")
        assert added.returncode == 0, added
        server = gateway(config, clock.environment)
        log = server.log()
        assert log, "it has said that it listens"
        return server, clock

    return start


def ask(server, token):
    return send(server.port, "GET", "/echo/a", bearer(token))


def assert_sound(server):
    assert server.process.poll() is None
    assert "panicked" not in server.log_file.read_text()
    assert "tollgate_panics_total 0" in send(server.admin_port, "GET", "/metrics").body.decode()


def test_a_clock_five_minutes_fast_expires_tokens_early(start):
    server, _ = start("+5m")
    assert_refused(ask(server, lab_token(exp=int(time.time()) + 200)), 401, "token_expired")
    assert ask(server, lab_token(exp=int(time.time()) + 400)).status == 200
    assert ask(server, log_in(server.port, "ada", PASSWORD)).status == 200
    assert_sound(server)


def test_a_clock_five_minutes_slow_takes_tokens_for_early_ones_and_expired_ones_for_good(start):
    server, _ = start("-5m")
    now = int(time.time())
    assert_refused(ask(server, lab_token(nbf=now)), 401, "token_not_yet_valid")
    assert ask(server, lab_token(exp=now - 200)).status == 200, "by its clock it has not expired"
    assert_refused(ask(server, lab_token(exp=now - 400)), 401, "token_expired")
    assert ask(server, log_in(server.port, "ada", PASSWORD)).status == 200
    assert_sound(server)


def test_tokens_follow_a_clock_that_jumps_also_those_in_the_cache(start):
    server, clock = start()
    now = int(time.time())
    own, long, over = log_in(server.port, "ada", PASSWORD), lab_token(exp=now + 7200), lab_token(exp=now - 600)
    for token in (own, long, long):
        assert ask(server, token).status == 200
    assert_refused(ask(server, over), 401, "token_expired")

    clock.move("+1d")
    for token in (own, long):
        assert_refused(ask(server, token), 401, "token_expired")
    assert ask(server, log_in(server.port, "ada", PASSWORD)).status == 200

    clock.move("-1h")
    assert ask(server, over).status == 200, "the wall clock decides, and it says that this one is good"
    assert ask(server, long).status == 200

    clock.move("+0")
    assert_refused(ask(server, over), 401, "token_expired")
    assert ask(server, own).status == 200
    assert_sound(server)


@pytest.mark.parametrize("offset", ["+1d", "-1h"])
def test_timers_do_not_notice_a_jump(start, offset):
    server, clock = start()
    token = lab_token(exp=int(time.time()) + 3 * 86_400)
    kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    kept.request("GET", "/echo/a", headers=bearer(token))
    kept.getresponse().read()
    half = socket.create_connection(("127.0.0.1", server.port), 10)
    half.sendall(b"GET /echo/a HTTP/1.1\r\nHost: a\r\n")
    stream = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    stream.request("GET", "/ticks?count=8&pause=0.2", headers=bearer(token))
    response = stream.getresponse()
    assert response.readline() == b"tick 0\n"

    clock.move(offset)
    assert response.read().count(b"tick") == 7, "a response goes on to its end"
    kept.request("GET", "/echo/a", headers=bearer(token))
    assert kept.getresponse().status == 200, "an idle connection is still there"
    half.sendall(f"Authorization: Bearer {token}\r\nConnection: close\r\n\r\n".encode())
    assert half.recv(12) == b"HTTP/1.1 200", "a head has as long as before"
    lines = eventually("four lines", lambda: len(server.access_lines()) == 4 and server.access_lines())
    assert all(0 <= line["duration_ms"] < 10_000 for line in lines), lines
    for connection in (kept, half, stream):
        connection.close()
    assert_sound(server)


def test_with_a_clock_before_1970_it_does_not_start_and_says_why(tmp_path):
    file = tmp_path / "tollgate.toml"
    file.write_text(base(tmp_path))
    done = tollgate("run", "-c", file, environment=Clock(tmp_path, "-60y").environment)
    assert done.returncode == 1 and "the system's clock stands before 1970; set it" in done.stderr, done
    assert "panicked" not in done.stderr


def test_a_jump_to_before_1970_serves_nobody_and_is_over_when_the_clock_is_right(start):
    server, clock = start()
    token = log_in(server.port, "ada", PASSWORD)
    kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    kept.request("GET", "/echo/a", headers=bearer(token))
    kept.getresponse().read()
    clock.move("-60y")
    for _ in range(5):
        with pytest.raises((OSError, http.client.HTTPException)):
            ask(server, token)
    clock.move("+0")
    assert_sound(server)
    assert ask(server, token).status == 200
    # One that was open has seen no request in that time, and goes on.
    for path in ("/echo/a", "/echo/b"):
        kept.request("GET", path, headers=bearer(token))
        response = kept.getresponse()
        assert response.status == 200
        response.read()

    # By that clock no token has ever expired.
    clock.move("-60y")
    with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
        kept.request("GET", "/echo/c", headers=bearer(lab_token(exp=int(time.time()) - 600)))
        kept.getresponse()
    clock.move("+0")
    assert ask(server, token).status == 200
    assert_sound(server)
    assert "/echo/c" not in [line.get("path") for line in server.access_lines()]


def test_a_clock_at_the_beginning_of_1970_serves_by_what_it_shows(start):
    """As on a board without a battery, before it has asked a time server."""
    # Less than `tokens.leeway` after the epoch, where a subtraction would wrap.
    server, clock = start(f"-{int(time.time()) - 10}")
    now = int(time.time())
    assert ask(server, lab_token(exp=now)).status == 200
    assert_refused(ask(server, lab_token(nbf=now)), 401, "token_not_yet_valid")
    answer = ask(server, log_in(server.port, "ada", PASSWORD))
    assert answer.status == 200
    assert re.match("1970-01-01T00:0", server.access_line(answer.header("X-Request-Id"))["time"])
    clock.move("+0")
    assert ask(server, log_in(server.port, "ada", PASSWORD)).status == 200
    assert_sound(server)
