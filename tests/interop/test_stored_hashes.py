"""Hundreds of random hashes of every kind that passlib and Django write, by a login at each store."""

import random
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.config import UNTHROTTLED, base
from support.http import send_json
from support.processes import Gateway
from support.stored import EVERY, SHORT, WHOLE, reads, some_password

OF_EACH_KIND = 12


def insert(database, folder, people: dict[str, str]) -> None:
    """Writes logins and hashes where the gateway reads them: a collection, or the file of SQLite."""
    if database is not None:
        database.users.insert_many([{"username": login, "password": stored} for login, stored in people.items()])
        return
    with sqlite3.connect(folder / "tollgate.db", timeout=30) as file:
        rows = [(f"subject of {login}", login, stored, 0) for login, stored in people.items()]
        file.executemany("INSERT INTO accounts (subject, login, password, created_at) VALUES (?, ?, ?, ?)", rows)


@pytest.fixture(scope="module", params=["mongodb", "sqlite"])
def place(request, mongod, module_gateway) -> Iterator[tuple]:
    """A gateway on one of the stores, with what `insert` needs of it. The queue takes all that a test sends at once."""
    database = mongod.client[f"stored_{request.param}"] if request.param == "mongodb" else None
    config = base("{folder}", mongod.uri(database.name) if database is not None else None) + UNTHROTTLED
    server = module_gateway(config.replace('"bcrypt", cost = 10', '"argon2id"'))
    yield server, database, server.config.parent
    if database is not None:
        mongod.client.drop_database(database.name)


def statuses(server: Gateway, tries: list[tuple[str, str]]) -> list[int]:
    """What each login and password is answered, sixteen at a time."""

    def status(one: tuple[str, str]) -> int:
        return send_json(server.port, "/auth/login", {"username": one[0], "password": one[1]}).status

    with ThreadPoolExecutor(16) as clients:
        return list(clients.map(status, tries))


@pytest.mark.filterwarnings("ignore::passlib.exc.PasslibHashWarning")  # Spare bits are what is tested.
def test_hashes_of_every_kind_take_their_password_and_no_other(place):
    server, database, folder = place
    chance = random.Random(20_250_711)
    # Each of them is read by its library here, before the gateway is asked.
    people = {}
    for kind, make in EVERY.items():
        for number in range(OF_EACH_KIND if database is not None else 3):
            password = some_password(chance)
            people[f"{kind} {number}"] = (password, make(password))
    assert all(reads(stored, password) for password, stored in people.values())
    insert(database, folder, {login: stored for login, (_, stored) in people.items()})
    right = [(login, password) for login, (password, _) in people.items()]
    wrong = [(login, other) for login, password in right for other in (password + ".", password[:-1], password + "\0", password.swapcase() + "x")]
    assert dict(zip(right, statuses(server, right), strict=True)) == dict.fromkeys(right, 200)
    assert dict(zip(wrong, statuses(server, wrong), strict=True)) == dict.fromkeys(wrong, 401)


def test_a_long_password_counts_whole_or_is_refused_whole(place):
    server, database, folder = place
    exact, longer = "x" * 70 + "é", "x" * 70 + "é!"
    assert (len(exact.encode()), len(longer.encode())) == (72, 73)
    people = {f"exact {kind}": (exact, make(exact)) for kind, make in EVERY.items()}
    people |= {f"longer {kind}": (longer, make(longer)) for kind, make in EVERY.items()}
    insert(database, folder, {login: stored for login, (_, stored) in people.items()})
    expected = {(login, password): 200 for login, (password, _) in people.items()}
    expected |= {(f"exact {kind}", longer): 401 for kind in EVERY} | {(f"longer {kind}", exact): 401 for kind in WHOLE}
    # Of these nobody can say what the rest of the password was.
    expected |= {(f"longer {kind}", longer): 401 for kind in SHORT}
    assert dict(zip(expected, statuses(server, list(expected)), strict=True)) == expected
