"""The upstream and the proxies of a run: their configuration, written so that each does the same work, and their life."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import socket
import subprocess
import time
from dataclasses import dataclass

from installation import CannotMeasure, Tools, say

ISSUER = "https://bench.example.org"
AUDIENCE = "bench"
IDENTITY_HEADERS = {"X-Forwarded-User": "sub", "X-Forwarded-Email": "email", "X-Forwarded-Scopes": "scope"}
LOGIN_NAME = "bench"
DOWNLOAD_BYTES = 1_000_000_000
# Connections that must fit everywhere: the idle ones of a run, with room.
MAX_CONNECTIONS = 6000
START_SECONDS = 20.0
STOP_SECONDS = 10.0


@dataclass
class Server:
    """A process that listens, with all its children."""

    name: str
    command: list[str]
    port: int
    folder: pathlib.Path
    cores: set[int]
    admin_port: int | None = None
    process: subprocess.Popen | None = None

    @property
    def log(self) -> pathlib.Path:
        return self.folder / f"{self.name}.log"

    @property
    def access_log(self) -> pathlib.Path:
        return self.folder / "access.log"

    def start(self) -> "Server":
        """Starts it on its cores and waits until it listens."""
        cores = ",".join(str(core) for core in sorted(self.cores))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["taskset", "-c", cores, *self.command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise CannotMeasure(f"{self.name} stopped at once with exit code {self.process.returncode}:\n{self.tail()}")
            with socket.socket() as probe:
                probe.settimeout(0.5)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.05)
        raise CannotMeasure(f"{self.name} does not listen after {START_SECONDS:.0f} s:\n{self.tail()}")

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def pids(self) -> list[int]:
        """The process and its descendants."""
        if self.process is None or self.process.poll() is not None:
            raise CannotMeasure(f"{self.name} has stopped during the run:\n{self.tail()}")
        children: dict[int, list[int]] = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    stat = pathlib.Path("/proc", entry, "stat").read_text()
                except OSError:
                    continue  # It ended between the listing and the reading.
                children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry))
        tree, waiting = [], [self.process.pid]
        while waiting:
            pid = waiting.pop()
            tree.append(pid)
            waiting += children.get(pid, [])
        return tree

    def cpu_seconds(self) -> float:
        """utime + stime of all threads of all its processes."""
        ticks = 0
        for pid in self.pids():
            fields = pathlib.Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        """VmRSS, summed over its processes."""
        total = 0
        for pid in self.pids():
            for line in pathlib.Path("/proc", str(pid), "status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1]) * 1024
        return total

    def stop(self) -> None:
        """Asks it to stop, then makes it."""
        if self.process is None or self.process.poll() is not None:
            return
        pids = self.pids()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.process.wait(STOP_SECONDS)


class Proxies:
    """Makes the servers of one run; every one that was made is stopped by `stop`."""

    def __init__(self, tools: Tools, folder: pathlib.Path, tokens: pathlib.Path, proxy_core: int, other_cores: set[int]):
        self.tools, self.folder, self.tokens = tools, folder, tokens
        self.proxy_core, self.other_cores = proxy_core, other_cores
        self.all_cores = {proxy_core} | other_cores
        self.started: list[Server] = []
        self.upstream: Server

    def stop(self) -> None:
        """The end of all of them, the upstream last; one that resists does not save the others."""
        while self.started:
            server = self.started.pop()
            try:
                server.stop()
            except (CannotMeasure, OSError, subprocess.TimeoutExpired) as problem:
                say(f"{server.name} could not be stopped: {problem}")

    def stop_one(self, server: Server) -> None:
        server.stop()
        self.started.remove(server)

    def start(self, kind: str) -> Server:
        """A fresh process of `kind` on the proxies' core: a peer, or `tollgate` (`tollgate-unpinned`: on all cores)."""
        makers = {
            "nginx": self.nginx,
            "haproxy": lambda: self.haproxy(None),
            "haproxy-hs256": lambda: self.haproxy("HS256"),
            "haproxy-rs256": lambda: self.haproxy("RS256"),
            "haproxy-es256": lambda: self.haproxy("ES256"),
            "envoy": self.envoy,
            "tollgate": lambda: self.tollgate(workers=1, cores={self.proxy_core}),
            "tollgate-unpinned": lambda: self.tollgate(workers=0, cores=self.all_cores),
        }
        return self.begin(makers[kind]())

    def begin(self, server: Server) -> Server:
        self.started.append(server)
        return server.start()

    def new_folder(self, name: str) -> pathlib.Path:
        folder = self.folder / f"{len(self.started)}-{name}-{time.monotonic_ns()}"
        folder.mkdir()
        return folder

    def start_upstream(self) -> None:
        """Before all others: nginx that answers from memory. `/verified/` answers 500 unless all identity headers are
        there, so that a run without an error is one in which the upstream saw the identity on every request."""
        folder, port = self.new_folder("upstream"), free_port()
        with (folder / "big").open("wb") as file:
            file.truncate(DOWNLOAD_BYTES)  # Sparse: it costs no disk.
        checks = "".join(
            f'if ({variable(header)} = "") {{ return 500 "no {header}"; }} ' for header in IDENTITY_HEADERS
        )
        seen = "".join(f"{header}={variable(header)}\\n" for header in [*IDENTITY_HEADERS, "Authorization"])
        config = folder / "nginx.conf"
        config.write_text(f"""
{nginx_head(folder)}
http {{
  {nginx_http(folder)}
  sendfile on; tcp_nopush on;
  default_type application/json;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location /public/ {{ return 200 '{{"value":42}}'; }}
    location /verified/ {{ {checks} return 200 '{{"value":42}}'; }}
    location = /verified/identity {{ default_type text/plain; return 200 "{seen}"; }}
    location = /public/identity {{ default_type text/plain; return 200 "{seen}"; }}
    location = /public/big {{ alias {folder}/big; }}
    location = /status {{ stub_status; }}
  }}
}}
""")
        self.upstream = self.begin(Server("upstream", self.nginx_command(folder, config), port, folder, self.other_cores))

    def nginx_command(self, folder: pathlib.Path, config: pathlib.Path) -> list[str]:
        return [self.tools.nginx, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(config)]

    def nginx(self) -> Server:
        folder, port = self.new_folder("nginx"), free_port()
        config = folder / "nginx.conf"
        config.write_text(f"""
{nginx_head(folder)}
http {{
  {nginx_http(folder)}
  upstream data {{
    server 127.0.0.1:{self.upstream.port};
    keepalive 64; keepalive_requests 1000000000; keepalive_timeout 1h;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://data;
      proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_max_temp_file_size 0;
    }}
  }}
}}
""")
        return Server("nginx", self.nginx_command(folder, config), port, folder, {self.proxy_core})

    def haproxy(self, algorithm: str | None) -> Server:
        name = f"haproxy-{algorithm.lower()}" if algorithm else "haproxy"
        folder, port = self.new_folder(name), free_port()
        rules = ""
        if algorithm:
            secret = self.tokens / "HS256.secret"
            key = secret.read_text() if algorithm == "HS256" else str(self.tokens / f"{algorithm}.pem")
            headers = "".join(
                f"  http-request set-header {header} %[var(txn.token),jwt_payload_query('$.{claim}')]\n"
                for header, claim in IDENTITY_HEADERS.items()
            )
            rules = f"""
  http-request set-var(txn.token) http_auth_bearer
  http-request deny deny_status 401 unless {{ var(txn.token),jwt_verify("{algorithm}","{key}") -m int 1 }}
  http-request set-var(txn.expires) var(txn.token),jwt_payload_query('$.exp','int')
  http-request set-var(txn.now) date()
  http-request deny deny_status 401 unless {{ var(txn.expires),sub(txn.now) -m int gt 0 }}
  http-request del-header Authorization
{headers}"""
        config = folder / "haproxy.cfg"
        config.write_text(f"""
global
  nbthread 1
  maxconn {MAX_CONNECTIONS}
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout http-keep-alive 1h
  http-reuse always
frontend front
  bind 127.0.0.1:{port} backlog 4096
{rules}
  default_backend data
backend data
  server one 127.0.0.1:{self.upstream.port}
""")
        return Server(name, [self.tools.haproxy, "-db", "-f", str(config)], port, folder, {self.proxy_core})

    def envoy(self) -> Server:
        """`jwt_authn` for `/verified/` alone; its cache is larger than the number of tokens."""
        folder, port = self.new_folder("envoy"), free_port()
        extension = "type.googleapis.com/envoy.extensions."
        provider = {
            "issuer": ISSUER,
            "audiences": [AUDIENCE],
            "local_jwks": {"inline_string": (self.tokens / "RS256.jwks").read_text()},
            "require_expiration": True,
            "jwt_cache_config": {"jwt_cache_size": 8192, "jwt_max_token_size": 4096},
            "claim_to_headers": [{"header_name": h, "claim_name": c} for h, c in IDENTITY_HEADERS.items()],
        }
        manager = {
            "@type": f"{extension}filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "front",
            "common_http_protocol_options": {"idle_timeout": "3600s"},
            "route_config": {"virtual_hosts": [{
                "name": "data", "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "data", "timeout": "0s"}}],
            }]},
            "http_filters": [
                {"name": "jwt", "typed_config": {
                    "@type": f"{extension}filters.http.jwt_authn.v3.JwtAuthentication",
                    "providers": {"bench": provider},
                    "rules": [{"match": {"prefix": "/verified/"}, "requires": {"provider_name": "bench"}}],
                }},
                {"name": "router", "typed_config": {"@type": f"{extension}filters.http.router.v3.Router"}},
            ],
        }
        config = folder / "envoy.json"
        config.write_text(json.dumps({"static_resources": {
            "listeners": [{
                "name": "front", "address": address(port),
                "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
            }],
            "clusters": [{
                "name": "data", "type": "STATIC", "connect_timeout": "5s",
                "load_assignment": {"cluster_name": "data", "endpoints": [
                    {"lb_endpoints": [{"endpoint": {"address": address(self.upstream.port)}}]},
                ]},
            }],
        }}))
        command = [self.tools.envoy, "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
        return Server("envoy", command, port, folder, {self.proxy_core})

    def tollgate(self, workers: int, cores: set[int]) -> Server:
        """Access log to a file, metrics on, a fresh SQLite store with one user."""
        if self.tools.tollgate is None:
            raise CannotMeasure("A row of Tollgate was asked for without its binary.")
        folder, port, admin_port = self.new_folder("tollgate"), free_port(), free_port()
        config = folder / "tollgate.toml"
        config.write_text(f"""
[server]
listen = ["127.0.0.1:{port}"]
workers = {workers}
idle_timeout = "1h"
drain_timeout = "2s"
max_connections = {MAX_CONNECTIONS}

[admin]
listen = "127.0.0.1:{admin_port}"

[log]
access = "{folder}/access.log"
level = "warn"

[store]
url = "sqlite://{folder}/tollgate.db"

[tokens]
issuer = "http://127.0.0.1:{port}"

# The storm is meant to hash, not to wait.
[login]
throttle = {{ account.free = 1_000_000, account_and_address.free = 1_000_000, address.free = 1_000_000 }}

[issuers.bench]
issuer = "{ISSUER}"
audiences = ["{AUDIENCE}"]
algorithms = ["RS256"]
keys = [{{ file = "{self.tokens}/RS256.pem" }}]

[upstreams.data]
servers = ["http://127.0.0.1:{self.upstream.port}"]

[[routes]]
path = "/verified/{{*rest}}"
upstream = "data"

[[routes]]
path = "/public/{{*rest}}"
upstream = "data"
auth = "public"
""")
        added = subprocess.run(
            [self.tools.tollgate, "user", "add", LOGIN_NAME, "--password-stdin", "-c", str(config)],
            input=self.login_password, capture_output=True, text=True, timeout=60, cwd=folder,
        )
        if added.returncode:
            raise CannotMeasure(f"`tollgate user add` failed: {added.stderr.strip() or added.stdout.strip()}")
        return Server("tollgate", [self.tools.tollgate, "run", "-c", str(config)], port, folder, cores, admin_port)

    @property
    def login_password(self) -> str:
        """Of the user of the login storm; made new for each run, as all keys are."""
        return (self.tokens / "HS256.secret").read_text()[:32]


def nginx_head(folder: pathlib.Path) -> str:
    """One worker, all files in `folder`."""
    return f"""daemon off; worker_processes 1;
pid {folder}/nginx.pid; error_log {folder}/error.log warn;
events {{ worker_connections {2 * MAX_CONNECTIONS}; }}"""


def nginx_http(folder: pathlib.Path) -> str:
    """What both nginx share within `http`: no log, connections that stay, and nothing outside `folder`."""
    temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return f"access_log off; tcp_nodelay on; keepalive_requests 1000000000; keepalive_timeout 1h; {temporary}"


def variable(header: str) -> str:
    """nginx's name of a request header."""
    return "$http_" + header.lower().replace("-", "_")


def address(port: int) -> dict:
    """Envoy's form of a loopback address."""
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
