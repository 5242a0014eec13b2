"""Passwords that passlib hashed with its own settings: every scheme, long ones, exact bytes, and the work that a refusal is."""

import statistics
import time
from urllib.parse import urlencode

import pytest
from passlib.hash import argon2, bcrypt, bcrypt_sha256, pbkdf2_sha256

from support.config import UNTHROTTLED, base
from support.http import assert_refused, log_in, send, send_json

# passlib's own settings, but for the cost of bcrypt, so that a test takes less than a second.
SCHEMES = {
    "bcrypt 2a": (bcrypt.using(rounds=10, ident="2a"), "$2a$10$"),
    "bcrypt 2b": (bcrypt.using(rounds=10), "$2b$10$"),
    "bcrypt 2y": (bcrypt.using(rounds=10, ident="2y"), "$2y$10$"),
    "argon2id": (argon2, "$argon2id$v=19$m=65536,t=3,p=4$"),
    "pbkdf2_sha256": (pbkdf2_sha256, "$pbkdf2-sha256$29000$"),
    "bcrypt_sha256 version 1": (bcrypt_sha256.using(rounds=10, version=1), "$bcrypt-sha256$2b,10$"),
    "bcrypt_sha256 version 2": (bcrypt_sha256.using(rounds=10), "$bcrypt-sha256$v=2,t=2b,r=10$"),
}
PASSWORDS = ["correct horse battery staple", "pässwörd ☂ 𝄞", " spaces around ", "x" * 72]
READ_WHOLE = ["argon2id", "pbkdf2_sha256", "bcrypt_sha256 version 1", "bcrypt_sha256 version 2"]


@pytest.fixture(scope="module")
def people(mongod):
    """The collection that both gateways of this module read."""
    database = mongod.client.passwords
    yield database.users
    mongod.client.drop_database(database.name)


@pytest.fixture(scope="module")
def refusing(mongod, people, module_gateway):
    """A gateway that refuses what bcrypt cannot read whole, as is the default."""
    return module_gateway(base("{folder}", mongod.uri(people.database.name)) + UNTHROTTLED)


@pytest.fixture(scope="module")
def truncating(mongod, people, module_gateway):
    """A gateway that reads of a long password what passlib reads of it."""
    return module_gateway(base("{folder}", mongod.uri(people.database.name)) + UNTHROTTLED + 'long_password = "truncate"\n')


def log_in_with(server, username, password):
    return send_json(server.port, "/auth/login", {"username": username, "password": password})


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_password_that_passlib_hashed_logs_in(scheme, password, people, refusing):
    handler, beginning = SCHEMES[scheme]
    stored = handler.hash(password)
    assert stored.startswith(beginning), stored
    username = f"{scheme} {password}"
    people.insert_one({"username": username, "password": stored})
    assert log_in(refusing.port, username, password)
    for wrong in [password + ".", password[:-1], password[:-1] + "\N{BULLET}", password.swapcase()]:
        if wrong != password:
            assert_refused(log_in_with(refusing, username, wrong), 401, "login_failed")


@pytest.mark.parametrize("scheme", READ_WHOLE)
def test_a_long_password_counts_whole_where_the_scheme_reads_it_whole(scheme, people, refusing, truncating):
    password = "long" * 50
    username = f"{scheme} long"
    people.insert_one({"username": username, "password": SCHEMES[scheme][0].hash(password)})
    for server in (refusing, truncating):
        assert log_in(server.port, username, password)
        assert_refused(log_in_with(server, username, password[:72]), 401, "login_failed")


LONG = {"of letters": "0123456789" * 10, "cut within a letter": "x" * 71 + "é" + "y" * 20}


@pytest.mark.parametrize("password", LONG.values(), ids=LONG)
def test_a_password_over_72_bytes_is_read_as_passlib_reads_it_or_refused(password, people, refusing, truncating):
    stored = bcrypt.using(rounds=10).hash(password)
    people.insert_one({"username": password, "password": stored})
    tried = [password, password[:72], password[:72] + "another end", password + ".", password[:71], password[:71] + "!", "!" + password[1:]]
    accepted = {candidate: bcrypt.verify(candidate, stored) for candidate in tried}
    assert set(accepted.values()) == {True, False}
    for candidate, is_good in accepted.items():
        answer = log_in_with(truncating, password, candidate)
        assert (answer.status == 200) == is_good, (candidate, answer)
        answer = log_in_with(refusing, password, candidate)
        assert (answer.status == 200) == (is_good and len(candidate.encode()) <= 72), (candidate, answer)


@pytest.fixture
def nobody_and_others(people):
    """Logins that are refused, by what is wrong with them; the first is the one that the others must be like."""
    people.delete_many({"username": {"$in": ["somebody", "disabled", "unusable", "without"]}})
    people.insert_many(
        [
            {"username": "somebody", "password": bcrypt.using(rounds=10).hash("right")},
            {"username": "disabled", "password": bcrypt.using(rounds=10).hash("wrong"), "disabled": True},
            {"username": "unusable", "password": "$2b$10$tooshort"},
            {"username": "without", "password": None},
        ]
    )
    return {
        "a wrong password": ("somebody", "wrong"),
        "nobody": ("nobody", "wrong"),
        "a password over 72 bytes": ("somebody", "wrong" * 20),
        "disabled, right password": ("disabled", "wrong"),
        "an unusable hash": ("unusable", "wrong"),
        "no hash": ("without", "wrong"),
    }


def medians(server, logins, tries, clock):
    """What each kind of refused login takes by that clock, tried one kind after the other, so that what else the machine does
    slows all of them."""
    times = {kind: [] for kind in logins}
    for _ in range(tries):
        for kind, (username, password) in logins.items():
            began = clock()
            answer = log_in_with(server, username, password)
            times[kind].append(clock() - began)
            assert_refused(answer, 401, "login_failed")
    return {kind: statistics.median(measured) for kind, measured in times.items()}


def are_alike(medians):
    first = next(iter(medians.values()))
    return all(abs(median / first - 1) < 0.15 for median in medians.values())


def test_every_refusal_costs_the_same_work(nobody_and_others, refusing):
    # The time that all processors gave to the process, in seconds: clock_getcpuclockid(3), which Python lacks.
    clock = (~refusing.process.pid << 3) | 2
    measured = medians(refusing, nobody_and_others, 9, lambda: time.clock_gettime(clock))
    assert are_alike(measured), measured
    assert measured["nobody"] > 0.02, "a hash of cost 10 was computed"


EXACT = {
    "composed": ("caf\u00e9", "cafe\u0301"),
    "decomposed": ("cafe\u0301", "caf\u00e9"),
    "with spaces": (" secret ", "secret"),
    "without spaces": ("secret", " secret "),
    "another case": ("Stra\u00dfe", "STRASSE"),
    "compatibility": ("\ufb01", "fi"),
    "without NUL": ("secret", "secret\0"),
    "before NUL": ("secret", "secret\0rest"),
    "without a mark": ("secret", "\ufeffsecret"),
    "plus": ("a+b", "a b"),
    "percent": ("a%2Bb", "a+b"),
}


@pytest.mark.parametrize("right, other", EXACT.values(), ids=EXACT)
def test_a_password_is_taken_byte_for_byte_in_json_and_in_a_form(right, other, people, refusing):
    """No normal form, no trimming, no end at a NUL: what logs in is what was hashed, whichever way it is sent."""
    username = f"exact {right} {other}"
    people.insert_one({"username": username, "password": bcrypt.using(rounds=4).hash(right)})
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for password, status in ((right, 200), (other, 401)):
        fields = urlencode({"username": username, "password": password}).encode()
        assert send(refusing.port, "POST", "/auth/login", form, fields).status == status
        assert log_in_with(refusing, username, password).status == status


def test_a_password_over_the_limit_is_refused_before_anything_is_computed(people, refusing):
    """1,025 bytes to 1 MB: the answer does not depend on the account, and no processor time is spent on a hash."""
    people.insert_one({"username": "long", "password": pbkdf2_sha256.using(rounds=10).hash("x" * 1024)})
    assert log_in(refusing.port, "long", "x" * 1024)
    clock = (~refusing.process.pid << 3) | 2
    for size, status, code in ((1025, 401, "login_failed"), (60_000, 401, "login_failed"), (1_000_000, 413, "body_too_large")):
        for username in ("long", "nobody at all"):
            began = time.clock_gettime(clock)
            assert_refused(log_in_with(refusing, username, "x" * size), status, code)
            assert time.clock_gettime(clock) - began < 0.02, "a hash of cost 10 takes longer"
