"""A storm of logins: what is too much is refused at once, and everything else goes on."""

import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.config import base, route, upstream
from support.http import assert_refused, log_in, send, send_json
from support.people import PASSWORD, hashes


@pytest.fixture
def narrow(mongod, database, gateway, echo):
    """One thread that checks passwords, and two places in its queue."""
    database.users.insert_one({"username": "alice", "password": hashes.hash(PASSWORD)})
    config = base("{folder}", mongod.uri(database.name)).replace("cost = 10", "cost = 10, threads = 1, queue = 2")
    return gateway(config + upstream("app", echo.url) + route("/{*rest}", "app", 'auth = "public"'))


def test_logins_beyond_the_queue_are_refused_and_come_in_later(narrow):
    right = {"username": "alice", "password": PASSWORD}
    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(lambda _: send_json(narrow.port, "/auth/login", right), range(16)))
    refused = [answer for answer in answers if answer.status != 200]
    assert 0 < len(refused) < 16
    for answer in refused:
        assert_refused(answer, 503, "overloaded")
        assert int(answer.header("Retry-After")) >= 1
    assert log_in(narrow.port, "alice", PASSWORD)


def test_requests_are_forwarded_during_a_storm(narrow):
    over = threading.Event()
    statuses = []

    def storm():
        wrong = {"username": "alice", "password": "wrong"}
        while not over.is_set():
            statuses.append(send_json(narrow.port, "/auth/login", wrong).status)

    def seconds():
        began = time.perf_counter()
        assert send(narrow.port, "GET", "/echo/a").status == 200
        return time.perf_counter() - began

    with ThreadPoolExecutor(6) as clients:
        try:
            for _ in range(6):
                clients.submit(storm)
            measured = [seconds() for _ in range(200)]
        finally:
            over.set()
    assert {401, 503} == set(statuses)
    # Less than the half of what one hash takes, for which a request would wait behind it on the same thread.
    assert statistics.median(measured) < 0.025, statistics.quantiles(measured, n=10)
