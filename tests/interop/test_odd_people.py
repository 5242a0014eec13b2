"""Names that look alike, names that two people have, and documents that no application should have written."""

import datetime
import sqlite3

import bson
import jwt
import pymongo
import pytest
from passlib.hash import bcrypt

from support.config import base
from support.http import assert_refused, log_in, send_json
from support.processes import Gateway, eventually

PASSWORD = "the right one"
STORED = bcrypt.using(rounds=4).hash(PASSWORD)
# Cyrillic a, a trailing dot and space, another case, a letter in two parts, a ligature, a long s, a zero-width joiner.
ALIKE = ["alice", "Alice", "ALICE", "аlice", "alice.", "alice ", "caf\u00e9", "cafe\u0301", "ﬁsh", "fish", "basſ", "bass", "al\u200dice", "İ", "i", "ß", "ss"]


@pytest.fixture(params=["mongodb", "sqlite"])
def place(request, mongod, database, gateway, tmp_path):
    """A gateway, and how to write people as username and e-mail address where it reads them."""
    if request.param == "mongodb":

        def write(people: list[tuple[str, str | None]]) -> None:
            database.users.insert_many([{"_id": f"id of {name} {email}", "username": name, "email": email, "password": STORED} for name, email in people])

        return gateway(base("{folder}", mongod.uri(database.name))), write

    def write_rows(people: list[tuple[str, str | None]]) -> None:
        with sqlite3.connect(tmp_path / "tollgate.db", timeout=30) as file:
            rows = [(f"id of {name} {email}", name, email, STORED, 0) for name, email in people]
            file.executemany("INSERT INTO accounts (subject, login, email, password, created_at) VALUES (?, ?, ?, ?, ?)", rows)

    return gateway(base(tmp_path)), write_rows


def subject(server: Gateway, username: str) -> str:
    return jwt.decode(log_in(server.port, username, PASSWORD), options={"verify_signature": False})["sub"]


def check_refused(server: Gateway, username: str, reason: str) -> None:
    """A refusal like any other, with the reason in the log alone."""
    problem = assert_refused(send_json(server.port, "/auth/login", {"username": username, "password": PASSWORD}), 401, "login_failed")
    (line,) = eventually("the log's line", lambda: [line for line in server.log() if line.get("request.id") == problem["request_id"]])
    assert reason in line["error"], line
    assert reason not in str(problem)


def test_names_that_look_alike_are_different_people(place):
    server, write = place
    write([(name, None) for name in ALIKE])
    assert {name: subject(server, name) for name in ALIKE} == {name: f"id of {name} None" for name in ALIKE}
    for other in ["aLICE", "alice..", " alice", "alice\0", "CAFÉ", "ALİCE"]:
        check_refused(server, other, "no such user")


def test_a_name_that_two_people_have_is_nobodys(place):
    server, write = place
    write([("bob", "ann@example.org"), ("ann@example.org", None), ("ann", "ann@lab.example"), ("tim", "ann@lab.example")])
    check_refused(server, "ann@example.org", "ambiguous")
    check_refused(server, "ann@lab.example", "ambiguous")
    for name in ("bob", "ann", "tim"):
        assert subject(server, name).startswith(f"id of {name} ")


def test_two_documents_with_one_name_are_nobodys(mongod, database, gateway):
    """SQLite's table has a unique index; a collection has one if its application made one."""
    server = gateway(base("{folder}", mongod.uri(database.name)))
    documents = [("twin", STORED), ("twin", "$2b$31$" + "." * 53), ("triplet", STORED), ("triplet", STORED), ("triplet", STORED), ("other", STORED)]
    database.users.insert_many([{"_id": number, "username": name, "password": stored} for number, (name, stored) in enumerate(documents)])
    check_refused(server, "twin", "ambiguous")
    check_refused(server, "triplet", "ambiguous")
    assert subject(server, "other") == "5"


def test_a_collection_that_ignores_case_decides_who_is_who(mongod, database, gateway):
    """The collection's own collation is how its application compares names, and a unique index of it keeps them apart."""
    users = database.create_collection("users", collation={"locale": "en", "strength": 2})
    users.create_index([("username", pymongo.ASCENDING)], unique=True)
    users.insert_one({"_id": "id of alice", "username": "alice", "password": STORED})
    with pytest.raises(pymongo.errors.DuplicateKeyError):
        users.insert_one({"username": "ALICE", "password": STORED})
    server = gateway(base("{folder}", mongod.uri(database.name)))
    assert subject(server, "Alice") == subject(server, "alice") == "id of alice"


ODD = {
    "roles are a number": {"roles": 7},
    "roles are a document": {"roles": {"admin": True}},
    "roles have a number": {"roles": ["scientist", 7]},
    "roles have a list": {"roles": [["admin"]]},
    "roles are binary": {"roles": bson.Binary(b"admin")},
    "scopes are true": {"scopes": True},
    "name is a document": {"name": {"first": "A"}},
    "email is a list": {"email": ["a@example.org"]},
    "disabled is a text": {"disabled": "false"},
    "disabled is a number": {"disabled": 0},
    "_id is a double": {"_id": 1.5},
    "_id is a date": {"_id": datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)},
    "_id is a document": {"_id": {"a": 1}},
    "_id is a boolean": {"_id": True},
    "_id is a decimal": {"_id": bson.Decimal128("7.5")},
    "_id is binary": {"_id": bson.Binary(b"1234")},
    "_id is the least key": {"_id": bson.MinKey()},
    "_id is empty": {"_id": ""},
}
FINE = {
    "_id is a number": ({"_id": 2**40}, str(2**40)),
    "_id is a text": ({"_id": "somebody's"}, "somebody's"),
    "roles are null": ({"_id": 1, "roles": None, "scopes": None, "disabled": None}, "1"),
    "15 MB of another field": ({"_id": 2, "thesis": "x" * 15_000_000, "deep": {"a": [{"b": "y" * 500_000}]}}, "2"),
}


def test_an_odd_document_is_refused_and_nobody_else(mongod, database, gateway):
    server = gateway(base("{folder}", mongod.uri(database.name)))
    documents = {name: {"username": name, "password": STORED, **more} for name, more in ODD.items()}
    documents |= {name: {"username": name, "password": STORED, **more} for name, (more, _) in FINE.items()}
    database.users.insert_many(documents.values())
    for name in ODD:
        check_refused(server, name, "cannot be used: `")
        assert subject(server, "_id is a number") == str(2**40)
    assert {name: subject(server, name) for name in FINE} == {name: expected for name, (_, expected) in FINE.items()}


def test_an_account_with_more_roles_than_fit_gets_no_token_and_harms_nobody(mongod, database, gateway):
    """16 MB of roles: whoever may write them may lock this one account out, no more."""
    server = gateway(base("{folder}", mongod.uri(database.name)))
    roles = [f"{number:06}" + "r" * 60 for number in range(200_000)]
    database.users.insert_many(
        [
            {"username": "everything", "password": STORED, "roles": roles},
            {"username": "somebody", "_id": "somebody", "password": STORED},
        ]
    )
    for _ in range(3):
        answer = send_json(server.port, "/auth/login", {"username": "everything", "password": PASSWORD})
        assert_refused(answer, 500, "internal_error")
        assert subject(server, "somebody") == "somebody"
    assert_refused(send_json(server.port, "/auth/login", {"username": "everything", "password": "x"}), 401, "login_failed")
