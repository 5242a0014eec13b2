"""Whatever a login fails of, it is answered the same, after the same time; and no stored hash makes it cost more."""

import http.client
import json
import os
import random
import resource
import sqlite3
import statistics
import time
import urllib.parse
from pathlib import Path

import bson
import pytest
from passlib.hash import argon2, bcrypt, pbkdf2_sha256, scrypt, sha512_crypt

from support.config import UNTHROTTLED, base
from support.http import assert_refused, log_in, send, send_json
from support.processes import Gateway, eventually

Login = tuple[str, str]
# More tries show smaller differences.
TRIES = int(os.environ.get("TOLLGATE_TEST_TRIES", "200"))
PASSWORD = "the right one"


@pytest.fixture(scope="module")
def people(mongod):
    """The collection of this module's gateways."""
    database = mongod.client.failed_logins
    yield database.users
    mongod.client.drop_database(database.name)


@pytest.fixture(scope="module")
def server(mongod, people, module_gateway) -> Gateway:
    """New hashes are argon2id, the quickest that there is, so that differences are not lost in it."""
    config = base("{folder}", mongod.uri(people.database.name)) + UNTHROTTLED
    return module_gateway(config.replace('"bcrypt", cost = 10', '"argon2id"'))


def six_kinds(people) -> dict[str, Login]:
    """One login of each kind that may fail."""
    current = argon2.using(memory_cost=19_456, rounds=2, parallelism=1)
    people.insert_many(
        [
            {"username": "somebody", "password": current.hash(PASSWORD)},
            {"username": "disabled", "password": current.hash(PASSWORD), "disabled": True},
            {"username": "with bcrypt", "password": bcrypt.using(rounds=8).hash("x" * 72)},
            {"username": "malformed", "password": "$argon2id$v=19$m=19456,t=2,p=1$short"},
        ]
    )
    return {
        "a wrong password": ("somebody", "a wrong one"),
        "nobody": ("nobody", "a wrong one"),
        "disabled, the right password": ("disabled", PASSWORD),
        "an empty password": ("somebody", ""),
        "73 bytes for bcrypt": ("with bcrypt", "x" * 73),
        "a malformed hash": ("malformed", "a wrong one"),
    }


def body_and_headers(answer) -> tuple:
    """All that an answer tells, without the request's own id and the date."""
    problem = answer.json()
    request_id = problem.pop("request_id")
    headers = [(name.lower(), value) for name, value in answer.headers if value != request_id and name.lower() != "date"]
    assert len(answer.headers) - len(headers) == 2
    return answer.status, answer.reason, problem, headers


def request_of(path: str, login: Login) -> tuple[bytes, str]:
    """The body of a login there, and its type."""
    username, password = login
    if path == "/auth/token":
        form = {"grant_type": "password", "username": username, "password": password}
        return urllib.parse.urlencode(form).encode(), "application/x-www-form-urlencoded"
    return json.dumps({"username": username, "password": password}).encode(), "application/json"


def seconds_of(server: Gateway, path: str, logins: dict[str, Login], tries: int) -> dict[str, float]:
    """The median of what each kind takes, one after the other in ever new order, over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    chance = random.Random(7)
    times = {kind: [] for kind in logins}
    for _ in range(tries):
        for kind in chance.sample(list(logins), len(logins)):
            body, content_type = request_of(path, logins[kind])
            began = time.perf_counter()
            connection.request("POST", path, body, {"Content-Type": content_type, "Host": "science.example.org"})
            response = connection.getresponse()
            response.read()
            times[kind].append(time.perf_counter() - began)
            assert response.status == (400 if path == "/auth/token" else 401), (kind, response.status)
    connection.close()
    return {kind: statistics.median(measured) for kind, measured in times.items()}


def assert_alike(server: Gateway, logins: dict[str, Login], tries: int, spread: float, path: str = "/auth/login") -> None:
    """Three rounds with half of the tries each; the median of their spreads is within that. One round may fail by chance on a busy
    machine. A difference that is there fails them all."""
    rounds = []
    for _ in range(3):
        medians = seconds_of(server, path, logins, tries // 2)
        found = max(medians.values()) / min(medians.values()) - 1
        rounds.append((found, {kind: f"{seconds * 1000:.1f} ms" for kind, seconds in medians.items()}))
        print(path, tries // 2, "tries each, medians:", rounds[-1][1], f"spread {found:.1%}")
        # Two that are within it settle the median.
        if sum(found < spread for found, _ in rounds) == 2:
            return
    raise AssertionError(f"medians of {tries // 2} tries each, with their spread: {rounds}")


def test_six_kinds_of_failed_logins_are_one_answer_in_one_time(people, server):
    logins = six_kinds(people)
    answers = {kind: [] for kind in logins}
    for kind, login in logins.items():
        for path in ("/auth/login", "/auth/token"):
            body, content_type = request_of(path, login)
            answers[kind].append(send(server.port, "POST", path, {"Content-Type": content_type}, body))
        assert (answers[kind][1].status, answers[kind][1].json()["error"]) == (400, "invalid_grant")
    first = answers["nobody"]
    for kind, (native, oauth) in answers.items():
        assert_refused(native, 401, "login_failed")
        assert body_and_headers(native) == body_and_headers(first[0]), kind
        assert oauth.body == first[1].body, kind
        assert [name for name, _ in oauth.headers] == [name for name, _ in first[1].headers], kind
    assert_alike(server, logins, TRIES, 0.05)
    assert_alike(server, logins, TRIES // 4, 0.05, "/auth/token")


def test_with_bcrypt_on_sqlite_and_failures_counted_they_take_one_time_too(gateway, tmp_path):
    """The scheme, the store and the throttling of a fresh installation; but a lower cost, and a limit that is not reached. What is
    written for a failure is written while it waits."""
    server = gateway(base(tmp_path) + UNTHROTTLED)
    stored = bcrypt.using(rounds=10).hash(PASSWORD)
    people = [("somebody", stored, 0), ("disabled", stored, 1), ("malformed", "$2b$10$short", 0)]
    with sqlite3.connect(tmp_path / "tollgate.db", timeout=30) as file:
        rows = [(f"subject of {name}", name, password, disabled) for name, password, disabled in people]
        file.executemany("INSERT INTO accounts (subject, login, password, disabled, created_at) VALUES (?, ?, ?, ?, 0)", rows)
    logins = {
        "a wrong password": ("somebody", "a wrong one"),
        "nobody": ("nobody", "a wrong one"),
        "disabled, the right password": ("disabled", PASSWORD),
        "an empty password": ("somebody", ""),
        "73 bytes for bcrypt": ("somebody", "x" * 73),
        "a malformed hash": ("malformed", "a wrong one"),
    }
    assert_alike(server, logins, TRIES // 3, 0.05)


def test_the_hash_of_an_account_does_not_show_in_the_time(people, server):
    """Other schemes and costs than that of new hashes, cheaper and costlier ones. What is waited for is an estimate, so these are
    alike within 10 %; without the waiting they are 1 to 100."""
    kinds = {
        "pbkdf2": pbkdf2_sha256.using(rounds=1000),
        "scrypt": scrypt.using(rounds=12),
        "sha512": sha512_crypt.using(rounds=5000),
        "bcrypt": bcrypt.using(rounds=6),
        "costlier": argon2.using(memory_cost=32_768, rounds=2, parallelism=1),
    }
    people.insert_many([{"username": f"of {kind}", "password": kind_of.hash(PASSWORD)} for kind, kind_of in kinds.items()])
    for kind in kinds:
        assert log_in(server.port, f"of {kind}", PASSWORD), "a success teaches the time of a costlier kind, too"
    logins = {kind: (f"of {kind}", "a wrong one") for kind in kinds} | {"nobody": ("nobody", "a wrong one")}
    assert_alike(server, logins, TRIES // 5, 0.10)


SALT_AND_SUM = "c2FsdHNhbHRzYWx0$" + "A" * 43
HOSTILE = {
    "4 GiB of argon2": "$argon2id$v=19$m=4194304,t=3,p=4$" + SALT_AND_SUM,
    "4,000,000 passes of argon2": "$argon2id$v=19$m=19456,t=4000000,p=1$" + SALT_AND_SUM,
    "16,777,215 lanes": "$argon2d$v=16$m=134217720,t=1,p=16777215$" + SALT_AND_SUM,
    "django's argon2": "argon2$argon2id$v=19$m=4194304,t=3,p=4$" + SALT_AND_SUM,
    "cost 31": "$2b$31$" + "." * 53,
    "cost 99": "$2b$99$" + "." * 53,
    "$2x$": "$2x$05$" + "." * 53,
    "scrypt of 1 TiB": "$scrypt$ln=30,r=8,p=1$" + SALT_AND_SUM,
    "django's scrypt": "scrypt$67108864$salt$8$16$" + "A" * 86 + "==",
    "4,294,967,295 rounds": "$pbkdf2-sha512$4294967295$c2FsdA$" + "A" * 86,
    "99,999,999 rounds": "pbkdf2_sha256$99999999$salt$" + "A" * 43 + "=",
    "999,999,999 rounds": "$6$rounds=999999999$salt$" + "A" * 86,
    "60 bytes, not ASCII": "$2b$12$" + "é" * 26,
    "empty": "",
    "a NUL": "$2b$12$\0" + "." * 52,
    "1 MB": "$2b$12$" + "." * 1_000_000,
}
NO_TEXT = {
    "null": None,
    "number": 7,
    "list": ["$2b$12$"],
    "document": {"$ne": ""},
    "binary": bson.Binary(b"$2b$12$" + b"." * 53),
    "object id": bson.ObjectId(),
    "code": bson.Code("return true"),
    "regular expression": bson.Regex(".*"),
    "boolean": True,
}


def most_memory(server: Gateway) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def check_refused_unread(server: Gateway, subjects: dict[str, str]) -> None:
    """Each is refused like a wrong password, costs no more than one, and is told in the log by the user's id only."""
    before = most_memory(server)
    for kind, subject in subjects.items():
        began = time.perf_counter()
        problem = assert_refused(send_json(server.port, "/auth/login", {"username": kind, "password": PASSWORD}), 401, "login_failed")
        assert time.perf_counter() - began < 5, kind
        matching = lambda: [line for line in server.log() if line.get("request.id") == problem["request_id"]]
        (line,) = eventually("the line of the log", matching)
        assert f"the record of `{subject}` cannot be used" in line["error"], (kind, line)
        assert f"`{kind}`" not in line["error"], "the login is not told"
    # Less than the least that any of them asks for, and more than the allocator keeps of the checks that are made instead.
    assert most_memory(server) - before < 256 * 1024 * 1024
    log = server.log_file.read_text() + server.access_file.read_text()
    assert "panic" not in log
    for stored in HOSTILE.values():
        assert not stored or stored not in log and stored[-30:] not in log, "nothing of a hash is told"


def test_no_stored_hash_of_mongodb_makes_a_login_cost_more(people, server):
    stored = HOSTILE | NO_TEXT
    inserted = people.insert_many([{"username": kind, "password": value} for kind, value in stored.items()]).inserted_ids
    check_refused_unread(server, dict(zip(stored, map(str, inserted), strict=True)))


def test_no_stored_hash_of_sqlite_makes_a_login_cost_more(gateway, tmp_path):
    server = gateway(base(tmp_path) + UNTHROTTLED)
    with sqlite3.connect(tmp_path / "tollgate.db", timeout=30) as file:
        rows = [(f"subject-{number}", kind, value, 0) for number, (kind, value) in enumerate(HOSTILE.items())]
        file.executemany("INSERT INTO accounts (subject, login, password, created_at) VALUES (?, ?, ?, ?)", rows)
    check_refused_unread(server, {kind: subject for subject, kind, _, _ in rows})


def test_a_hash_of_nothing_lets_nobody_in(people, server):
    """Some applications hash the empty password for accounts that have none."""
    people.insert_one({"username": "hollow", "password": bcrypt.using(rounds=4).hash("")})
    for password in ("", "\0"):
        assert_refused(send_json(server.port, "/auth/login", {"username": "hollow", "password": password}), 401, "login_failed")


def test_memory_that_there_is_not_refuses_one_login_and_ends_nothing(people, server):
    """The most that a hash may ask for, in a process that gets no more memory."""
    greedy = {"much of scrypt": scrypt.using(rounds=18, block_size=8), "much of argon2": argon2.using(memory_cost=256 * 1024, rounds=1, parallelism=1)}
    people.insert_many([{"username": name, "password": kind.hash(PASSWORD)} for name, kind in greedy.items()])
    people.insert_one({"username": "modest", "password": bcrypt.using(rounds=4).hash(PASSWORD)})
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    size = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmSize"))
    unlimited = resource.prlimit(server.process.pid, resource.RLIMIT_AS)
    resource.prlimit(server.process.pid, resource.RLIMIT_AS, (size + 128 * 1024 * 1024, unlimited[1]))
    try:
        for name in greedy:
            problem = assert_refused(send_json(server.port, "/auth/login", {"username": name, "password": PASSWORD}), 401, "login_failed")
            matching = lambda: [line for line in server.log() if line.get("request.id") == problem["request_id"]]
            (line,) = eventually("the line of the log", matching)
            assert line["error"].endswith("the password hash needs more memory than there is"), line
        assert log_in(server.port, "modest", PASSWORD)
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_AS, unlimited)
    for name in greedy:
        assert log_in(server.port, name, PASSWORD)
