"""Signing keys that change while a fleet serves: by an operator's word and by the calendar, and what a stolen key is worth then.

K6, J23: a key is published before it signs and until its last token has expired; a key that is taken away takes its tokens with it,
also those that gateways remember."""

import json
import threading
import time

import jwt
import pytest

from support.clock import Clock
from support.config import base
from support.databases import Standalone
from support.http import assert_refused, bearer, log_in, send, send_json
from support.people import PASSWORD, hashes
from support.processes import eventually, tollgate

AUDIENCE = "tollgate"
# Twice the time between two looks, and the time of a look on a busy machine.
FOLLOWED = 12.0


def kid(token):
    return jwt.get_unverified_header(token)["kid"]


def published(server):
    return {key["kid"] for key in send(server.port, "GET", "/.well-known/jwks.json").json()["keys"]}


def accepted(server, token):
    answer = send(server.port, "GET", "/auth/me", bearer(token))
    assert answer.status == 200, answer
    return answer


class Fleet:
    """Gateways on one store, with the user `alice`, and the operator's commands on it."""

    def __init__(self, gateway, folder, store, size, tokens="", environment=None):
        self.environment, self.config = environment or {}, folder / "operator.toml"
        config = base(folder, store) + f"\n[tokens]\n{tokens}\n"
        self.config.write_text(config)
        first = gateway(config, self.environment)
        if store.startswith("sqlite"):
            self("user", "add", "alice", "--password-stdin", stdin=f"{PASSWORD}\n")
        self.gateways = [first, *(gateway(config, self.environment) for _ in range(size - 1))]

    def __call__(self, *words, stdin="", status=0):
        done = tollgate(*words, "-c", self.config, stdin=stdin, environment=self.environment)
        assert done.returncode == status, done
        return done

    def keys(self):
        return {key["kid"]: key for key in json.loads(self("key", "list", "--json").stdout)}

    def everywhere(self, what, probe, seconds=FOLLOWED):
        for server in self.gateways:
            eventually(f"{what} on {server.url}", lambda: probe(server), seconds)

    def log_in(self, number=0):
        return log_in(self.gateways[number % len(self.gateways)].port, "alice", PASSWORD)


def begin(fleet):
    """A session with both of its tokens."""
    form = f"grant_type=password&username=alice&password={PASSWORD}".replace(" ", "+").encode()
    answer = send(fleet.gateways[0].port, "POST", "/auth/token", {"Content-Type": "application/x-www-form-urlencoded"}, form)
    assert answer.status == 200, answer
    return answer.json()


class Traffic:
    """Logs in on each gateway in turn, and shows every token to all gateways and to PyJWT, until it is stopped. PyJWKClient keeps
    the key set of one gateway for 5 minutes, or until it meets a key that it does not know. Then it fetches the set anew, but not
    within 30 seconds by default, which is why `rotate --now` takes 45; here both are a third of that."""

    def __init__(self, fleet):
        self.fleet, self.over, self.problems = fleet, threading.Event(), []
        self.tokens = []
        self.outside = [jwt.PyJWKClient(f"{server.url}/.well-known/jwks.json", cooldown_duration=10) for server in fleet.gateways]
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        try:
            while not self.over.is_set():
                token = self.fleet.log_in(len(self.tokens))
                self.tokens.append(token)
                for server, outside in zip(self.fleet.gateways, self.outside):
                    # The first token of all is remembered by now; the last is new to all but one.
                    for shown in (token, self.tokens[0]):
                        accepted(server, shown)
                    key = outside.get_signing_key_from_jwt(token)
                    jwt.decode(token, key, ["ES256"], audience=AUDIENCE)
        except Exception as problem:  # Told by the thread that waits for it.
            self.problems.append(problem)

    def kids(self):
        return [kid(token) for token in self.tokens]

    def stop(self):
        self.over.set()
        self.thread.join(60)
        assert not self.problems, self.problems


@pytest.fixture(scope="module")
def standalone(tmp_path_factory):
    server = Standalone(tmp_path_factory.mktemp("standalone"))
    with server.client() as client:
        client.keys.users.insert_one({"username": "alice", "password": hashes.hash(PASSWORD)})
    yield server
    server.stop()


def test_a_rotation_refuses_no_token_and_a_retirement_refuses_all(standalone, gateway, tmp_path):
    """On a SQLite file and on a MongoDB without a replica set, at the same time, in real time."""
    (tmp_path / "sqlite").mkdir()
    (tmp_path / "mongodb").mkdir()
    fleets = [
        Fleet(gateway, tmp_path / "sqlite", f"sqlite://{tmp_path}/sqlite/tollgate.db", 2),
        Fleet(gateway, tmp_path / "mongodb", standalone.uri("keys"), 2),
    ]
    sessions = [begin(fleet) for fleet in fleets]
    traffic = [Traffic(fleet) for fleet in fleets]
    news = []
    try:
        for fleet, stream in zip(fleets, traffic):
            eventually("tokens of the first key", lambda: len(stream.tokens) > 2 or stream.problems)
            news.append(fleet("key", "rotate", "--after", "15s").stdout.strip())
        rotated = time.monotonic()
        for fleet, stream, new in zip(fleets, traffic, news):
            old = stream.kids()[0]
            fleet.everywhere("both keys", lambda server: published(server) == {old, new})
            assert set(stream.kids()) == {old}, "the new key has signed before everybody knew it"
            states = {name: key["state"] for name, key in fleet.keys().items()}
            assert states == {old: "signs", new: "next"}
        for stream, new in zip(traffic, news):
            eventually("tokens of the new key", lambda: new in stream.kids() or stream.problems, 30)
            assert time.monotonic() - rotated > 12, "it has signed before its time"
            eventually("more of them", lambda: stream.kids().count(new) > 5 or stream.problems)
    finally:
        for stream in traffic:
            stream.stop()

    for fleet, stream, new, session in zip(fleets, traffic, news, sessions):
        old, kids = stream.kids()[0], stream.kids()
        # Every gateway changes by its own clock, which here is the same.
        assert kids == sorted(kids, key=[old, new].index), "a key has signed after its successor"
        assert published(fleet.gateways[0]) == {old, new}, "the old one is there as long as its tokens"
        assert fleet.keys()[old]["state"] == "verifies"
        stolen, fresh = stream.tokens[0], stream.tokens[-1]
        for server in fleet.gateways:
            accepted(server, stolen)

        began = time.monotonic()
        fleet("key", "retire", old, "--now")
        refused = lambda server: send(server.port, "GET", "/auth/me", bearer(stolen)).status == 401
        fleet.everywhere("the refusal of a remembered token of the stolen key", refused)
        seconds = time.monotonic() - began
        print(f"{len(stream.tokens)} tokens, none refused; after the retirement all refused the old within {seconds:.1f} s")
        for server in fleet.gateways:
            assert_refused(send(server.port, "GET", "/auth/me", bearer(stolen)), 401, "token_key_unknown")
            assert published(server) == {new}
            accepted(server, fresh)
        with pytest.raises(jwt.PyJWKClientError):
            jwt.PyJWKClient(f"{fleet.gateways[0].url}/.well-known/jwks.json").get_signing_key_from_jwt(stolen)
        # Who has logged in before stays so, also with a client that shows the old access token when it refreshes.
        held = bearer(session["access_token"])
        assert_refused(send(fleet.gateways[0].port, "GET", "/auth/me", held), 401, "token_key_unknown")
        answer = send_json(fleet.gateways[0].port, "/auth/refresh", {"refresh_token": session["refresh_token"]}, held)
        assert answer.status == 200 and kid(answer.json()["access_token"]) == new, answer


def test_keys_change_by_the_calendar_on_a_whole_fleet(mongod, database, gateway, tmp_path):
    """Three gateways on a replica set, `rotate_every`, and a clock that the test moves."""
    database.users.insert_one({"username": "alice", "password": hashes.hash(PASSWORD)})
    clock = Clock(tmp_path)
    tokens = 'rotate_every = "1h"\naccess_ttl = "5m"\nleeway = "30s"'
    fleet = Fleet(gateway, tmp_path, mongod.uri(database.name), 3, tokens, clock.environment)
    (first,) = published(fleet.gateways[0])

    clock.move("+45m")
    robot = fleet("token", "mint", "--subject", "robot", "--ttl", "2h").stdout.strip()
    clock.move("+51m")
    fleet.everywhere("the next key, 10 minutes ahead", lambda server: len(published(server)) == 2)
    (second,) = published(fleet.gateways[0]) - {first}
    stored = list(database.tollgate_keys.find({"algorithm": "ES256"}))
    assert len(stored) == 2 and all(published(server) == {first, second} for server in fleet.gateways), "two successors"
    outside = jwt.PyJWKClient(f"{fleet.gateways[1].url}/.well-known/jwks.json")
    ahead = {"verify_exp": False, "verify_iat": False}

    clock.move("+58m")
    before = fleet.log_in()
    assert kid(before) == first
    jwt.decode(before, outside.get_signing_key_from_jwt(before), ["ES256"], audience=AUDIENCE, options=ahead)

    # At once, without a look into the store.
    clock.move("+61m")
    made = [fleet.log_in(number) for number in range(3)]
    assert {kid(token) for token in made} == {second}
    for server in fleet.gateways:
        for token in (before, *made):
            accepted(server, token)
    for token in (before, made[0]):
        jwt.decode(token, outside.get_signing_key_from_jwt(token), ["ES256"], audience=AUDIENCE, options=ahead)

    # access_ttl, leeway and a minute after the last token of the first key; but a token that lives longer keeps it.
    clock.move("+75m")
    states = {name: (key["state"], key["verifies_until"] is not None) for name, key in fleet.keys().items()}
    assert states == {first: ("verifies", True), second: ("signs", False)}
    for server in fleet.gateways:
        assert_refused(send(server.port, "GET", "/auth/me", bearer(before)), 401, "token_expired")
        accepted(server, robot)

    # The robot's token has expired, and the next successors have come; an hour later the store has forgotten the first key.
    clock.move("+170m")
    fleet.everywhere("the end of the first key", lambda server: first not in published(server))
    for server in fleet.gateways:
        assert send(server.port, "GET", "/auth/me", bearer(robot)).status == 401
    clock.move("+232m")
    eventually("the first key gone from the store", lambda: not database.tollgate_keys.find_one({"kid": first}), FOLLOWED)
    fleet.everywhere("a login", lambda server: log_in(server.port, "alice", PASSWORD))
    for server in fleet.gateways:
        assert "panicked" not in server.log_file.read_text()
    told = lambda event: [line["key.id"] for server in fleet.gateways for line in server.audit() if line["audit.event"] == event]
    assert told("key_generated") == [first] and told("key_retired").count(first) == 1
    assert told("key_rotated").count(second) == 1 and len(told("key_rotated")) == len(set(told("key_rotated")))


def test_a_change_of_the_algorithm_refuses_no_token(gateway, tmp_path):
    """Two gateways on one store; one is restarted with another `tokens.algorithm`, the other is not yet."""
    clock, store = Clock(tmp_path), f"sqlite://{tmp_path}/tollgate.db"
    fleet = Fleet(gateway, tmp_path, store, 1, environment=clock.environment)
    (before,) = fleet.gateways
    (old,) = published(before)
    changed = gateway(base(tmp_path, store) + '\n[tokens]\nalgorithm = "EdDSA"\n', clock.environment)
    # The other has had no time to look for new keys.
    token = log_in(changed.port, "alice", PASSWORD)
    assert kid(token) == old
    for server in (before, changed):
        accepted(server, token)
    (new,) = published(changed) - {old}
    fleet.everywhere("both keys", lambda server: published(server) == {old, new})
    assert {name: key["state"] for name, key in fleet.keys().items()} == {old: "signs", new: "next"}

    clock.move("+11m")
    of_changed, of_before = (log_in(server.port, "alice", PASSWORD) for server in (changed, before))
    assert (kid(of_changed), jwt.get_unverified_header(of_changed)["alg"]) == (new, "EdDSA")
    assert (kid(of_before), jwt.get_unverified_header(of_before)["alg"]) == (old, "ES256")
    for server in (before, changed):
        accepted(server, of_changed)
        accepted(server, of_before)


def test_what_cannot_be_done_to_keys_is_refused_and_changes_nothing(gateway, tmp_path):
    store = tmp_path / "tollgate.db"
    operator = tmp_path / "operator.toml"
    audit = tmp_path / "audit.log"
    operator.write_text(base(tmp_path).replace("[log]", f'[log]\naudit = "{audit}"'))

    def refused(*words, status=1):
        done = tollgate("key", *words, "-c", operator)
        assert done.returncode == status and not done.stdout and done.stderr, done
        return done.stderr

    assert "`tollgate run` makes it" in refused("rotate") and "`tollgate run` makes it" in refused("retire", "x")
    assert not store.exists(), "a command has made a store"

    server = gateway(base(tmp_path))
    (only,) = published(server)
    assert "none to take its place" in refused("retire", only) and "`tollgate key rotate --now`" in refused("retire", only, "--now")
    assert "no key of our own with the name `-x`" in refused("retire", "-x")
    for words in (["--after", "1s"], ["--after", "31d"], ["--after", "soon"], ["--after", "1h", "--now"]):
        refused("rotate", *words, status=2)
    waits = tollgate("key", "rotate", "-c", operator, "--after", "1h").stdout.strip()
    assert f"`tollgate key retire {waits}` withdraws it" in refused("rotate")
    hurried = tollgate("key", "rotate", "-c", operator, "--now")
    assert hurried.stdout.strip() == waits and "the key that was waiting is published" in hurried.stderr
    withdrawn = tollgate("key", "retire", waits, "-c", operator)
    assert withdrawn.returncode == 0 and "withdrawn" in withdrawn.stderr
    listed = json.loads(tollgate("key", "list", "--json", "-c", operator).stdout)
    assert [(key["kid"], key["state"]) for key in listed] == [(only, "signs")]
    events = [json.loads(line) for line in audit.read_text().splitlines()]
    events = [(event["audit.event"], event["key.id"]) for event in events]
    assert events == [("key_rotated", waits), ("key_rotated", waits), ("key_retired", waits)]

    tollgate("key", "generate", "--out", tmp_path / "signing.pem")
    in_file = '\n[tokens]\nkey = { file = "signing.pem" }\n'
    operator.write_text(base(tmp_path) + in_file)
    assert "`tokens.previous_keys`" in refused("rotate") and "changed in the file" in refused("retire", only)
    operator.write_text(base(tmp_path) + in_file + 'rotate_every = "90d"\n')
    assert "`tokens.rotate_every` rotates keys in the store" in refused("list")
    operator.write_text(base(tmp_path) + '\n[tokens]\nrotate_every = "59m"\n')
    assert 'must be from "1h" to "365d"' in refused("list")
