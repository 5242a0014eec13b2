"""The audit: who did what to accounts, sessions and keys, from where, and how it ended. Never a secret."""

import json
import os
import signal

from support.config import base
from support.http import log_in, send, send_json
from support.processes import eventually, json_lines, tollgate

PASSWORD = "one that nobody else has"
MISPLACED = "a password typed into the wrong field"


def to_file(folder, path):
    return base(folder).replace("[log]", f'[log]\naudit = "{path}"')


def kinds(lines):
    return [(line["audit.event"], line["audit.outcome"], line.get("audit.reason")) for line in lines]


def counted(server):
    """The counters of audit events that are not zero."""
    page = send(server.admin_port, "GET", "/metrics").body.decode()
    lines = [line for line in page.splitlines() if line.startswith("tollgate_audit_events_total{")]
    return {line.split("{")[1].split("}")[0]: int(line.split()[-1]) for line in lines if not line.endswith(" 0")}


def add_user(config, name):
    added = tollgate("user", "add", name, "--password-stdin", "-c", config, stdin=PASSWORD)
    assert added.returncode == 0, added.stderr


def try_logins(server):
    """One that is right, one that is wrong, one of nobody, one of a disabled account; each with an address that it makes up."""
    headers = {"User-Agent": "browser \x9b31m/1", "X-Forwarded-For": "203.0.113.7"}
    logins = [("ada", PASSWORD), ("ada", "wrong"), (MISPLACED, PASSWORD), ("gone", PASSWORD)]
    answers = [send_json(server.port, "/auth/login", {"username": name, "password": password}, headers) for name, password in logins]
    assert [answer.status for answer in answers] == [200, 401, 401, 401]
    return answers


def assert_logins(lines, answers):
    ok, wrong, nobody, disabled = lines
    assert kinds(lines) == [
        ("login", "ok", None),
        ("login", "failed", "wrong_password"),
        ("login", "failed", "unknown_user"),
        ("login", "failed", "disabled"),
    ]
    assert [line["request.id"] for line in lines] == [answer.header("X-Request-Id") for answer in answers]
    for line in lines:
        assert (line["by"], line["client.addr"], line["client.agent"]) == ("client", "127.0.0.1", "browser ?31m/1"), line
    assert ok["login"] == wrong["login"] == "ada" and ok["subject"] == wrong["subject"] and ok["client.id"] == "tollgate"
    assert disabled["login"] == "gone" and disabled["subject"] not in (None, ok["subject"])
    assert not nobody.get("login") and not nobody.get("subject"), "what is nobody's name may be a password"


def test_logins_and_the_first_key_stand_in_the_log_whatever_its_level(gateway, tmp_path):
    config = base(tmp_path).replace("[log]", '[log]\nlevel = "warn,tollgate::cli=info"')
    server = gateway(config)
    add_user(server.config, "ada")
    add_user(server.config, "gone")
    assert tollgate("user", "disable", "gone", "-c", server.config).returncode == 0
    answers = try_logins(server)
    lines = eventually("the lines", lambda: lines if len(lines := server.audit()) >= 5 else None)
    assert kinds(lines[:1]) == [("key_generated", "ok", None)]
    assert lines[0]["by"] == "gateway" and lines[0]["key.algorithm"] == "ES256"
    assert_logins(lines[1:], answers)
    assert counted(server) == {
        'event="key_generated",outcome="ok"': 1,
        'event="login",outcome="ok"': 1,
        'event="login",outcome="failed"': 3,
    }
    text = server.log_file.read_text()
    assert PASSWORD not in text and MISPLACED not in text and "a password typed" not in text
    assert "\x9b" not in text


def test_a_file_has_the_lines_of_the_gateway_and_of_commands(gateway, tmp_path):
    path = tmp_path / "audit.log"
    server = gateway(to_file(tmp_path, path))
    add_user(server.config, "ada")
    add_user(server.config, "gone")
    assert tollgate("user", "disable", "gone", "-c", server.config).returncode == 0
    answers = try_logins(server)
    for command in (
        ("grant", "ada", "--role", "curator", "--scope", "samples:read"),
        ("revoke", "ada", "--role", "curator"),
        ("password", "ada", "--password-stdin"),
        ("enable", "gone"),
        ("remove", "gone", "--yes"),
        ("list",),
        ("grant", "nobody", "--role", "curator"),
    ):
        done = tollgate("user", *command, "-c", server.config, stdin="another one that is long")
        assert (done.returncode == 0) == (command[1:2] != ("nobody",)), done.stderr
    lines = eventually("the lines", lambda: lines if len(lines := json_lines(path)) >= 14 else None)
    assert [line["audit.event"] for line in lines[:4]] == ["key_generated", "user_added", "user_added", "user_disabled"]
    assert_logins(lines[4:8], answers)
    # Ada's new password ends the session that her login began.
    changes = ["user_granted", "user_revoked", "password_changed", "session_revoked", "user_enabled", "user_removed"]
    assert [line["audit.event"] for line in lines[8:]] == changes
    assert (lines[11]["audit.reason"], lines[11]["sessions"]) == ("password_changed", 1)
    # Each of them says whose account it was.
    ada, gone = lines[1]["subject"], lines[2]["subject"]
    assert [line["subject"] for line in lines[8:13]] == [ada, ada, ada, ada, gone] and lines[3]["subject"] == lines[13]["subject"] == gone
    granted = lines[8]
    assert (granted["roles"], granted["scopes"]) == (["curator"], ["samples:read"])
    assert (granted["by"], granted["os.uid"], granted["login"]) == ("command_line", os.getuid(), "ada")
    assert not server.audit(), "not in the log as well"
    text = path.read_text()
    assert PASSWORD not in text and MISPLACED not in text and "another one" not in text and "$2b$" not in text
    assert all(line["time"].endswith("Z") and line["time"][:4] >= "2025" for line in lines)


def test_a_command_that_cannot_write_its_line_changes_nothing(gateway, tmp_path):
    config = tmp_path / "tollgate.toml"
    config.write_text(to_file(tmp_path, tmp_path / "audit.log"))
    add_user(config, "ada")
    config.write_text(to_file(tmp_path, tmp_path / "no-such-folder" / "audit.log"))
    done = tollgate("user", "disable", "ada", "-c", config)
    assert done.returncode == 1 and "`log.audit` cannot be written" in done.stderr, done.stderr
    shown = json.loads(tollgate("user", "show", "ada", "--json", "-c", config).stdout)
    assert shown["disabled"] is False


def test_a_line_that_finds_no_room_is_told_to_whoever_runs_the_command(tmp_path):
    config = tmp_path / "tollgate.toml"
    config.write_text(to_file(tmp_path, "/dev/full"))
    done = tollgate("user", "add", "ada", "--password-stdin", "-c", config, stdin=PASSWORD)
    assert done.returncode == 0 and "the audit line is not in `/dev/full`: No space left" in done.stderr, done.stderr


def test_a_disk_that_is_full_keeps_nobody_out_and_the_lines_are_counted_as_lost(gateway, tmp_path):
    server = gateway(to_file(tmp_path, "/dev/full"))
    assert tollgate("user", "add", "ada", "--password-stdin", "-c", server.config, stdin=PASSWORD).returncode == 0
    assert log_in(server.port, "ada", PASSWORD)
    lost = lambda: "tollgate_audit_lines_dropped_total 2\n" in send(server.admin_port, "GET", "/metrics").body.decode()
    eventually("two lost lines, of the first key and of the login", lost)


def test_switched_off_there_are_no_lines_and_events_are_counted(gateway, tmp_path):
    server = gateway(to_file(tmp_path, "off"))
    add_user(server.config, "ada")
    assert log_in(server.port, "ada", PASSWORD)
    assert counted(server)['event="login",outcome="ok"'] == 1
    assert "audit" not in server.log_file.read_text()


def test_the_file_is_opened_anew_at_a_hangup(gateway, tmp_path):
    path, moved = tmp_path / "audit.log", tmp_path / "audit.log.1"
    server = gateway(to_file(tmp_path, path))
    eventually("the line of the key", lambda: path.exists() and json_lines(path))
    path.rename(moved)
    server.signal(signal.SIGHUP)
    eventually("a new file", path.exists)
    assert send_json(server.port, "/auth/login", {"username": "nobody", "password": "x"}).status == 401
    lines = eventually("the line of the login", lambda: json_lines(path))
    assert kinds(lines) == [("login", "failed", "unknown_user")] and len(json_lines(moved)) == 1
    assert any(line["message"] == "Audit log opened anew" for line in server.log())


def test_without_a_file_a_command_tells_its_line_to_whoever_runs_it(gateway, tmp_path):
    """A command has no application log, and what an operator changes must stand somewhere in the default configuration, too."""
    server = gateway(base(tmp_path))

    def told(*words):
        done = tollgate(*words, "-c", server.config, stdin=PASSWORD)
        assert done.returncode == 0 and PASSWORD not in done.stderr, done
        assert '"audit.event"' not in done.stdout
        lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
        assert all(line["by"] == "command_line" and line["os.uid"] == os.getuid() and line["time"].endswith("Z") for line in lines), lines
        return done.stdout, lines

    _, (added,) = told("user", "add", "ada", "--password-stdin")
    assert (added["audit.event"], added["login"]) == ("user_added", "ada")
    log_in(server.port, "ada", PASSWORD)
    _, (revoked,) = told("session", "revoke", "--all")
    assert (revoked["audit.event"], revoked["sessions"]) == ("session_revoked", 1)
    name, (rotated,) = told("key", "rotate")
    assert (rotated["audit.event"], rotated["key.id"]) == ("key_rotated", name.strip())
    _, lines = told("user", "list")
    assert not lines, "who only looks changes nothing"
    server.config.write_text(server.config.read_text().replace("[log]", '[log]\naudit = "off"'))
    _, lines = told("user", "disable", "ada")
    assert not lines
