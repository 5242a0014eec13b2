"""Hashes that Tollgate makes are read by passlib, wherever they are stored."""

import sqlite3

import pytest
from passlib.hash import argon2, bcrypt

from support.config import base
from support.http import log_in
from support.processes import tollgate

PASSWORD = "sëcret of a scientist"


def add_user(config, folder, name):
    file = folder / "add.toml"
    file.write_text(config)
    done = tollgate("user", "add", "-c", file, name, "--password-stdin", stdin=PASSWORD + "\n")
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    return file


def stored_in_sqlite(path):
    """Every text in the database that looks like a hash: the layout of the file is the store's own business."""
    with sqlite3.connect(path) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        values = (value for table in tables for row in connection.execute(f'SELECT * FROM "{table}"') for value in row)
        return [value for value in values if isinstance(value, str) and value.startswith("$")]


def verify(stored, scheme):
    known = {"bcrypt": bcrypt, "argon2id": argon2}[scheme]
    assert known.identify(stored), stored
    assert known.verify(PASSWORD, stored)
    assert not known.verify(PASSWORD + ".", stored)
    assert stored.startswith({"bcrypt": "$2b$10$", "argon2id": "$argon2id$v=19$"}[scheme])


def configured(scheme, config):
    return config if scheme == "bcrypt" else config.replace('{ scheme = "bcrypt", cost = 10 }', '{ scheme = "argon2id" }')


@pytest.mark.parametrize("scheme", ["bcrypt", "argon2id"])
def test_a_user_added_to_mongodb_is_verified_by_passlib(scheme, mongod, database, tmp_path):
    add_user(configured(scheme, base(tmp_path, mongod.uri(database.name))), tmp_path, "alice")
    verify(database.users.find_one({"username": "alice"})["password"], scheme)


@pytest.mark.parametrize("scheme", ["bcrypt", "argon2id"])
def test_a_user_added_to_sqlite_is_verified_by_passlib_and_logs_in(scheme, gateway, tmp_path):
    config = configured(scheme, base(tmp_path))
    add_user(config, tmp_path, "alice")
    (stored,) = stored_in_sqlite(tmp_path / "tollgate.db")
    verify(stored, scheme)
    server = gateway(config)
    assert log_in(server.port, "alice", PASSWORD)
    add_user(config, tmp_path, "bob")
    assert log_in(server.port, "bob", PASSWORD), "the command works while the gateway serves"
