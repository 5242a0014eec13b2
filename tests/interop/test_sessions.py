"""Sessions from outside: what a login gives, what the commands show and end, and what the database holds of it."""

import json

import jwt
import pytest

from support.config import base
from support.http import assert_refused, bearer, log_in, send, send_json
from support.people import PASSWORD
from support.processes import eventually, tollgate

FORM = [("Content-Type", "application/x-www-form-urlencoded")]


class Commands:
    """The commands on one configuration."""

    def __init__(self, folder, config):
        self.file = folder / "sessions.toml"
        self.file.write_text(config)

    def __call__(self, *words, stdin="", status=0):
        done = tollgate(*words, "-c", self.file, stdin=stdin)
        assert done.returncode == status, done
        return done

    def sessions(self, *whose):
        return json.loads(self("session", "list", *whose, "--json").stdout)

    def password(self, *words):
        self(*words, "--password-stdin", stdin=f"{PASSWORD}\n")


@pytest.fixture(params=["sqlite", "mongodb"])
def store(request, tmp_path):
    """The address of an empty store. `None`: a SQLite file in the test's folder."""
    if request.param == "sqlite":
        return None
    return request.getfixturevalue("mongod").uri(request.getfixturevalue("database").name)


@pytest.fixture
def commands(store, tmp_path):
    commands = Commands(tmp_path, base(tmp_path, store))
    for login in ["ada", "bob"]:
        commands.password("user", "add", login)
    return commands


@pytest.fixture
def server(gateway, commands):
    return gateway(commands.file.read_text())


def token_answer(server, more=""):
    body = f"grant_type=password&username=ada&password={PASSWORD.replace(' ', '+')}{more}".encode()
    return send(server.port, "POST", "/auth/token", FORM, body)


def test_each_login_has_a_session_that_its_tokens_name(server, commands):
    answer = send_json(server.port, "/auth/login", {"username": "ada", "password": PASSWORD}).json()
    by_form = token_answer(server, "&client_id=notebook").json()
    sid = jwt.decode(answer["access_token"], options={"verify_signature": False})["sid"]
    other = jwt.decode(by_form["access_token"], options={"verify_signature": False})["sid"]
    assert sid == answer["session"] and sid != other and len(sid) == 22
    assert len(by_form["refresh_token"]) == 71
    assert send(server.port, "GET", "/auth/me", bearer(answer["access_token"])).json()["session"] == sid
    listed = {session["id"]: session for session in commands.sessions("ada")}
    assert set(listed) == {sid, other}
    assert (listed[other]["client_id"], listed[other]["login"], listed[other]["address"]) == ("notebook", "ada", "127.0.0.1")
    assert commands.sessions("bob") == []
    table = commands("session", "list").stdout.splitlines()
    assert len(table) == 3 and table[0].split()[:3] == ["ID", "LOGIN", "CREATED"]


def test_a_login_that_fails_leaves_no_session(server, commands):
    wrong = {"username": "ada", "password": "wrong"}
    assert_refused(send_json(server.port, "/auth/login", wrong), 401, "login_failed")
    assert token_answer(server, "&scope=never").status == 400
    assert commands.sessions() == []


def test_sessions_are_ended_one_by_one_of_one_and_of_all(server, commands):
    for login in ["ada", "ada", "ada", "bob", "bob"]:
        log_in(server.port, login, PASSWORD)
    first, second, _ = sorted(session["id"] for session in commands.sessions("ada"))
    assert f"session `{first}` of `ada` ended" in commands("session", "revoke", first).stderr
    assert "had already ended" in commands("session", "revoke", first).stderr
    assert "there is no session" in commands("session", "revoke", "A" * 22, status=1).stderr
    commands("session", "revoke", "not an id", status=2)
    commands("session", "revoke", status=2)
    commands("session", "revoke", second, "--all", status=2)
    assert len(commands.sessions()) == 4
    assert "2 sessions ended" in commands("session", "revoke", "--user", "ada").stderr
    assert [session["login"] for session in commands.sessions()] == ["bob", "bob"]
    assert "there is no user" in commands("session", "revoke", "--user", "eve", status=1).stderr
    assert "2 sessions ended" in commands("session", "revoke", "--all").stderr
    assert commands.sessions() == []
    assert "0 sessions ended" in commands("session", "revoke", "--all").stderr


@pytest.mark.parametrize(
    "words", [["user", "disable", "ada"], ["user", "remove", "ada", "--yes"], ["user", "password", "ada"]], ids=lambda words: words[1]
)
def test_who_is_disabled_removed_or_gets_a_new_password_is_logged_out_and_nobody_else(server, commands, words):
    log_in(server.port, "ada", PASSWORD)
    log_in(server.port, "ada", PASSWORD)
    log_in(server.port, "bob", PASSWORD)
    ended = commands(*words, *(["--password-stdin"] if words[1] == "password" else []), stdin="another password\n")
    assert "2 sessions ended" in ended.stderr
    assert [session["login"] for session in commands.sessions()] == ["bob"]


def test_commands_on_a_folder_without_a_database_make_none(tmp_path):
    commands = Commands(tmp_path, base(tmp_path / "nowhere"))
    for words in [("session", "list"), ("session", "revoke", "--all")]:
        assert "there is no database file" in commands(*words, status=1).stderr
    assert not (tmp_path / "nowhere").exists()


def test_a_session_has_no_secret_in_mongodb(gateway, mongod, database, tmp_path):
    commands = Commands(tmp_path, base(tmp_path, mongod.uri(database.name)))
    commands.password("user", "add", "ada")
    server = gateway(commands.file.read_text())
    answer = token_answer(server).json()
    (row,) = database.tollgate_sessions.find()
    assert set(row) == {
        "_id", "subject", "login", "client_id", "scope", "created_at", "used_at", "counter", "rotated_at", "expires_at",
        "ends_at", "purge_at", "address", "user_agent", "ended_at", "ended_reason",
    }  # fmt: skip
    dump = repr([list(database[name].find()) for name in database.list_collection_names()])
    assert row["_id"] in dump and answer["refresh_token"] not in dump and answer["access_token"] not in dump

    def purges():
        indexes = database.tollgate_sessions.list_indexes()
        return [(dict(index["key"]), index["expireAfterSeconds"]) for index in indexes if "expireAfterSeconds" in index]

    # No login waits for it.
    eventually("the index", purges)
    assert purges() == [({"purge_at": 1}, 0)]
