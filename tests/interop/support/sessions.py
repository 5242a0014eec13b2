"""Clients with sessions: they keep their connections, count what they were answered, and hold the refresh token that came last."""

import base64
import collections
import contextlib
import dataclasses
import http.client
import json
import random
import statistics
import threading
import time
from collections.abc import Callable
from urllib.parse import urlencode

from .http import Answer
from .people import PASSWORD
from .processes import Gateway

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
COOKIE = "tollgate_refresh"
BROKEN = (OSError, http.client.HTTPException)


@dataclasses.dataclass
class Held:
    """What a client has of a session."""

    access: str
    refresh: str

    @property
    def session(self) -> str:
        """The `_id` of the session's row."""
        return base64.urlsafe_b64encode(raw(self.refresh)[1:17]).rstrip(b"=").decode()

    @property
    def counter(self) -> int:
        """How often the session was refreshed."""
        return int.from_bytes(raw(self.refresh)[17:21], "big")


def raw(refresh_token: str) -> bytes:
    """Version, session id, counter and MAC."""
    return base64.urlsafe_b64decode(refresh_token + "=" * (-len(refresh_token) % 4))


class Connections:
    """Of one client, or of one thread: a kept connection to each gateway. Not to be shared."""

    def __init__(self, tally: "Tally | None" = None):
        self.open: dict[int, http.client.HTTPConnection] = {}
        self.tally = tally

    def send(self, gateway: Gateway, method: str, target: str, headers: dict, body: str = "") -> Answer:
        """Raises `OSError` or `http.client.HTTPException` when the connection breaks."""
        connection = self.open.get(gateway.port)
        if connection is None:
            connection = self.open[gateway.port] = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60)
        began, status = time.monotonic(), "broken"
        try:
            connection.request(method, target, body or None, {"Host": "science.example.org", **headers})
            response = connection.getresponse()
            answer = Answer(response.status, response.reason, response.getheaders(), response.read())
            status = str(answer.status)
        except BaseException:
            self.open.pop(gateway.port).close()
            raise
        finally:
            if self.tally:
                self.tally.count(target, status, time.monotonic() - began)
        return answer

    def log_in(self, gateway: Gateway, username: str) -> Answer:
        form = urlencode({"grant_type": "password", "username": username, "password": PASSWORD})
        return self.send(gateway, "POST", "/auth/token", FORM, form)

    def refresh(self, gateway: Gateway, token: str) -> Answer:
        return self.send(gateway, "POST", "/auth/refresh", JSON, json.dumps({"refresh_token": token}))

    def log_out(self, gateway: Gateway, token: str) -> Answer:
        return self.send(gateway, "POST", "/auth/logout", JSON, json.dumps({"refresh_token": token}))

    def get(self, gateway: Gateway, target: str, access: str) -> Answer:
        return self.send(gateway, "GET", target, {"Authorization": f"Bearer {access}"})

    def close(self):
        for connection in self.open.values():
            connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def held(answer: Answer) -> Held:
    """What an answer of a login or a refresh brings."""
    assert answer.status == 200, answer
    body = answer.json()
    return Held(body["access_token"], body.get("refresh_token") or cookie(answer))


def cookie(answer: Answer) -> str:
    """The refresh token in the cookie that the answer sets."""
    name, value = answer.header("Set-Cookie").split(";")[0].split("=", 1)
    assert name == COOKIE
    return value


class Tally:
    """What was answered, and how long it took, by target and status. May be shared by threads."""

    def __init__(self):
        self.times: dict[tuple[str, str], list[float]] = collections.defaultdict(list)
        self._lock = threading.Lock()

    def count(self, target: str, status: str, seconds: float):
        with self._lock:
            self.times[target, status].append(seconds)

    def statuses(self) -> set[str]:
        return {status for _, status in self.times}

    def total(self, target: str) -> int:
        return sum(len(times) for (found, _), times in self.times.items() if found == target)

    def all_times(self) -> list[float]:
        return [seconds for times in self.times.values() for seconds in times]

    def table(self) -> str:
        lines = [f"\n{'operation':<16} {'answer':>7} {'count':>7} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}"]
        for (target, status), times in sorted(self.times.items()):
            low, high, longest = (f"{1000 * value:8.1f}" for value in quantiles(times))
            lines.append(f"{target:<16} {status:>7} {len(times):>7} {low} {high} {longest}")
        return "\n".join(lines)


def quantiles(times: list[float]) -> tuple[float, float, float]:
    """The median, the 99th percentile (of few: the longest) and the longest."""
    ordered = sorted(times)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], ordered[-1]


def together(count: int, work) -> list:
    """`work(0)` to `work(count - 1)`, each in a thread of its own; what they return, or the first failure."""
    results, problems = [None] * count, []

    def run(number):
        try:
            results[number] = work(number)
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(180)
    if problems:
        raise problems[0]
    assert not any(thread.is_alive() for thread in threads), "a client hangs"
    return results


class Traffic:
    """People who log in and refresh through all gateways, each thread with sessions of its own, until both numbers are reached;
    `None`: until it is over."""

    def __init__(self, fleet: list[Gateway], person: Callable[[], str], logins: int | None, refreshes: int | None):
        self.fleet, self.person, self.tally = fleet, person, Tally()
        self.left = {"login": logins, "refresh": refreshes}
        self.over, self.lock = threading.Event(), threading.Lock()
        self.sessions: list[Held] = []
        self.failed_logins = self.retried = 0
        self.logged_out: list[str] = []

    def take(self) -> str | None:
        """What to do next, in the mixture that is left."""
        with self.lock:
            left = {kind: 1 if count is None else count for kind, count in self.left.items()}
            if self.over.is_set() or not sum(left.values()):
                return None
            kind = random.choices(list(left), list(left.values()))[0]
            if self.left[kind] is not None:
                self.left[kind] -= 1
            return kind

    def work(self, _):
        own: list[Held] = []
        with Connections(self.tally) as client:
            while kind := self.take():
                if kind == "login" or not own:
                    self.log_in(client, own)
                if kind == "refresh" and own:
                    self.refresh(client, own)
        with self.lock:
            self.sessions += own

    def log_in(self, client: Connections, own: list[Held]):
        with contextlib.suppress(*BROKEN):
            answer = client.log_in(random.choice(self.fleet), self.person())
            if answer.status == 200:
                own.append(held(answer))
                return
            assert answer.status == 503, answer
        with self.lock:
            self.failed_logins += 1

    def refresh(self, client: Connections, own: list[Held]):
        """As a browser would: with the token it has, until there is an answer."""
        number = random.randrange(len(own))
        for _ in range(40):
            with contextlib.suppress(*BROKEN):
                answer = client.refresh(random.choice(self.fleet), own[number].refresh)
                if answer.status == 200:
                    before, own[number] = own[number], held(answer)
                    assert own[number].session == before.session and own[number].counter == before.counter + 1
                    return
                if answer.status == 401:
                    with self.lock:
                        self.logged_out.append(f"{answer.json()['code']} {own.pop(number).session}")
                    return
                assert answer.status == 503 and int(answer.header("Retry-After")) >= 1, answer
            with self.lock:
                self.retried += 1
            time.sleep(0.25)
        raise AssertionError("a refresh is not answered for 40 tries")

    @contextlib.contextmanager
    def running(self, workers: int):
        problems = []

        def run():
            try:
                together(workers, self.work)
            except BaseException as problem:
                problems.append(problem)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield self
        except BaseException:
            self.over.set()
            raise
        finally:
            thread.join(180)
        assert not problems, problems

    def done(self) -> int:
        return self.tally.total("/auth/token") + self.tally.total("/auth/refresh")


class Bystanders:
    """Clients with good tokens, one at each gateway, who use what is behind it all the time and must never notice."""

    def __init__(self, fleet: list[Gateway], token: str):
        self.fleet, self.token, self.tally, self.over = fleet, token, Tally(), threading.Event()
        self.threads = [threading.Thread(target=self.ask, args=(gateway,)) for gateway in fleet]

    def ask(self, gateway: Gateway):
        with Connections(self.tally) as client:
            while not self.over.wait(0.01):
                client.get(gateway, "/echo/a", self.token)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join(30)
