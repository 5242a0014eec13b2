"""`hash.upgrade`: who logs in gets a hash of today, and the application that owns the record notices it as it should."""

import asyncio
import sqlite3
import uuid
from concurrent.futures import ThreadPoolExecutor

import bson
import pytest
from beanie import init_beanie
from beanie.exceptions import RevisionIdWasChanged
from motor.motor_asyncio import AsyncIOMotorClient
from passlib.hash import argon2, bcrypt, bcrypt_sha256, pbkdf2_sha256, sha512_crypt

from support.config import base
from support.http import assert_refused, log_in, send_json
from support.people import PASSWORD, Admin, Customer, Scientist
from support.processes import eventually

OLD = {
    "cheaper bcrypt": bcrypt.using(rounds=5),
    "old ident": bcrypt.using(rounds=9, ident="2a"),
    "bcrypt of a digest": bcrypt_sha256.using(rounds=12),
    "pbkdf2": pbkdf2_sha256.using(rounds=1000),
    "sha512": sha512_crypt.using(rounds=5000),
    "argon2": argon2.using(memory_cost=8192, rounds=1, parallelism=1),
}


def upgrading(folder, store=None, hash='scheme = "bcrypt", cost = 10'):
    return base(folder, store).replace('hash = { scheme = "bcrypt", cost = 10 }', f"hash = {{ {hash}, upgrade = true }}")


def refused(server, username, password):
    assert_refused(send_json(server.port, "/auth/login", {"username": username, "password": password}), 401, "login_failed")


def test_a_beanie_application_notices_and_keeps_every_other_field(mongod, database, gateway):
    uri = mongod.uri(database.name)
    users = '\n[store.users]\ncollection = "scientists"\nfields = { login = "username", password = "hashed_password", roles = "groups", disabled = "" }\n'
    server = gateway(upgrading("{folder}", uri) + users)

    async def application():
        client = AsyncIOMotorClient(uri)
        try:
            await init_beanie(client.get_default_database(), document_models=[Customer, Scientist, Admin])
            profile = {"list": [1, 2.5, None], "when": "2026", "deep": {"er": {}}}
            made = Scientist(username="marie", hashed_password=pbkdf2_sha256.using(rounds=1000).hash(PASSWORD), profile=profile, groups="lab")
            await made.insert()
            before = database.scientists.find_one()
            stale = await Scientist.find_one(Scientist.username == "marie")
            # In another thread, so that the application's loop goes on.
            await asyncio.to_thread(log_in, server.port, "marie", PASSWORD)
            changed = lambda: (now := database.scientists.find_one())["hashed_password"] != before["hashed_password"] and now
            after = await asyncio.to_thread(eventually, "the new hash", changed)
            assert bcrypt.identify(after["hashed_password"]) and after["hashed_password"].startswith("$2b$10$")
            assert bcrypt.verify(PASSWORD, after["hashed_password"])
            assert list(before) == list(after), "no field more or less, and in their order"
            assert {name for name in before if before[name] != after[name]} == {"hashed_password", "revision_id"}
            assert isinstance(after["revision_id"], (uuid.UUID, bson.Binary))
            stale.groups = "stale"
            with pytest.raises(RevisionIdWasChanged):
                await stale.save()
            fresh = await Scientist.find_one(Scientist.username == "marie")
            fresh.groups = "fresh"
            await fresh.save()
        finally:
            client.close()

    asyncio.run(application())
    assert log_in(server.port, "marie", PASSWORD)
    document = database.scientists.find_one()
    assert document["groups"] == "fresh" and bcrypt.verify(PASSWORD, document["hashed_password"])
    (line,) = [line for line in server.audit() if line["audit.event"] == "hash_upgraded"]
    assert line["login"] == "marie" and line["subject"] and line["by"] == "gateway"


@pytest.mark.parametrize("new", ["bcrypt", "argon2id"])
def test_every_old_hash_becomes_a_new_one_that_passlib_verifies(new, mongod, database, gateway):
    scheme = {"bcrypt": 'scheme = "bcrypt", cost = 10', "argon2id": 'scheme = "argon2id"'}[new]
    server = gateway(upgrading("{folder}", mongod.uri(database.name), scheme))
    enough = {"bcrypt": bcrypt.using(rounds=10), "argon2id": argon2.using(memory_cost=65_536, rounds=3, parallelism=4)}[new]
    people = {**OLD, "enough": enough}
    database.users.insert_many([{"username": name, "password": kind.hash(PASSWORD), "n": name} for name, kind in people.items()])
    before = {person["username"]: person for person in database.users.find()}
    for name in people:
        refused(server, name, PASSWORD + "?")
        assert database.users.find_one({"username": name}) == before[name], "a wrong password changes nothing"
        assert log_in(server.port, name, PASSWORD)
        if name != "enough":
            # One after the other: an upgrade for which there is no room is left to the next login.
            eventually("the new hash", lambda: database.users.find_one({"username": name})["password"] != before[name]["password"])
    for name in people:
        person = database.users.find_one({"username": name})
        assert log_in(server.port, name, PASSWORD)
        if name == "enough":
            assert person == before[name]
            continue
        made = bcrypt if new == "bcrypt" else argon2
        assert made.identify(person["password"]) and made.verify(PASSWORD, person["password"]), name
        assert {**person, "password": None} == {**before[name], "password": None}
        assert "revision_id" not in person, "none is made where there was none"
    upgraded = [line["login"] for line in server.audit() if line["audit.event"] == "hash_upgraded"]
    assert sorted(upgraded) == sorted(OLD)


def test_a_password_that_bcrypt_cannot_hold_keeps_its_hash(mongod, database, gateway):
    uri = mongod.uri(database.name)
    long = "long " * 20
    fleet = [gateway(upgrading("{folder}", uri, scheme)) for scheme in ('scheme = "bcrypt", cost = 10', 'scheme = "argon2id"')]
    truncating = gateway(upgrading("{folder}", uri, 'scheme = "argon2id"') + 'long_password = "truncate"\n')
    stored = {"whole": pbkdf2_sha256.using(rounds=1000).hash(long), "cut": bcrypt.using(rounds=5).hash(long)}
    database.users.insert_many([{"username": name, "password": value} for name, value in stored.items()])
    of = lambda name: database.users.find_one({"username": name})["password"]
    assert log_in(fleet[0].port, "whole", long)
    # Of this hash only 72 bytes are proved: what stands behind them may be a typing error.
    assert log_in(truncating.port, "cut", long + " and more")
    # Upgrades of the same gateways that come later, so that those before have been looked at.
    for server in (fleet[0], truncating):
        name = f"later {server.port}"
        database.users.insert_one({"username": name, "password": sha512_crypt.using(rounds=5000).hash(PASSWORD)})
        assert log_in(server.port, name, PASSWORD)
        eventually("an upgrade", lambda: not of(name).startswith("$6$"))
    assert {name: of(name) for name in stored} == stored
    assert log_in(fleet[1].port, "whole", long)
    eventually("the upgrade to argon2", lambda: of("whole").startswith("$argon2id$"))
    assert argon2.verify(long, of("whole"))


def test_of_many_logins_one_upgrades_and_a_new_password_is_not_undone(mongod, database, gateway):
    fleet = [gateway(upgrading("{folder}", mongod.uri(database.name))) for _ in range(2)]
    old = bcrypt.using(rounds=5)
    database.users.insert_one({"username": "ada", "password": old.hash(PASSWORD), "revision_id": uuid.uuid4()})
    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(lambda number: log_in(fleet[number % 2].port, "ada", PASSWORD), range(24)))
    eventually("the new hash", lambda: database.users.find_one()["password"].startswith("$2b$10$"))
    assert bcrypt.verify(PASSWORD, database.users.find_one()["password"])

    # An application changes the password while a login's upgrade is under way: whatever comes first, the new password stays.
    for turn in range(20):
        database.users.update_one({}, {"$set": {"password": old.hash(f"{PASSWORD} {turn}")}})
        assert log_in(fleet[turn % 2].port, "ada", f"{PASSWORD} {turn}")
        chosen = old.hash(f"chosen {turn}")
        database.users.update_one({}, {"$set": {"password": chosen}})
        # Its password waits for the same thread as the upgrade.
        assert log_in(fleet[turn % 2].port, "ada", f"chosen {turn}")
    assert log_in(fleet[0].port, "ada", "chosen 19")
    eventually("the hash of the last one", lambda: database.users.find_one()["password"].startswith("$2b$10$"))
    assert bcrypt.verify("chosen 19", database.users.find_one()["password"])
    lines = [line for server in fleet for line in server.audit() if line["audit.event"] == "hash_upgraded"]
    assert 2 <= len(lines) <= 41, "one for each hash at most"


def test_sqlite_too_and_not_unless_asked(gateway, tmp_path):
    def stored():
        with sqlite3.connect(f"file:{tmp_path}/tollgate.db?mode=ro", uri=True, timeout=30) as file:
            return file.execute("SELECT * FROM accounts").fetchone()

    asked, not_asked = gateway(upgrading(tmp_path)), gateway(base(tmp_path))
    with sqlite3.connect(tmp_path / "tollgate.db", timeout=30) as file:
        old = pbkdf2_sha256.using(rounds=1000).hash(PASSWORD)
        file.execute("INSERT INTO accounts (subject, login, name, password, created_at) VALUES ('s', 'ada', 'Ada', ?, 7)", (old,))
    before = stored()
    assert log_in(not_asked.port, "ada", PASSWORD) and log_in(not_asked.port, "ada", PASSWORD)
    assert stored() == before
    assert log_in(asked.port, "ada", PASSWORD)
    eventually("the new hash", lambda: stored() != before)
    after = stored()
    (new,) = set(after) - set(before)
    assert bcrypt.verify(PASSWORD, new) and len([1 for a, b in zip(before, after, strict=True) if a != b]) == 1
    assert log_in(not_asked.port, "ada", PASSWORD)
    text = asked.log_file.read_text()
    assert PASSWORD not in text and new not in text and old not in text
