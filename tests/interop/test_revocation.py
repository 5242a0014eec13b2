"""A session that ends takes its access tokens with it, on every gateway, and nobody waits for a database for it."""

import time
from concurrent.futures import ThreadPoolExecutor

import jwt
import pymongo
import pytest
from pymongo.errors import PyMongoError

from support.clock import Clock
from support.config import ENVIRONMENT, TRUSTED_LAB, lab_token
from support.databases import Standalone
from support.http import assert_refused, bearer, log_in, send
from support.people import PASSWORD, hashes
from support.processes import eventually, tollgate
from support.relay import Relay
from support.revoking import (
    Documents,
    Rows,
    config,
    is_ready,
    me,
    metric,
    moment,
    report,
    session_id,
    times_to_refusal,
    token,
    until_refused,
)

# What the documents promise.
BOUND = 2.0


@pytest.fixture
def replica(tmp_path):
    """A replica set of one that the test may kill, pause and start again."""
    server = Standalone(tmp_path / "replica", "--replSet", "rs0")
    with server.client() as client:
        members = [{"_id": 0, "host": f"127.0.0.1:{server.port}"}]
        client.admin.command("replSetInitiate", {"_id": "rs0", "members": members})
    primary(server)
    yield server
    server.stop()


def primary(server):
    def is_primary():
        with server.client(serverSelectionTimeoutMS=500) as client:
            try:
                return client.admin.command("hello")["isWritablePrimary"]
            except PyMongoError:
                return False

    eventually("the primary of the replica set", is_primary, 60)


@pytest.fixture
def alone(tmp_path):
    server = Standalone(tmp_path / "alone")
    yield server
    server.stop()


def checked_fleet(what, sessions, fleet, mode, at_once):
    for gateway in fleet:
        eventually("the feed", lambda: metric(gateway, f'tollgate_revocation_feed_mode{{mode="{mode}"}}') == 1)
    times = times_to_refusal(sessions, fleet, tries=50, at_once=at_once)
    assert len(times) == 50 * len(fleet)
    assert report(what, times) <= BOUND
    for gateway in fleet:
        assert metric(gateway, "tollgate_revocation_lag_seconds_count") == 50
        assert metric(gateway, 'tollgate_revocation_lag_seconds_bucket{le="2"}') >= 49
        assert metric(gateway, "tollgate_revoked_sessions") == 50
        assert metric(gateway, "tollgate_revocation_feed_age_seconds") < BOUND


def test_with_a_change_stream_every_gateway_refuses_within_two_seconds(mongod, database, gateway, echo):
    fleet = [gateway(config(mongod.uri(database.name), echo)) for _ in range(2)]
    checked_fleet("change stream", Documents(database), fleet, "change_stream", at_once=2)


def test_a_standalone_server_is_polled_and_every_gateway_refuses_within_two_seconds(alone, gateway, echo):
    fleet = [gateway(config(alone.uri("polled"), echo)) for _ in range(2)]
    with alone.client() as client:
        checked_fleet("polling a standalone server", Documents(client.polled), fleet, "polling", at_once=10)


def test_a_sqlite_file_is_polled_and_every_gateway_refuses_within_two_seconds(tmp_path, gateway, echo):
    path = tmp_path / "shared.db"
    fleet = [gateway(config(f"sqlite://{path}", echo)) for _ in range(2)]
    checked_fleet("polling a SQLite file", Rows(path), fleet, "polling", at_once=10)


def test_polling_can_be_chosen_on_a_replica_set(mongod, database, gateway, echo):
    server = gateway(config(mongod.uri(database.name), echo, 'feed = "polling"\npoll_interval = "100ms"'))
    sessions, sid = Documents(database), session_id()
    sessions.begin(sid)
    held = token(sid)
    assert me(server, held).status == 200
    sessions.end(sid)
    until_refused(server, held)
    assert metric(server, 'tollgate_revocation_feed_mode{mode="polling"}') == 1


def test_the_refusal_says_so_everywhere_and_touches_no_other_token(mongod, database, gateway, echo):
    server = gateway(config(mongod.uri(database.name), echo) + TRUSTED_LAB)
    sessions, (ended, lives) = Documents(database), (session_id(), session_id())
    for sid in (ended, lives):
        sessions.begin(sid)
    held, other, sessionless = token(ended), token(lives), token(None)
    # Whatever another issuer calls its sessions, they are none of ours.
    foreign = lab_token(sid=ended)
    for path in ("/lenient/a", "/strict/a", "/either/a"):
        for bearing in (held, other, sessionless, foreign):
            assert send(server.port, "GET", path, bearer(bearing)).status == 200
    sessions.end(ended)
    until_refused(server, held)
    for path in ("/lenient/a", "/strict/a", "/either/a", "/auth/me"):
        answer = send(server.port, "GET", path, bearer(held))
        assert_refused(answer, 401, "token_revoked")
        assert answer.header("WWW-Authenticate") == (
            'Bearer realm="tollgate", error="invalid_token", error_description="token_revoked"'
        )
        for bearing in (other, sessionless, foreign):
            assert send(server.port, "GET", path, bearer(bearing)).status == 200
    # One that was never seen here is refused as well, and a fresh one of the same session.
    assert_refused(me(server, token(ended)), 401, "token_revoked")
    assert send(server.port, "GET", "/either/a").status == 200
    for wrong in ("", "short", ended + "A", ended + "==", 5, [ended]):
        assert_refused(me(server, token(wrong)), 401, "token_malformed")


def test_who_logged_in_loses_access_everywhere_when_the_session_ends(mongod, database, gateway, echo):
    fleet = [gateway(config(mongod.uri(database.name), echo)) for _ in range(3)]
    database.users.insert_one({"username": "ada", "password": hashes.hash(PASSWORD)})
    first, second = (log_in(fleet[0].port, "ada", PASSWORD) for _ in range(2))
    for server in fleet:
        assert me(server, first).status == me(server, second).status == 200
    Documents(database).end(jwt.decode(first, options={"verify_signature": False})["sid"])
    for server in fleet:
        until_refused(server, first, BOUND)
        assert me(server, second).status == 200


def test_commands_end_sessions_on_every_gateway(tmp_path, gateway, echo):
    path = tmp_path / "shared.db"
    fleet = [gateway(config(f"sqlite://{path}", echo)) for _ in range(2)]

    def command(*words, stdin=""):
        done = tollgate(*words, "-c", fleet[0].config, stdin=stdin, environment=ENVIRONMENT)
        assert done.returncode == 0, done.stderr

    people = ("ada", "bob", "eve", "ida")
    for name in people:
        command("user", "add", name, "--password-stdin", stdin=PASSWORD)
    held = {name: [log_in(server.port, name, PASSWORD) for server in fleet] for name in people}
    one = jwt.decode(held["ada"][0], options={"verify_signature": False})["sid"]
    statuses = lambda name: [me(server, each).status for each in held[name] for server in fleet]
    assert all(statuses(name) == [200] * 4 for name in people)
    for name, words in {
        "ada": ("session", "revoke", one),
        "bob": ("session", "revoke", "--user", "bob"),
        "eve": ("user", "disable", "eve"),
    }.items():
        command(*words)
        expected = [401, 401, 200, 200] if name == "ada" else [401] * 4
        eventually(f"the refusal of {name}", lambda: statuses(name) == expected, BOUND)
        assert statuses("ida") == [200] * 4


def test_explain_says_whether_the_session_has_ended(tmp_path, gateway, echo):
    path = tmp_path / "shared.db"
    server = gateway(config(f"sqlite://{path}", echo))
    sessions, sid = Rows(path), session_id()

    def explained(target="/lenient/a"):
        answer = tollgate("explain", "GET", target, "-", "-c", server.config, stdin=held, environment=ENVIRONMENT)
        assert answer.returncode in (0, 1), answer.stderr
        return answer.stdout

    held = token(sid)
    assert "the store has no row of it" in explained()
    sessions.begin(sid)
    assert f"`{sid}` has not ended" in explained()
    assert "a strict route" in explained("/strict/a") and "allowed" in explained("/strict/a")
    sessions.end(sid)
    told = explained()
    assert "the session of the token has ended" in told and f"`{sid}` ended at 20" in told and "`revoked`" in told
    assert "refused: 401 `token_revoked`" in told


def test_a_gateway_that_starts_knows_what_ended_before(mongod, database, gateway, echo):
    sessions, sid = Documents(database), session_id()
    sessions.begin(sid)
    sessions.end(sid)
    server = gateway(config(mongod.uri(database.name), echo))
    assert_refused(me(server, token(sid)), 401, "token_revoked")
    assert is_ready(server)
    # What had ended before says nothing of how soon ends are heard of.
    assert metric(server, "tollgate_revocation_lag_seconds_count") == 0


@pytest.mark.parametrize("store", ["sqlite", "mongodb"])
def test_a_clock_that_is_wrong_for_a_while_forgets_no_end(store, mongod, database, tmp_path, gateway, echo):
    clock, sid, now = Clock(tmp_path), session_id(), int(time.time())
    if store == "sqlite":
        path, file = tmp_path / "shared.db", tmp_path / "users.toml"
        sessions, settings = Rows(path), config(f"sqlite://{path}", echo)
        # It makes the file.
        file.write_text(settings.replace("{folder}", str(tmp_path)))
        made = tollgate("user", "add", "ada", "--password-stdin", "-c", file, stdin=PASSWORD, environment=ENVIRONMENT)
        assert made.returncode == 0, made
    else:
        sessions, settings = Documents(database), config(mongod.uri(database.name), echo)
    sessions.begin(sid)
    # Longer ago than what is read again and again.
    sessions.end(sid, now - 200)
    server = gateway(settings, clock.environment)
    held = token(sid, iat=now - 250)
    assert_refused(me(server, held), 401, "token_revoked")
    # By such a clock all tokens of the session have expired, and at the next look, within 5 s, it is forgotten.
    clock.move("+10m")
    eventually("a look at the clock", lambda: metric(server, "tollgate_revoked_sessions") == 0)
    clock.move("+0")
    until_refused(server, held, BOUND)


def test_a_row_that_cannot_be_read_hides_no_other(alone, gateway, echo):
    with alone.client() as client:
        sessions, sid = Documents(client.odd), session_id()
        strange = [{"_id": 5}, {"_id": "?"}, {"_id": {"a": 1}}, {"_id": session_id(), "subject": 7}]
        client.odd.tollgate_sessions.insert_many([{**row, "ended_at": moment()} for row in strange])
        client.odd.tollgate_sessions.insert_one({"_id": session_id(), "ended_at": "yesterday"})
        sessions.begin(sid)
        server = gateway(config(alone.uri("odd"), echo))
        held = token(sid)
        assert me(server, held).status == 200
        sessions.end(sid)
        until_refused(server, held)


def test_more_ends_than_are_kept_refuse_all_tokens_from_before(mongod, database, gateway, echo):
    server = gateway(config(mongod.uri(database.name), echo, "max_entries = 1000", 'leeway = "0s"'))
    alive, now = session_id(), int(time.time())
    old, fresh = token(alive, iat=now - 120), token(alive)
    assert me(server, old).status == me(server, fresh).status == 200
    # Twelve a second until a minute ago, whole documents as a restored copy brings them. The newest 500 to 1,000 are kept, and
    # what was issued up to 45 s after the others, the longest that an end may take to be seen, is refused.
    ended = [(session_id(), now - 60 - number // 12) for number in range(2500)]
    database.tollgate_sessions.insert_many([{"_id": sid, "ended_at": moment(at)} for sid, at in ended])
    refused = until_refused(server, old)
    assert "refresh" in refused.json()["detail"]
    eventually("all of them", lambda: metric(server, "tollgate_revocation_overflows_total") >= 1)
    assert metric(server, "tollgate_revoked_sessions") <= 1000
    assert me(server, fresh).status == 200
    last = lambda: me(server, token(ended[0][0])).status == 401
    eventually("the newest end", last)
    for sid, at in ended[::100]:
        assert_refused(me(server, token(sid, iat=at - 1)), 401, "token_revoked")


def test_a_database_that_hangs_closes_strict_routes_only_and_opens_them_again(replica, gateway, echo):
    server = gateway(config(replica.uri("hung", "?replicaSet=rs0"), echo, 'max_feed_age = "5s"'))
    held = token(session_id())
    status = lambda path: send(server.port, "GET", path, bearer(held)).status
    assert status("/strict/a") == status("/lenient/a") == 200
    replica.pause()
    paused = time.monotonic()
    while status("/strict/a") == 200:
        assert status("/lenient/a") == 200
        assert time.monotonic() - paused < 15, "a strict route is served without word of ended sessions"
        time.sleep(0.05)
    closed_after = time.monotonic() - paused
    assert closed_after >= 3.5, f"closed after {closed_after:.1f} s of 5 s"
    answer = send(server.port, "GET", "/strict/a", bearer(held))
    assert_refused(answer, 503, "revocation_unknown")
    assert int(answer.header("Retry-After")) >= 1
    # Who shows no token has no session that could have ended; and a bad token is told so first.
    assert send(server.port, "GET", "/either/a").status == 200
    assert send(server.port, "GET", "/either/a", bearer(held)).status == 503
    assert_refused(send(server.port, "GET", "/strict/a", bearer(token(None, sub=5))), 401, "token_malformed")
    assert status("/lenient/a") == 200 and me(server, held).status == 200
    # A proxy that asks is told as much as it asks for.
    assert status("/auth/check") == status("/auth/check?revocation=lenient") == 200
    answer = send(server.port, "GET", "/auth/check?revocation=strict", bearer(held))
    assert_refused(answer, 503, "revocation_unknown")
    assert_refused(send(server.port, "GET", "/auth/check?revocation=strict"), 401, "token_missing")
    assert is_ready(server), "an outage takes nobody out of service"
    assert metric(server, "tollgate_revocation_feed_age_seconds") > 5
    replica.resume()
    resumed = time.monotonic()
    eventually("the strict route", lambda: status("/strict/a") == 200, 30)
    assert status("/auth/check?revocation=strict") == 200
    print(f"\nstrict: closed {closed_after:.1f} s after the database hung, open {time.monotonic() - resumed:.1f} s after")


def test_before_the_first_word_nothing_strict_is_served_and_nobody_is_ready(tmp_path, gateway, echo):
    server = Standalone(tmp_path / "late")
    server.kill()
    try:
        waiting = gateway(config(server.uri("late"), echo))
        held = token(session_id())
        get = lambda path: send(waiting.port, "GET", path, bearer(held))
        assert get("/lenient/a").status == 200
        assert_refused(get("/strict/a"), 503, "revocation_unknown")
        ready = send(waiting.admin_port, "GET", "/readyz")
        assert ready.status == 503 and b"sessions" in ready.body
        assert metric(waiting, "tollgate_revocation_feed_age_seconds") == float("inf")
        server.start()
        eventually("readiness", lambda: is_ready(waiting), 30)
        assert get("/strict/a").status == 200
    finally:
        server.stop()


def test_what_ends_while_a_gateway_is_cut_off_is_known_when_it_is_back(replica, gateway, echo):
    relay = Relay(replica.port)
    uri = f"mongodb://127.0.0.1:{relay.port}/cut?directConnection=true"
    server = gateway(config(uri, echo))
    stream = 'tollgate_revocation_feed_mode{mode="change_stream"}'
    eventually("the change stream", lambda: metric(server, stream) == 1)
    with replica.client() as client:
        sessions = Documents(client.cut)
        for trouble in ("cut", "switched", "silent"):
            sid = session_id()
            sessions.begin(sid)
            held = token(sid)
            assert me(server, held).status == 200
            if trouble == "cut":
                relay.cut()
                sessions.end(sid)
            elif trouble == "switched":
                relay.switch(None)
                sessions.end(sid)
                eventually("the loss", lambda: metric(server, stream) == 0)
                assert me(server, held).status == 200
                relay.switch(replica.port)
            else:
                relay.fall_silent()
                sessions.end(sid)
                eventually("the loss", lambda: metric(server, stream) == 0)
                relay.speak()
            back = time.monotonic()
            until_refused(server, held)
            print(f"\n{trouble}: known {time.monotonic() - back:.2f} s after the network was back")
            eventually("the change stream", lambda: metric(server, stream) == 1)
    relay.stop()


def test_a_killed_primary_loses_no_end(replica, gateway, echo):
    server = gateway(config(replica.uri("killed", "?replicaSet=rs0"), echo))
    stream = 'tollgate_revocation_feed_mode{mode="change_stream"}'
    eventually("the change stream", lambda: metric(server, stream) == 1)
    with replica.client() as client:
        sessions, held = Documents(client.killed), {}
        for _ in range(20):
            sid = session_id()
            sessions.begin(sid)
            held[sid] = token(sid)
            assert me(server, held[sid]).status == 200
        before, after = list(held)[:10], list(held)[10:]
        with ThreadPoolExecutor(10) as pool:
            list(pool.map(sessions.end, before))
    # At once, so that some of them have not been told.
    replica.kill()
    eventually("the loss", lambda: metric(server, stream) == 0)
    replica.start("--replSet", "rs0")
    primary(replica)
    with replica.client() as client:
        sessions = Documents(client.killed)
        for sid in after:
            sessions.end(sid)
    ended = time.monotonic()
    for held_token in held.values():
        until_refused(server, held_token)
    print(f"\nkilled: all 20 ends known {time.monotonic() - ended:.2f} s after the last")


@pytest.fixture
def three(tmp_path):
    """A replica set of three, quick to elect."""
    servers = [Standalone(tmp_path / f"member{number}", "--replSet", "rs0") for number in range(3)]
    members = [{"_id": number, "host": f"127.0.0.1:{server.port}"} for number, server in enumerate(servers)]
    with servers[0].client() as client:
        settings = {"electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500}
        client.admin.command("replSetInitiate", {"_id": "rs0", "members": members, "settings": settings})
    hosts = ",".join(member["host"] for member in members)
    client = pymongo.MongoClient(f"mongodb://{hosts}/?replicaSet=rs0", serverSelectionTimeoutMS=60_000, w="majority")
    client.admin.command("ping")
    eventually("all members", lambda: len(client.secondaries) == 2 and client.primary, 60)
    yield servers, client, f"mongodb://{hosts}/fleet?replicaSet=rs0"
    client.close()
    for server in servers:
        server.stop()


def test_no_end_is_lost_while_another_primary_is_elected(three, gateway, echo):
    servers, client, uri = three
    fleet = [gateway(config(uri, echo)) for _ in range(2)]
    sessions, held = Documents(client.fleet), {}
    for _ in range(60):
        sid = session_id()
        sessions.begin(sid)
        held[sid] = token(sid)
    for sid in list(held)[::6]:
        assert [me(server, held[sid]).status for server in fleet] == [200, 200]
    killed, times = None, []
    for number, sid in enumerate(held):
        if number == 20:
            (killed,) = [server for server in servers if server.port == client.primary[1]]
            killed.kill()
        # The driver tries a write again on the next primary.
        sessions.end(sid)
        ended, waiting = time.monotonic(), list(fleet)
        while waiting:
            for server in list(waiting):
                if me(server, held[sid]).status == 401:
                    times.append(time.monotonic() - ended)
                    waiting.remove(server)
            assert time.monotonic() - ended < 20, f"an ended session is accepted for 20 s, the {number}th"
            time.sleep(0.002)
    assert report("a primary killed among 60 ends", sorted(times)) <= BOUND


def test_a_dropped_collection_does_not_end_the_feed(mongod, database, gateway, echo):
    server = gateway(config(mongod.uri(database.name), echo))
    stream = 'tollgate_revocation_feed_mode{mode="change_stream"}'
    eventually("the change stream", lambda: metric(server, stream) == 1)
    sessions, first, second = Documents(database), session_id(), session_id()
    sessions.begin(first)
    sessions.end(first)
    until_refused(server, token(first))
    database.tollgate_sessions.drop()
    sessions.begin(second)
    sessions.end(second)
    until_refused(server, token(second))
    eventually("the change stream", lambda: metric(server, stream) == 1)
    assert_refused(me(server, token(first)), 401, "token_revoked")


def test_a_remembered_token_ends_with_its_time_and_is_no_other(mongod, database, gateway, echo):
    server = gateway(config(mongod.uri(database.name), echo, tokens='leeway = "0s"'))
    held = token(session_id(), life=3)
    assert [me(server, held).status for _ in range(3)] == [200, 200, 200]
    # The last character stands for six bits of the signature, of which the lowest two are none: any other one is another token.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for last in alphabet:
        if last != held[-1]:
            answer = me(server, held[:-1] + last)
            assert answer.status == 401 and answer.json()["code"] in ("token_signature", "token_malformed"), answer
    assert me(server, held).status == 200
    eventually("its end", lambda: me(server, held).status == 401, 10)
    assert_refused(me(server, held), 401, "token_expired")
    hits = metric(server, "tollgate_token_cache_hits_total")
    assert_refused(me(server, held), 401, "token_expired")
    assert metric(server, "tollgate_token_cache_hits_total") == hits
