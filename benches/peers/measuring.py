"""One measurement each: requests under load, a download, memory, a login storm. Every one checks what it measured."""

from __future__ import annotations

import http.client
import json
import pathlib
import selectors
import socket
import subprocess
import threading
import time
from dataclasses import dataclass

from installation import CannotMeasure, Tools
from proxies import DOWNLOAD_BYTES, IDENTITY_HEADERS, LOGIN_NAME, Proxies, Server

LOAD_SCRIPT = pathlib.Path(__file__).resolve().parent / "load.lua"
SETTLE_SECONDS = 60.0
READ_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Load:
    """What wrk sends: to which path, with which tokens, over how many connections."""

    path: str
    token_file: pathlib.Path | None
    connections: int
    pause_ms: int = 0


@dataclass(frozen=True)
class Sample:
    """One round of one row."""

    cpu_us: float
    requests_per_second: float
    p50_us: float
    p99_us: float
    busy: float
    requests: int
    requests_with_warm_up: int


def get(port: int, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    finally:
        connection.close()


def check_identity(server: Server, tokens: pathlib.Path, algorithm: str) -> None:
    """The row verifies: good tokens pass with their own identity, forged headers do not, bad tokens are refused."""
    forged = {header: "forged" for header in IDENTITY_HEADERS}
    lines = (tokens / f"{algorithm}.tokens").read_text().split()
    for number in (0, len(lines) - 1):
        status, body = get(server.port, "/verified/identity", {"Authorization": f"Bearer {lines[number]}", **forged})
        seen = dict(line.split("=", 1) for line in body.splitlines() if "=" in line)
        wanted = {
            "X-Forwarded-User": f"user-{number:06}",
            "X-Forwarded-Email": f"user-{number:06}@example.org",
            "X-Forwarded-Scopes": "read:data write:data",
            "Authorization": "",
        }
        if status != 200 or seen != wanted:
            raise CannotMeasure(
                f"{server.name}: the upstream should have seen {wanted}; the answer was {status}: {body.strip()[:500]}"
            )
    for bad in ("expired", "tampered"):
        token = (tokens / f"{algorithm}.{bad}").read_text()
        status, _ = get(server.port, "/verified/identity", {"Authorization": f"Bearer {token}"})
        if status not in (401, 403):
            raise CannotMeasure(f"{server.name}: the {bad} token should have been refused; the answer was {status}.")
    status, _ = get(server.port, "/verified/identity", forged)
    if status not in (401, 403):
        raise CannotMeasure(f"{server.name}: a request without a token should have been refused; the answer was {status}.")


def upstream_requests(proxies: Proxies) -> int:
    """How many requests the upstream has had, this one included."""
    _, body = get(proxies.upstream.port, "/status")
    return int(body.splitlines()[2].split()[2])


def requests_in_metrics(server: Server) -> int:
    """`tollgate_requests_total` over all labels."""
    status, text = get(server.admin_port or 0, "/metrics")
    values = [line.split()[-1] for line in text.splitlines() if line.startswith("tollgate_requests_total")]
    if status != 200 or not values:
        raise CannotMeasure(f"{server.name}: its metrics have no `tollgate_requests_total` (status {status}).")
    return round(sum(float(value) for value in values))


def run_load(tools: Tools, server: Server, load: Load, seconds: float, cores: set[int]) -> dict:
    """wrk's own summary; an answer that is not a success, or a broken connection, is an error."""
    command = [
        "taskset", "-c", ",".join(str(core) for core in sorted(cores)), tools.wrk, "-t1", f"-c{load.connections}",
        f"-d{max(1, round(seconds))}s", "--timeout", "30s", "--latency", "-s", str(LOAD_SCRIPT),
        f"http://127.0.0.1:{server.port}{load.path}", "--", str(load.token_file or "none"), str(load.pause_ms),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
    if result.returncode or not lines:
        raise CannotMeasure(f"wrk failed against {server.name}: {(result.stderr or result.stdout).strip()[:500]}")
    summary = json.loads(lines[-1])
    if summary["status_errors"] or summary["socket_errors"] or not summary["requests"]:
        raise CannotMeasure(
            f"{server.name}{load.path}: of {summary['requests']} answers {summary['status_errors']} were no success, "
            f"and {summary['socket_errors']} requests failed on their connection."
        )
    return summary


def measure_load(tools: Tools, proxies: Proxies, server: Server, load: Load, seconds: float) -> Sample:
    """One round: warm up, then CPU, rate and latency. The upstream, which answers only 200 here, must have had every
    request that wrk counts: so none was answered by the proxy itself."""
    warm_up = run_load(tools, server, load, 1, proxies.other_cores)
    before, upstream_before, begun = server.cpu_seconds(), upstream_requests(proxies), time.monotonic()
    summary = run_load(tools, server, load, seconds, proxies.other_cores)
    elapsed = time.monotonic() - begun
    cpu, reached = server.cpu_seconds() - before, upstream_requests(proxies) - upstream_before - 1
    # What wrk left unanswered when its time was over reached the upstream as well.
    if not summary["requests"] <= reached <= summary["requests"] + 2 * load.connections:
        raise CannotMeasure(
            f"{server.name}{load.path}: wrk counts {summary['requests']} answers, the upstream {reached} requests."
        )
    return Sample(
        cpu_us=cpu * 1e6 / summary["requests"],
        requests_per_second=summary["requests"] / (summary["duration_us"] / 1e6),
        p50_us=summary["p50_us"],
        p99_us=summary["p99_us"],
        busy=cpu / elapsed,
        requests=summary["requests"],
        requests_with_warm_up=warm_up["requests"] + summary["requests"],
    )


def open_download(port: int, length: int) -> socket.socket:
    """A socket whose request for the first `length` bytes of the big file was sent."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    span = f"Range: bytes=0-{length - 1}\r\n" if length < DOWNLOAD_BYTES else ""
    connection.sendall(f"GET /public/big HTTP/1.1\r\nHost: bench\r\n{span}Connection: close\r\n\r\n".encode())
    return connection


def measure_download(server: Server, length: int) -> float:
    """CPU seconds per GB of one download as fast as it comes; all bytes must arrive."""
    buffer = bytearray(READ_BYTES)
    before, received, head = server.cpu_seconds(), 0, b""
    with open_download(server.port, length) as connection:
        while b"\r\n\r\n" not in head:
            piece = connection.recv(4096)
            if not piece:
                raise CannotMeasure(f"{server.name}: the download ended within its head.")
            head += piece
        status = int(head.split(b" ", 2)[1])
        received = len(head.split(b"\r\n\r\n", 1)[1])
        while received < length:
            count = connection.recv_into(buffer)
            if not count:
                break
            received += count
    if status not in (200, 206) or received != length:
        raise CannotMeasure(f"{server.name}: the download gave status {status} and {received} of {length} bytes.")
    return (server.cpu_seconds() - before) * 1e9 / length


def measure_download_memory(server: Server, seconds: float, downloads: int = 20) -> dict[str, float]:
    """How far the resident memory of a fresh process rises while many downloads run: with slow readers (5 MB/s each),
    so that every buffer fills, then with readers as fast as they can be."""
    for _ in range(20):
        get(server.port, "/public/identity")
    time.sleep(0.3)
    baseline = server.resident_bytes()
    growth = {}
    buffer = bytearray(READ_BYTES)
    for kind in ("slow", "fast"):
        sockets = [open_download(server.port, DOWNLOAD_BYTES) for _ in range(downloads)]
        for connection in sockets:
            connection.setblocking(False)
        received = [0] * downloads
        highest, next_look, ended = baseline, 0.0, time.monotonic() + seconds
        try:
            while (now := time.monotonic()) < ended:
                for position, connection in enumerate(sockets):
                    try:
                        count = connection.recv_into(buffer, 256 * 1024 if kind == "slow" else READ_BYTES)
                    except BlockingIOError:
                        continue
                    received[position] += count
                    if not count and received[position] < DOWNLOAD_BYTES:
                        raise CannotMeasure(f"{server.name}: a download was cut off.")
                if now >= next_look:
                    highest, next_look = max(highest, server.resident_bytes()), now + 0.1
                if kind == "slow":
                    time.sleep(max(0.0, 0.05 - (time.monotonic() - now)))
        finally:
            for connection in sockets:
                connection.close()
        if min(received) == 0:
            raise CannotMeasure(f"{server.name}: not all of {downloads} downloads ran at once.")
        growth[kind] = float(max(highest, server.resident_bytes()) - baseline)
        time.sleep(0.5)
    return growth


def measure_idle_memory(server: Server, connections: int) -> float:
    """Resident bytes per keep-alive connection that had one request and now waits; sockets in the kernel not included."""
    request = b"GET /public/value HTTP/1.1\r\nHost: bench\r\n\r\n"
    for _ in range(50):
        get(server.port, "/public/value")
    time.sleep(0.5)
    baseline = server.resident_bytes()
    opened: list[socket.socket] = []
    try:
        for _ in range(connections):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
            opened.append(connection)
            connection.sendall(request)
            answer = b""
            while b'{"value":42}' not in answer:
                piece = connection.recv(4096)
                if not piece:
                    raise CannotMeasure(f"{server.name}: closed connection {len(opened)} of {connections}: {answer[:80]!r}")
                answer += piece
        time.sleep(1.0)
        with selectors.DefaultSelector() as selector:
            for connection in opened:
                selector.register(connection, selectors.EVENT_READ)
            closed = len(selector.select(0))
        if closed:
            raise CannotMeasure(f"{server.name}: {closed} of {connections} idle connections did not stay open.")
        return (server.resident_bytes() - baseline) / connections
    finally:
        for connection in opened:
            connection.close()


class LoginStorm:
    """Clients that log in without pause, in turn with the right and with a wrong password, until the `with` block ends."""

    def __init__(self, server: Server, password: str, clients: int = 32):
        self.server, self.password = server, password
        self.stopped = threading.Event()
        self.lock = threading.Lock()
        self.statuses: dict[int, int] = {}
        self.trouble: list[str] = []
        self.sockets: set[http.client.HTTPConnection] = set()
        self.threads = [threading.Thread(target=self.log_in, args=(n,), daemon=True) for n in range(clients)]

    def __enter__(self) -> "LoginStorm":
        for thread in self.threads:
            thread.start()
        time.sleep(2.0)  # So that logins are under way, and some are done, before forwarding is measured.
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        with self.lock:
            open_connections = list(self.sockets)
        for connection in open_connections:
            raw = connection.sock
            if raw is not None:
                try:
                    raw.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # The server was faster.
        for thread in self.threads:
            thread.join(30)

    def log_in(self, number: int) -> None:
        """The life of one client."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=120)
        with self.lock:
            self.sockets.add(connection)
        turn = number
        while not self.stopped.is_set():
            turn += 1
            password = self.password if turn % 2 else "wrong " + self.password
            body = json.dumps({"username": LOGIN_NAME, "password": password})
            try:
                connection.request("POST", "/auth/login", body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                text = response.read()
            except (OSError, http.client.HTTPException) as error:
                if not self.stopped.is_set():
                    with self.lock:
                        self.trouble.append(repr(error))
                    connection.close()
                    time.sleep(0.1)
                continue
            with self.lock:
                self.statuses[response.status] = self.statuses.get(response.status, 0) + 1
                wanted = (200, 503) if turn % 2 else (401, 503)
                if response.status not in wanted:
                    kind = "right" if turn % 2 else "wrong"
                    self.trouble.append(f"status {response.status} for a {kind} password: {text[:100]!r}")
        connection.close()

    def check(self) -> None:
        """It was a storm: logins with both outcomes came through, and nothing else happened."""
        if self.trouble:
            raise CannotMeasure(f"The login storm met {len(self.trouble)} errors; the first: {self.trouble[0]}")
        if not self.statuses.get(200) or not self.statuses.get(401):
            raise CannotMeasure(f"The login storm had answers {self.statuses}; both 200 and 401 should be among them.")


def settle(server: Server) -> None:
    """Waits until the process has nothing left to do, so that one measurement does not weigh on the next."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        before = server.cpu_seconds()
        time.sleep(0.5)
        if server.cpu_seconds() - before <= 0.03:
            return
    raise CannotMeasure(f"{server.name} is still busy {SETTLE_SECONDS:.0f} s after its load has ended.")
