"""L8: who guesses passwords has to wait, on all gateways of a fleet, and keeps nobody else out."""

import collections
import http.client
import itertools
import json
import math
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import bson
import pymongo
import pytest

from support.clock import Clock
from support.config import base
from support.http import send
from support.people import PASSWORD, hashes
from support.processes import eventually, tollgate

GUESSES = 1000
CLIENTS = 16
ATTACKER, OWNER = "127.0.0.1", "127.0.0.2"


def log_in_from(server, address, username, password, headers=None, path="/auth/login"):
    """The status, `Retry-After` and the body of a login whose connection comes from that address of this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60, source_address=(address, 0))
    try:
        if path.endswith("/token"):
            body, kind = f"grant_type=password&username={username}&password={password}", "application/x-www-form-urlencoded"
        else:
            body, kind = json.dumps({"username": username, "password": password}), "application/json"
        connection.request("POST", path, body.encode(), {"Content-Type": kind, "Host": "science.example.org", **(headers or {})})
        response = connection.getresponse()
        return response.status, response.getheader("Retry-After"), json.loads(response.read())
    finally:
        connection.close()


def throttle(**limits):
    """`[login.throttle]` with those limits: (free, max_delay, forget)."""
    tables = [f'[login.throttle.{name}]\nfree = {free}\nmax_delay = "{delay}"\nforget = "{forget}"\n' for name, (free, delay, forget) in limits.items()]
    return "".join(tables)


def guess(fleet, logins):
    """Sends all of them at once from one address, each with another address that it claims to have; counts the statuses."""
    servers = itertools.cycle(fleet)

    def one(number_and_login):
        number, (username, password) = number_and_login
        spoofed = {"X-Forwarded-For": f"203.0.{number // 250}.{number % 250}", "Forwarded": f"for=198.51.100.{number % 250}"}
        status, retry_after, problem = log_in_from(next(servers), ATTACKER, username, password, spoofed)
        if status == 429:
            assert int(retry_after) >= 1 and problem["code"] == "login_throttled"
        return status

    with ThreadPoolExecutor(CLIENTS) as pool:
        return collections.Counter(pool.map(one, enumerate(logins)))


def tried(fleet):
    """Passwords that were checked and found wrong, as the gateways count them."""
    page = "".join(send(server.admin_port, "GET", "/metrics").body.decode() for server in fleet)
    return sum(int(line.split()[-1]) for line in page.splitlines() if line.startswith('tollgate_logins_total{result="failed"}'))


def by_then(free, seconds, gateways=2):
    """The most tries of one client in that time: those that are free and one more, on each gateway, because what two gateways hash
    at the same instant cannot be held against each other; and one after 1, 3, 7, 15 … seconds on each."""
    return gateways * (free + 1 + math.floor(math.log2(seconds + 2)))


def test_a_thousand_guesses_are_a_few_and_keep_nobody_out(mongod, database, gateway):
    fleet = [gateway(base("{folder}", mongod.uri(database.name))) for _ in range(2)]
    people = [f"person{number}" for number in range(GUESSES)]
    stored = hashes.hash(PASSWORD)
    database.users.insert_many([{"username": name, "password": stored} for name in ["owner", *people[: GUESSES // 2]]])

    began = time.monotonic()
    statuses = guess(fleet, [("owner", f"guess {number}") for number in range(GUESSES)])
    seconds = time.monotonic() - began
    at_the_hash = tried(fleet)
    print(f"one account: {GUESSES} guesses in {seconds:.1f} s, {at_the_hash} tried at the hash; statuses {dict(statuses)}")
    assert set(statuses) == {401, 429} and statuses[401] == at_the_hash
    assert 10 < at_the_hash <= by_then(10, seconds)

    for server in fleet:
        status, _, _ = log_in_from(server, OWNER, "owner", PASSWORD)
        assert status == 200, "the owner logs in from elsewhere, at once"
    status, retry_after, _ = log_in_from(fleet[0], ATTACKER, "owner", PASSWORD)
    assert status == 429 and 1 <= int(retry_after) <= 900, "not even the right password, as that would tell it"

    # Half of these accounts do not exist, and nothing tells which.
    began = time.monotonic()
    statuses = guess(fleet, [(name, "Summer2026!") for name in people])
    seconds = time.monotonic() - began
    all_tried = tried(fleet)
    print(f"many accounts: {GUESSES} guesses in {seconds:.1f} s, {all_tried - at_the_hash} tried at the hash; statuses {dict(statuses)}")
    assert set(statuses) == {401, 429}
    assert 80 < all_tried <= by_then(100, seconds) + seconds / 30
    status, _, _ = log_in_from(fleet[1], OWNER, "person7", PASSWORD)
    assert status == 200
    assert not list(database.tollgate_attempts.find({"_id": {"$type": "string"}})), "no name is kept"
    indexes = database.tollgate_attempts.index_information().values()
    assert any(index.get("expireAfterSeconds") == 0 and index["key"] == [("purge_at", 1)] for index in indexes)


def test_behind_a_trusted_proxy_the_client_counts_and_not_the_proxy(mongod, database, gateway):
    uri = mongod.uri(database.name)
    never = (1_000_000, "1s", "1s")
    config = base("{folder}", uri) + throttle(account_and_address=(2, "1m", "1m"), account=never, address=never)
    config = config.replace("[server]", '[server]\ntrusted_proxies = ["127.0.0.1"]')
    server = gateway(config)
    database.users.insert_one({"username": "owner", "password": hashes.hash(PASSWORD)})
    # The nearest hop is what the proxy has seen; what stands before it, the client may have made up.
    of_attacker = [{"X-Forwarded-For": f"10.9.8.{number}, 203.0.113.9"} for number in range(6)]
    # One network of IPv6 is one client, whatever address of it is taken.
    of_network = [{"X-Forwarded-For": f"2001:db8:0:1:{number:x}::1"} for number in range(6)]
    statuses = lambda clients: [log_in_from(server, ATTACKER, "owner", "wrong", headers)[0] for headers in clients]
    assert statuses(of_attacker[:3] + of_network[:3]) == [401] * 6
    remember_more(uri, None)
    assert statuses(of_attacker[3:] + of_network[3:]) == [429] * 6
    assert log_in_from(server, ATTACKER, "owner", PASSWORD, {"X-Forwarded-For": "198.51.100.1"})[0] == 200
    assert log_in_from(server, ATTACKER, "owner", PASSWORD, {"X-Forwarded-For": "2001:db8:0:2::1"})[0] == 200


def test_many_addresses_slow_an_account_and_known_ones_go_on(mongod, database, gateway):
    """A botnet: each address guesses once. A stranger waits, for a few seconds at most; a known address does not."""
    uri = mongod.uri(database.name)
    config = base("{folder}", uri) + throttle(account=(3, "4s", "1m"))
    fleet = [gateway(config) for _ in range(2)]
    stored = hashes.hash(PASSWORD)
    database.users.insert_many([{"username": name, "password": stored} for name in ("owner", "another")])
    assert log_in_from(fleet[0], OWNER, "owner", PASSWORD)[0] == 200
    eventually("the known address", lambda: database.tollgate_attempts.find_one({"known_until": {"$gt": 0}}))
    statuses = [log_in_from(fleet[number % 2], f"127.1.0.{number}", "owner", "wrong")[0] for number in range(1, 5)]
    assert statuses == [401] * 4
    remember_more(uri, None)
    status, retry_after, _ = log_in_from(fleet[0], "127.0.0.77", "owner", PASSWORD)
    assert status == 429 and int(retry_after) <= 4
    assert log_in_from(fleet[1], OWNER, "owner", PASSWORD)[0] == 200, "a known address of the account"
    assert log_in_from(fleet[1], OWNER, "another", PASSWORD)[0] == 200, "another account"
    (line,) = [line for line in fleet[0].audit() if line["audit.outcome"] == "throttled" and line["client.addr"] == "127.0.0.77"]
    assert line["audit.reason"] == "account" and line["login"] == "owner" and line["subject"]
    # Whatever was counted, so many seconds after the last failure it is over, for a stranger, too.
    database.tollgate_attempts.update_many({}, {"$set": {"failed_at": int(time.time()) - 4}})
    assert log_in_from(fleet[0], "127.0.0.77", "owner", PASSWORD)[0] == 200


@pytest.fixture(params=["sqlite", "mongodb"])
def store(request, tmp_path):
    if request.param == "sqlite":
        return None
    return request.getfixturevalue("mongod").uri(request.getfixturevalue("database").name)


def test_typing_errors_cost_nothing_and_a_success_forgets_them(store, gateway, tmp_path):
    server = gateway(base(tmp_path, store))
    added = tollgate("user", "add", "ada", "--password-stdin", "-c", server.config, stdin=PASSWORD)
    assert added.returncode == 0, added.stderr
    statuses = lambda count, name: [log_in_from(server, ATTACKER, name, "wrong")[0] for _ in range(count)]
    for _ in range(2):
        assert statuses(10, "ada") == [401] * 10
        assert log_in_from(server, ATTACKER, "ada", PASSWORD)[0] == 200
        # It is forgotten after the answer.
        forgotten = lambda: server_forgot(store, tmp_path)
        eventually("the failures to be forgotten", forgotten)
    known, unknown = statuses(11, "ada"), statuses(11, "nobody")
    assert known[:11] == unknown[:11] == [401] * 11, "who is nobody is told the same"
    remember_more(store, tmp_path)
    status, retry_after, problem = log_in_from(server, ATTACKER, "ada", PASSWORD)
    assert status == 429 and int(retry_after) > 600 and problem["code"] == "login_throttled" and problem["status"] == 429
    status, retry_after, body = log_in_from(server, ATTACKER, "nobody", "wrong", path="/auth/token")
    assert status == 429 and int(retry_after) > 600
    assert body["error"] == "temporarily_unavailable" and body["error_description"], body
    page = send(server.admin_port, "GET", "/metrics").body.decode()
    assert 'tollgate_refusals_total{code="login_throttled"} ' in page
    assert 'tollgate_audit_events_total{event="login",outcome="throttled"} 0' not in page
    assert 'tollgate_logins_total{result="throttled"} 0' not in page


def server_forgot(store, folder):
    """Whether a record of the store has no failure and a known address."""
    if store is None:
        with sqlite3.connect(f"file:{folder}/tollgate.db?mode=ro", uri=True, timeout=30) as file:
            return file.execute("SELECT count(*) FROM attempts WHERE owes_until = 0 AND known_until > 0").fetchone()[0]
    with pymongo.MongoClient(store) as client:
        return client.get_default_database().tollgate_attempts.find_one({"owes_until": 0, "known_until": {"$gt": 0}})


def remember_more(store, folder):
    """As if more failures had happened, for all that failed, by a clock that is a little ahead, as far as is believed: the first
    waits are so short that a slow machine would miss them."""
    failed_at = int(time.time()) + 50
    if store is None:
        with sqlite3.connect(folder / "tollgate.db", timeout=30) as file:
            file.execute("UPDATE attempts SET owes_until = owes_until + 18000, failed_at = ? WHERE owes_until > 0", [failed_at])
        return
    with pymongo.MongoClient(store) as client:
        changed = {"$inc": {"owes_until": 18000}, "$set": {"failed_at": bson.Int64(failed_at)}}
        client.get_default_database().tollgate_attempts.update_many({"owes_until": {"$gt": 0}}, changed)


def test_one_gateway_whose_clock_is_ahead_keeps_nobody_out_at_the_others(store, gateway, tmp_path):
    """Two hours: what it counts would otherwise be in the future of all others until then."""
    limits = throttle(account=(1000, "10s", "1m"), account_and_address=(2, "15m", "10m"), address=(1000, "1m", "30s"))
    config = base(tmp_path, store) + limits
    right = gateway(config)
    ahead = gateway(config, Clock(tmp_path, "+2h").environment)
    added = tollgate("user", "add", "ada", "--password-stdin", "-c", right.config, stdin=PASSWORD)
    assert added.returncode == 0, added.stderr
    assert [log_in_from(ahead, ATTACKER, "ada", "wrong")[0] for _ in range(3)] == [401] * 3
    assert log_in_from(right, ATTACKER, "ada", "wrong")[0] == 401
    assert log_in_from(right, ATTACKER, "ada", PASSWORD)[0] == 200
    # Those with the right time count among themselves as ever, also over what the other has written.
    assert [log_in_from(ahead, ATTACKER, "bob", "wrong")[0] for _ in range(3)] == [401] * 3
    assert [log_in_from(right, ATTACKER, "bob", "wrong")[0] for _ in range(3)] == [401] * 3
    remember_more(store, tmp_path)
    assert log_in_from(right, ATTACKER, "bob", "wrong")[0] == 429


def test_a_database_that_takes_no_failures_locks_nobody_out(mongod, database, gateway):
    """As one whose user may not write there: the failures count in the gateway, and pass."""
    database.users.insert_one({"username": "ada", "password": hashes.hash(PASSWORD)})
    database.command("create", "tollgate_attempts", validator={"nobody": "writes here"})
    server = gateway(base("{folder}", mongod.uri(database.name)) + throttle(account_and_address=(1, "2s", "1m")))
    statuses = [log_in_from(server, ATTACKER, "ada", "wrong")[0] for _ in range(2)]
    assert statuses == [401, 401]
    # However slow it is, one of many that follow without a pause comes too soon.
    refused = lambda: log_in_from(server, ATTACKER, "ada", "wrong")[0] == 429
    eventually("a login that has to wait", refused)
    eventually("the end of the wait", lambda: log_in_from(server, ATTACKER, "ada", PASSWORD)[0] == 200)
    assert any(line["message"] == "Failed login not counted in the store" for line in server.log())


def test_many_known_people_behind_one_address_are_bound_by_it_at_last(gateway, tmp_path):
    """Ten times what binds strangers, in their own counter; of each of them it is a few only."""
    limits = throttle(account=(1000, "10s", "1m"), account_and_address=(1000, "1m", "1m"), address=(1, "1m", "1m"))
    server = gateway(base(tmp_path) + limits)
    people = [f"person{number}" for number in range(4)]
    for name in people:
        assert tollgate("user", "add", name, "--password-stdin", "-c", server.config, stdin=PASSWORD).returncode == 0
        assert log_in_from(server, OWNER, name, PASSWORD)[0] == 200
    known = lambda: sqlite3.connect(f"file:{tmp_path}/tollgate.db?mode=ro", uri=True, timeout=30).execute(
        "SELECT count(*) FROM attempts WHERE known_until > 0"
    ).fetchone()[0]
    eventually("four known pairs", lambda: known() == len(people))
    # All that is remembered is a minute or 6 s for each failure; a slow machine may be given more of them.
    statuses = [log_in_from(server, OWNER, people[number % 4], "wrong")[0] for number in range(11)]
    assert statuses == [401] * 11
    assert log_in_from(server, "127.0.0.3", people[0], PASSWORD)[0] == 200, "from elsewhere"
    remember_more(None, tmp_path)
    status, _, _ = log_in_from(server, OWNER, people[0], PASSWORD)
    assert status == 429


def test_records_that_are_of_no_use_are_taken_away_in_sqlite(gateway, tmp_path):
    server = gateway(base(tmp_path) + throttle(account_and_address=(1, "1s", "1s"), account=(1, "1s", "1s"), address=(1, "1s", "1s")))
    for number in range(3):
        log_in_from(server, f"127.2.0.{number + 1}", f"nobody{number}", "wrong")

    def left():
        log_in_from(server, "127.3.0.1", "one more", "wrong")
        with sqlite3.connect(f"file:{tmp_path}/tollgate.db?mode=ro", uri=True, timeout=30) as file:
            return file.execute("SELECT count(*) FROM attempts").fetchone()[0]

    eventually("the old records to go", lambda: left() <= 4)


def test_switched_off_nobody_waits_and_nothing_is_kept(gateway, tmp_path):
    server = gateway(base(tmp_path) + "[login.throttle]\nenabled = false\n")
    assert [log_in_from(server, ATTACKER, "nobody", "wrong")[0] for _ in range(14)] == [401] * 14
    with sqlite3.connect(f"file:{tmp_path}/tollgate.db?mode=ro", uri=True, timeout=30) as file:
        assert file.execute("SELECT count(*) FROM attempts").fetchone()[0] == 0
