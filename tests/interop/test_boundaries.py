"""C6, C7: the admin listener is for this machine only, and nothing that a client sends chooses where a request goes."""

import os
import re
import socket
import threading
import time

import jwt
import pytest

from support.config import LAB_SECRET, TRUSTED_LAB, base, lab_claims, lab_token, route, upstream
from support.http import bearer, send
from support.processes import free_port, tollgate
from support.relay import close


def listening_addresses(process):
    """The IPv4 addresses that the process listens on, by what the kernel says."""
    sockets = set()
    for descriptor in range(3, 200):
        try:
            target = os.readlink(f"/proc/{process.pid}/fd/{descriptor}")
        except OSError:
            continue
        if match := re.match(r"socket:\[(\d+)\]", target):
            sockets.add(match[1])
    addresses = set()
    for line in open(f"/proc/{process.pid}/net/tcp").read().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[9] in sockets:
            address, port = fields[1].split(":")
            addresses.add((socket.inet_ntoa(bytes.fromhex(address)[::-1]), int(port, 16)))
    return addresses


def test_admin_is_on_loopback_unless_the_file_says_otherwise(gateway, echo, tmp_path):
    shown = tollgate("config", "default").stdout
    assert 'listen = "127.0.0.1:9090"' in shown
    config = base("{folder}").replace('listen = ["127.0.0.1:0"]', 'listen = ["0.0.0.0:0"]')
    server = gateway(config + upstream("app", echo.url) + route("/{*rest}", "app"))
    assert listening_addresses(server.process) == {("0.0.0.0", server.port), ("127.0.0.1", server.admin_port)}


@pytest.mark.parametrize("auth", ["public", "required"])
def test_no_request_to_the_public_listener_reaches_admin(auth, gateway, echo):
    config = base("{folder}") + TRUSTED_LAB + upstream("app", echo.url)
    server = gateway(config + route("/{*rest}", "app", f'auth = "{auth}"'))
    token = bearer(lab_token())
    admin = f"127.0.0.1:{server.admin_port}"
    for path in ("/metrics", "/livez", "/readyz", "/healthz"):
        for target, headers, host in [
            (path, {}, "science.example.org"),
            (path, {}, admin),
            (f"http://{admin}{path}", {}, admin),
            (f"http://{admin}{path}", {}, "science.example.org"),
            (path, {"X-Forwarded-Host": admin, "Forwarded": f"host={admin}", "X-Forwarded-Port": str(server.admin_port)}, "a"),
            (path, {"X-Original-URL": f"http://{admin}{path}", "X-Rewrite-URL": path}, "a"),
        ]:
            answer = send(server.port, "GET", target, {**token, **headers}, host=host)
            # From the application, which knows no such path, or from the gateway: never what admin says.
            assert answer.status in (400, 404), answer
            assert b"tollgate_" not in answer.body and answer.body.strip() not in (b"ok", b"draining"), answer


def test_an_upstream_on_the_admin_listener_is_refused(tmp_path):
    port = free_port()
    config = base(tmp_path).replace('[admin]\nlisten = "127.0.0.1:0"', f'[admin]\nlisten = "127.0.0.1:{port}"')
    for host in ("127.0.0.1", "localhost", "0.0.0.0"):
        file = tmp_path / "tollgate.toml"
        file.write_text(config + upstream("app", f"http://{host}:{port}") + route("/metrics", "app"))
        done = tollgate("run", "-c", file)
        assert done.returncode == 1 and "`admin.listen`" in done.stderr, done


class Bait:
    """A listener that nobody has a reason to connect to, and that counts who does."""

    def __init__(self):
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            connection.close()


@pytest.fixture
def bait():
    bait = Bait()
    yield bait
    close(bait.listener)


def test_no_claim_header_or_path_chooses_the_upstream(gateway, echo, bait):
    config = base("{folder}") + TRUSTED_LAB + upstream("app", echo.url)
    config += route("/echo/{id}/{*rest}", "app") + route("/open/{id}/{*rest}", "app", 'auth = "public"\nrewrite = "/echo/{id}/{*rest}"')
    server = gateway(config)
    address = f"127.0.0.1:{bait.port}"
    url = f"http://{address}/"
    chosen = {name: url for name in ("upstream", "host", "url", "aud_url", "jku", "x5u", "target", "server")}
    tokens = [lab_token(**chosen, id=address, sub=url, name=url)]
    for header in ("jku", "x5u"):
        tokens.append(jwt.encode(lab_claims(), LAB_SECRET, "HS256", headers={header: url}))
        # With a key that nobody here knows, for a verifier that fetches what a token names.
        tokens.append(jwt.encode(lab_claims(iss=url), "x" * 64, "HS256", headers={header: url, "kid": url}))
    names = ["X-Forwarded-Host", "X-Forwarded-Server", "X-Host", "X-Upstream", "X-Original-URL", "X-Rewrite-URL", "X-Real-IP"]
    names += ["Destination", "Referer", "Origin", "X-Forwarded-Uri", "X-HTTP-Host-Override", "X-Backend", "Location", "Via"]
    headers = {**{name: url for name in names}, "Forwarded": f"for={address};host={address}", "X-Forwarded-For": address}
    targets = ["/echo/1/a", f"/echo/{address}/a", f"/open/{address}/a", f"/open/1/{url}", f"/echo/@{address}/a", f"/open/1/a?url={url}"]
    targets += [f"/open/http:%2f%2f{address}/a", f"http://{address}/open/1/a", f"//{address}/open/1", f"/open/1/..//{address}", f"{address}"]
    statuses = set()
    for token in tokens:
        for target in targets:
            for host in ("science.example.org", address):
                statuses.add(send(server.port, "GET", target, {**bearer(token), **headers}, host=host).status)
    send(server.port, "CONNECT", address, bearer(tokens[0]))
    assert {200, 400, 401} <= statuses <= {200, 400, 401, 404, 405}
    time.sleep(0.2)
    assert bait.connections == 0
    reached = {line["upstream.server"] for line in server.access_lines() if line.get("upstream.server")}
    assert reached == {echo.url} or reached == {echo.url.removeprefix("http://")}
