"""`tollgate user` while the gateway serves: the life of an account, in both stores, and in a collection of an application."""

import json

import jwt
import pytest
from passlib.hash import bcrypt

from support.config import base
from support.http import assert_refused, log_in, send_json
from support.people import PASSWORD, Customer, hashes, write
from support.processes import tollgate


class Users:
    """The commands on one configuration."""

    def __init__(self, folder, config):
        self.file = folder / "users.toml"
        self.file.write_text(config)

    def __call__(self, command, *arguments, password=None, status=0):
        by_pipe = [] if password is None else ["--password-stdin"]
        done = tollgate("user", command, "-c", self.file, *arguments, *by_pipe, stdin=f"{password}\n" if password else "")
        assert done.returncode == status, done
        assert not password or password not in done.stdout + done.stderr
        return json.loads(done.stdout) if "--json" in arguments else done


@pytest.fixture(params=["sqlite", "mongodb"])
def store(request, tmp_path):
    """The address of an empty store. `None`: a SQLite file in the test's folder."""
    if request.param == "sqlite":
        return None
    return request.getfixturevalue("mongod").uri(request.getfixturevalue("database").name)


def claims(token):
    return jwt.decode(token, options={"verify_signature": False})


def assert_fails(server, username, password):
    assert_refused(send_json(server.port, "/auth/login", {"username": username, "password": password}), 401, "login_failed")


def test_the_life_of_an_account(store, gateway, tmp_path):
    config = base(tmp_path, store)
    users, server = Users(tmp_path, config), gateway(config)
    users("add", "ada", "--name", "Ada L.", "--email", "ada@example.org", "--role", "scientist", "--scope", "read", password="first")
    users("add", "bob", password="other")
    assert [user["login"] for user in users("list", "--json")] == ["ada", "bob"]
    ada = users("show", "ada", "--json")
    assert (ada["name"], ada["email"], ada["roles"], ada["scopes"]) == ("Ada L.", "ada@example.org", ["scientist"], ["read"])
    for login in ["ada", "ada@example.org"]:
        token = claims(log_in(server.port, login, "first"))
        assert (token["sub"], token["roles"], token["scope"]) == (ada["subject"], ["scientist"], "read")

    users("grant", "ada", "--scope", "write", "--role", "admin")
    users("revoke", "ada", "--scope", "read")
    token = claims(log_in(server.port, "ada", "first"))
    assert (token["roles"], token["scope"]) == (["scientist", "admin"], "write")

    users("password", "ada", password="second")
    assert_fails(server, "ada", "first")
    assert log_in(server.port, "ada", "second")

    users("disable", "ada")
    assert_fails(server, "ada", "second")
    assert users("show", "ada", "--json")["disabled"] is True
    users("enable", "ada")
    assert log_in(server.port, "ada", "second")

    users("remove", "ada", "--yes")
    assert_fails(server, "ada", "second")
    assert log_in(server.port, "bob", "other")


def test_what_cannot_be_done_says_why_and_changes_nothing(store, tmp_path):
    users = Users(tmp_path, base(tmp_path, store))
    users("add", "ada", password="first")
    before = users("list", "--json")
    for command, arguments, told in [
        ("show", ["nobody"], "nobody"),
        ("password", ["nobody"], "nobody"),
        ("disable", ["nobody"], "nobody"),
        ("remove", ["nobody", "--yes"], "nobody"),
        ("add", ["ada"], "ada"),
        ("remove", ["ada"], "--yes"),
    ]:
        password = "another" if command in ("add", "password") else None
        done = users(command, *arguments, password=password, status=1)
        assert told in done.stderr and not done.stdout, done
    for password in ["", "x" * 73, "x" * 2000]:
        assert "password" in users("add", "eve", password=password, status=1).stderr
    assert users("list", "--json") == before


def test_an_account_that_an_application_wrote_is_changed_and_the_application_reads_it(mongod, database, gateway, tmp_path):
    uri = mongod.uri(database.name)
    (alice,) = write(uri, lambda: [Customer(username="alice", email="alice@example.org", password=hashes.hash(PASSWORD), scopes="read")])
    config = base(tmp_path, uri) + '\n[store.users]\ncollection = "Customer"\n'
    users, server = Users(tmp_path, config), gateway(config)
    assert [(user["login"], user["subject"]) for user in users("list", "--json")] == [("alice", str(alice.id))]
    users("password", "alice", password="new password")
    users("grant", "alice", "--scope", "write", "--role", "scientist")
    users("disable", "alice")
    document = database.Customer.find_one()
    assert bcrypt.verify("new password", document.pop("password"))
    kept = {"_id": alice.id, "username": "alice", "email": "alice@example.org"}
    assert document == {**kept, "roles": ["scientist"], "scopes": "read write", "disabled": True}
    assert Customer.model_validate({**document, "password": ""}).disabled
    assert_fails(server, "alice", "new password")
    users("enable", "alice")
    assert claims(log_in(server.port, "alice", "new password"))["scope"] == "read write"
