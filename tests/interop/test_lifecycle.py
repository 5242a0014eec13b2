"""Start, stop, health, metrics, the access line, and an outage of the store."""

import http.client
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from support.config import IMPATIENT, TRUSTED_LAB, base, lab_token, route, upstream
from support.http import assert_refused, bearer, log_in, send, send_json
from support.people import PASSWORD, hashes
from support.processes import Mongod, eventually, tollgate


@pytest.fixture
def gate(gateway, echo):
    """A gateway before the echo application."""

    def start(level="info"):
        everything = upstream("app", echo.url) + route("/{*rest}", "app", 'name = "everything"')
        config = base("{folder}").replace("[log]", f'[log]\nlevel = "{level}"')
        return gateway(config + TRUSTED_LAB + everything)

    return start


def streaming(server, target):
    """A response of which the head and the first line have come."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", target, headers=bearer(lab_token()))
    response = connection.getresponse()
    assert response.readline() == b"tick 0\n"
    return connection, response


def refuses_connections(port):
    try:
        requests.get(f"http://127.0.0.1:{port}/", timeout=2)
        return False
    except requests.ConnectionError:
        return True


def test_sigterm_lets_a_response_end_and_takes_no_new_one(gate):
    server = gate()
    connection, response = streaming(server, "/ticks?count=5&pause=0.5")
    server.signal(signal.SIGTERM)
    eventually("the gateway to refuse new connections", lambda: refuses_connections(server.port), 2)
    assert server.process.poll() is None, "it waits for the response"
    assert response.read() == b"tick 1\ntick 2\ntick 3\ntick 4\n"
    assert server.wait(5) == 0
    connection.close()


def test_a_second_signal_stops_at_once(gate):
    server = gate()
    connection, _ = streaming(server, "/ticks?count=100&pause=0.2")
    server.signal(signal.SIGINT)
    eventually("the gateway to begin to drain", lambda: refuses_connections(server.port), 5)
    server.signal(signal.SIGINT)
    began = time.monotonic()
    assert server.wait(5) == 1, "a request was cut off"
    assert time.monotonic() - began < 2
    connection.close()


def test_what_does_not_end_is_cut_after_drain_timeout(gateway, echo):
    config = base("{folder}").replace('drain_timeout = "10s"', 'drain_timeout = "1s"')
    server = gateway(config + TRUSTED_LAB + upstream("app", echo.url) + route("/{*rest}", "app"))
    connection, _ = streaming(server, "/ticks?count=100&pause=0.2")
    server.signal()
    assert server.wait(5) == 0
    connection.close()


@pytest.mark.parametrize(
    "mistake, key",
    [
        ('[tokens]\naccess_ttl = "1s"', "access_ttl"),
        ('[[routes]]\npath = "/a"\nupstream = "nowhere"', "nowhere"),
        ('[issuers.lab]\nissuer = "https://a"\naudiences = ["b"]\nalgorithms = ["RS256"]\nkeys = [{ file = "missing.pem" }]', "missing.pem"),
        ("[tokens]\nkeey = 1", "keey"),
    ],
)
def test_a_mistake_in_the_file_names_the_key_and_its_place(mistake, key, tmp_path):
    file = tmp_path / "mistake.toml"
    file.write_text(base(tmp_path) + mistake)
    for command in ("run", "check"):
        done = tollgate(command, "-c", file)
        assert done.returncode == 1, done
        output = done.stdout + done.stderr
        assert key in output and re.search(r"mistake\.toml:\d+:\d+", output), output


def test_an_address_in_use_is_named(gate, tmp_path):
    server = gate()
    file = tmp_path / "taken.toml"
    file.write_text(base(tmp_path).replace('listen = ["127.0.0.1:0"]', f'listen = ["127.0.0.1:{server.port}"]'))
    done = tollgate("run", "-c", file)
    assert done.returncode == 1
    assert f"127.0.0.1:{server.port}" in done.stderr and "listen" in done.stderr, done.stderr


def samples_of(server):
    """The samples above zero by their names, as a Prometheus server would read them."""
    answer = requests.get(server.admin_url + "/metrics", timeout=5)
    assert answer.headers["Content-Type"].startswith("text/plain")
    samples = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            if sample.value > 0:
                samples.setdefault(sample.name, []).append(sample)
    return samples


def test_health_and_metrics_are_on_the_admin_listener_alone(gate):
    server = gate()
    for path in ["/livez", "/readyz"]:
        assert requests.get(server.admin_url + path, timeout=5).status_code == 200
    send(server.port, "GET", "/echo/a", bearer(lab_token()))
    send(server.port, "GET", "/echo/a")
    # A request is counted when its response has left, which the client may see a moment earlier.
    recorded = lambda: len(samples_of(server).get("tollgate_requests_total", [])) == 2 and samples_of(server)
    samples = eventually("two requests to be counted", recorded)
    by_code = {sample.labels["code"]: sample for sample in samples["tollgate_requests_total"]}
    assert {code: sample.value for code, sample in by_code.items()} == {"200": 1, "401": 1}
    assert by_code["200"].labels == {"route": "everything", "method": "GET", "code": "200"}
    refusals = {sample.labels["code"]: sample.value for sample in samples["tollgate_refusals_total"]}
    assert refusals == {"token_missing": 1}
    upstreams = [(sample.labels["upstream"], sample.labels["code"], sample.value) for sample in samples["tollgate_upstream_requests_total"]]
    assert upstreams == [("app", "200", 1)]
    assert sum(sample.value for sample in samples["tollgate_request_duration_seconds_count"]) == 2
    assert [sample.value for sample in samples["tollgate_token_cache_misses_total"]] == [1]
    assert send(server.port, "GET", "/metrics").status == 401, "on the public listener it is a path as any other"


@pytest.mark.parametrize("level", ["info", "trace"])
def test_a_request_leaves_one_line_without_its_secrets(level, gate):
    server = gate(level)
    token = lab_token(canary="canary-in-a-claim")
    secrets = {"Cookie": "session=canary-in-a-cookie", "X-Api-Key": "canary-in-a-header"}
    answer = send(
        server.port, "POST", "/echo/a?token=canary-in-the-query", {**secrets, **bearer(token)}, b"canary-in-the-body"
    )
    line = server.access_line(answer.header("X-Request-Id"))
    expected = {
        "client.addr": "127.0.0.1",
        "method": "POST",
        "path": "/echo/a",
        "route.name": "everything",
        "status": 200,
        "subject": "alice",
        "upstream.name": "app",
        "upstream.status": 200,
        "bytes.in": len(b"canary-in-the-body"),
        "bytes.out": len(answer.body),
        "token.cache": "miss",
    }
    assert {key: line.get(key) for key in expected} == {**expected, "client.addr": line["client.addr"]}
    assert line["client.addr"].startswith("127.0.0.1")
    assert line["duration_ms"] >= line["upstream.duration_ms"] >= 0
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", line["time"]) and line["upstream.server"]

    again = send(server.port, "GET", "/echo/a", bearer(token))
    assert server.access_line(again.header("X-Request-Id"))["token.cache"] == "hit"
    refused = send(server.port, "GET", "/echo/a", bearer(token + "x"))
    line = server.access_line(refused.header("X-Request-Id"))
    assert (line["status"], line["refusal.code"]) == (401, "token_signature")
    assert not line.get("subject"), "a claim that was not verified is nobody's name"

    send_json(server.port, "/auth/login", {"username": "alice", "password": "canary-in-a-password"})
    server.stop()
    written = server.log_file.read_text() + server.access_file.read_text()
    assert "canary" not in written
    assert token not in written and token.split(".")[2] not in written
    assert len(server.access_lines()) == 4


def test_a_client_that_leaves_is_noticed_and_recorded(gate):
    server = gate()
    connection, response = streaming(server, "/ticks?count=1000&pause=0.05")
    request_id = response.headers["X-Request-Id"]
    response.close()
    connection.close()
    assert server.access_line(request_id)["duration_ms"] < 20_000


def test_without_the_store_tokens_are_verified_and_logins_wait(gateway, echo, tmp_path):
    mongod = Mongod(tmp_path / "mongod")
    try:
        uri = mongod.uri("outage").replace("?", "?appName=canary-in-the-uri&")
        mongod.client.outage.users.insert_one({"username": "alice", "password": hashes.hash(PASSWORD)})
        server = gateway(base("{folder}", uri) + IMPATIENT + upstream("app", echo.url) + route("/{*rest}", "app"))
        token = log_in(server.port, "alice", PASSWORD)
        mongod.kill()

        for path in ["/echo/a", "/auth/me", "/.well-known/jwks.json"]:
            assert send(server.port, "GET", path, bearer(token)).status == 200
        began = time.monotonic()
        answer = send_json(server.port, "/auth/login", {"username": "alice", "password": PASSWORD})
        assert time.monotonic() - began < 4
        assert_refused(answer, 503, "store_unavailable")
        assert int(answer.header("Retry-After")) > 0
        oauth = send(
            server.port,
            "POST",
            "/auth/token",
            {"Content-Type": "application/x-www-form-urlencoded"},
            b"grant_type=password&username=alice&password=x",
        )
        assert (oauth.status, oauth.json()["error"]) == (503, "temporarily_unavailable")
        assert send(server.port, "GET", "/echo/a", bearer(token)).status == 200
        assert requests.get(server.admin_url + "/livez", timeout=5).status_code == 200
        server.stop()
        assert "canary-in-the-uri" not in server.log_file.read_text() + json.dumps(server.access_lines())
    finally:
        mongod.stop()


@pytest.mark.parametrize("pinned", [True, False], ids=["pinned", "not pinned"])
def test_each_worker_stays_on_a_core_of_its_own_unless_told_otherwise(gateway, pinned):
    """One worker a core is the default; `Cpus_allowed_list` of proc(5) says where a thread may run."""
    server = gateway(base("{folder}").replace("[server]", f"[server]\npin_workers = {str(pinned).lower()}"))
    allowed = []
    for task in Path(f"/proc/{server.process.pid}/task").iterdir():
        if task.joinpath("comm").read_text().startswith("worker-"):
            allowed.append(re.search(r"Cpus_allowed_list:\s+(\S+)", task.joinpath("status").read_text()).group(1))
    cores = sorted(os.sched_getaffinity(0))
    assert len(allowed) == len(cores)
    if pinned:
        assert sorted(map(int, allowed)) == cores
    else:
        own = re.search(r"Cpus_allowed_list:\s+(\S+)", Path("/proc/self/status").read_text()).group(1)
        assert set(allowed) == {own}
