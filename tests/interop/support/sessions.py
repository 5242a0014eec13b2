"""Clients with sessions: they keep their connections, count what they were answered, and hold the refresh token that came last."""

import base64
import collections
import dataclasses
import http.client
import json
import statistics
import threading
import time
from urllib.parse import urlencode

from .http import Answer
from .people import PASSWORD
from .processes import Gateway

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
COOKIE = "tollgate_refresh"


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
