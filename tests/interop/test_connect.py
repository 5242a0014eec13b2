"""`check --connect` says of the store and of every upstream server whether it can be reached, and `healthcheck` of a gateway."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pymongo

from support.config import base, route, upstream
from support.http import send
from support.processes import eventually, free_port, tollgate


@contextlib.contextmanager
def listening(answer: bytes | None = b"") -> Iterator[int]:
    """A server that answers everybody with these bytes and closes; `None`: it takes connections and says nothing."""
    kept = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    kept.append(client)
                    if answer is not None:
                        client.recv(65536)
                        client.sendall(answer)
                        client.close()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    for client in kept:
        client.close()


@contextlib.contextmanager
def full_queue() -> Iterator[int]:
    """A port where nobody accepts and the kernel's queue is full, so that a connection is neither made nor refused."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        waiting = []
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(server.getsockname())
            waiting.append(client)
        yield server.getsockname()[1]
        for client in waiting:
            client.close()


def check_connect(folder, config: str) -> tuple[int, list[str], str]:
    """The status, the lines after the verdict on the file, and stderr."""
    file = folder / "tollgate.toml"
    file.write_text(config)
    done = tollgate("check", "--connect", "-c", file)
    verdict, *lines = done.stdout.splitlines()
    assert verdict.startswith(f"`{file}` is good"), done
    return done.returncode, lines, done.stderr


def failures(lines: list[str]) -> list[str]:
    """Each failed line; the line below it must be a hint."""
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        assert line.startswith("failed: ") == below.startswith("  hint: "), lines
    return [line for line in lines if line.startswith("failed: ")]


def test_a_store_and_servers_that_answer_are_told_in_words(tmp_path, mongod, database):
    """Version and topology of a real MongoDB; the address stays out of it."""
    database.users.insert_one({"username": "ada", "password": "x"})
    with listening() as one, listening() as two:
        servers = upstream("app", f"http://127.0.0.1:{one}", f"http://localhost:{two}") + route("/{*rest}", "app")
        status, lines, errors = check_connect(tmp_path, base(tmp_path, mongod.uri(database.name)) + servers)
    version = mongod.client.server_info()["version"]
    assert (status, errors) == (0, ""), (lines, errors)
    assert lines[0] == (
        f"ok: `store.url`: MongoDB {version}, replica set `rs0` of 1 member, with a primary; "
        "people in `users`; no signing key in `tollgate_keys` yet"
    )
    assert [line.split(":")[0] for line in lines] == ["ok"] * 3
    assert f"`127.0.0.1:{one}`" in lines[1] and f"`localhost:{two}`" in lines[2]
    assert database.list_collection_names() == ["users"], "nothing is made"


def test_every_server_that_cannot_be_reached_is_named_with_the_reason(tmp_path):
    """Refused, not known to DNS, silent: each with a hint, in the order of the file."""
    with full_queue() as silent:
        dead = free_port()
        limit = 'connect_timeout = "1s"'
        config = base(tmp_path) + route("/a", "mixed") + route("/b", "silent")
        config += upstream("mixed", f"http://127.0.0.1:{dead}", "http://no-such-host.invalid:80", more=limit)
        config += upstream("silent", f"http://127.0.0.1:{silent}", f"http://localhost:{silent}", more=limit)
        begin = time.monotonic()
        status, lines, errors = check_connect(tmp_path, config)
        took = time.monotonic() - begin
    failed = failures(lines)
    assert status == 1 and errors == "4 of 5 connections failed\n", (lines, errors)
    assert failed[0].endswith(f"server `127.0.0.1:{dead}`: the connection was refused")
    assert failed[1].endswith("the name `no-such-host.invalid` cannot be resolved")
    assert failed[2].endswith("no answer within `connect_timeout`, 1000 ms")
    assert lines[0].startswith("ok: `store.url`: SQLite")
    assert took < 10, took


def test_silent_servers_are_tried_at_the_same_time(tmp_path):
    """Twelve of them with a limit of 2 s would take 24 s one after the other."""
    with full_queue() as silent:
        config = base(tmp_path)
        for number in range(12):
            config += upstream(f"u{number}", f"http://127.0.0.1:{silent}", more='connect_timeout = "2s"')
            config += route(f"/{number}", f"u{number}")
        begin = time.monotonic()
        status, lines, _ = check_connect(tmp_path, config)
    assert status == 1 and len(failures(lines)) == 12
    assert time.monotonic() - begin < 12


def test_a_store_that_cannot_be_used_is_told_without_its_credentials(tmp_path):
    """Nobody there; somebody who is no MongoDB; somebody who says nothing."""
    with listening(b"HTTP/1.1 400 Bad Request\r\n\r\n") as other, listening(None) as silent, listening() as app:
        for port in (free_port(), other, silent):
            url = f"mongodb://root:canary-password@127.0.0.1:{port}/people"
            config = base(tmp_path, url) + upstream("app", f"http://127.0.0.1:{app}") + route("/{*rest}", "app")
            status, lines, errors = check_connect(tmp_path, config)
            (failed,) = failures(lines)
            assert status == 1 and failed.startswith("failed: `store.url`: the database does not answer"), lines
            assert "canary" not in "".join(lines) and f":{port}" not in failed
            # The warning that a password stands in the file is shown without it.
            assert "canary" not in errors and "1 of 2 connections failed" in errors


def test_a_mongodb_that_asks_for_credentials_says_which_part_is_wrong(tmp_path):
    """A real one with authentication: no user, a wrong password, a user without rights, a user with them."""
    port, data = free_port(), tmp_path / "data"
    data.mkdir()
    command = [os.environ["TOLLGATE_TEST_MONGOD"], "--dbpath", data, "--port", str(port), "--bind_ip", "127.0.0.1", "--auth"]
    with (tmp_path / "mongod.log").open("wb") as log:
        server = subprocess.Popen([*command, "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"], stdout=log, stderr=log)
    try:
        client = pymongo.MongoClient("127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=20_000)
        roles = {"reader": ["read"], "stranger": []}
        client.admin.command("createUser", "admin", pwd="canary-of-admin", roles=[{"role": "root", "db": "admin"}])
        client.close()
        client = pymongo.MongoClient("127.0.0.1", port, username="admin", password="canary-of-admin", authSource="admin")
        for name, granted in roles.items():
            client.people.command("createUser", name, pwd=f"canary-of-{name}", roles=granted)
        client.close()
        with listening() as app:
            for user, expected in (
                ("", "failed: `store.url`: the database refused: 13 Unauthorized"),
                ("reader:canary-wrong@", "failed: `store.url`: the database refuses the connection: the server does not accept the credentials"),
                ("stranger:canary-of-stranger@", "failed: `store.url`: the database refused: 13 Unauthorized"),
                ("reader:canary-of-reader@", "ok: `store.url`: MongoDB "),
            ):
                config = base(tmp_path, f"mongodb://{user}127.0.0.1:{port}/people")
                config += upstream("app", f"http://127.0.0.1:{app}") + route("/{*rest}", "app")
                status, lines, errors = check_connect(tmp_path, config)
                assert lines[0].startswith(expected) and status == (0 if expected.startswith("ok") else 1), (user, lines)
                assert "canary" not in "".join(lines) + errors
        assert ", a single server; nobody in `users` yet; no signing key in `tollgate_keys` yet" in lines[0]
    finally:
        server.terminate()
        server.wait(30)


def test_a_sqlite_store_is_looked_at_and_not_made(tmp_path):
    """No file appears; what is in one is counted; one that is no database is told."""
    with listening() as app:
        config = base(tmp_path) + upstream("app", f"http://127.0.0.1:{app}") + route("/{*rest}", "app")
        status, lines, _ = check_connect(tmp_path, config)
        assert status == 0 and "there is no file yet" in lines[0] and not (tmp_path / "tollgate.db").exists()
        tollgate("user", "add", "-c", tmp_path / "tollgate.toml", "ada", "--password-stdin", stdin="correct horse")
        before = (tmp_path / "tollgate.db").read_bytes()
        status, lines, _ = check_connect(tmp_path, config)
        assert status == 0 and re.search(r", layout \d+; 1 person; 0 signing keys$", lines[0]), lines
        assert (tmp_path / "tollgate.db").read_bytes() == before
        for file in tmp_path.glob("tollgate.db*"):
            file.unlink()
        (tmp_path / "tollgate.db").write_text("no database " * 500)
        status, lines, _ = check_connect(tmp_path, config)
        assert status == 1 and "the SQLite database failed: file is not a database" in failures(lines)[0], lines


def test_a_bad_file_is_not_connected_from(tmp_path):
    """Its problems come first, as without the option."""
    (tmp_path / "tollgate.toml").write_text("[servre]\n")
    done = tollgate("check", "--connect", "-c", tmp_path / "tollgate.toml")
    assert done.returncode == 1 and done.stdout == "" and "did you mean `server`?" in done.stderr


def healthcheck(*arguments: object) -> tuple[int, str, str]:
    done = tollgate("healthcheck", *arguments)
    return done.returncode, done.stdout, done.stderr


def test_a_gateway_is_well_until_it_drains_and_alive_until_it_ends(gateway, echo, tmp_path):
    """By the file, which need not have its secrets at hand; by a URL; while draining; and afterwards."""
    config = base("{folder}").replace('[admin]\nlisten = "127.0.0.1:0"', f'[admin]\nlisten = "0.0.0.0:{free_port()}"')
    server = gateway(config + upstream("app", echo.url) + route("/{*rest}", "app", 'auth = "public"'))
    file = tmp_path / "other.toml"
    file.write_text(server.config.read_text() + '\n[tokens]\nkey = { env = "NOT_SET_HERE" }\n')
    for arguments in (["-c", server.config], ["-c", file], ["--url", f"{server.admin_url}/readyz"], ["--live", "-c", file]):
        assert healthcheck(*arguments) == (0, "ok\n", ""), arguments
    # A request in flight keeps the process draining.
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"POST /echo/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
        eventually("the request to be in flight", lambda: b"requests_in_flight 1" in send(server.admin_port, "GET", "/metrics").body)
        server.signal(signal.SIGTERM)
        eventually("draining", lambda: send(server.admin_port, "GET", "/readyz").status == 503)
        status, said, errors = healthcheck("-c", file)
        assert (status, said) == (1, "") and errors.endswith("/readyz` answers 503\n"), errors
        assert healthcheck("--live", "-c", file) == (0, "ok\n", "")
        client.sendall(b"cde")
        assert server.wait() == 0
    status, _, errors = healthcheck("-c", file)
    assert status == 1 and "Connection refused" in errors and "\nhint: " in errors


def test_what_is_no_gateway_is_not_well(tmp_path):
    """Silence has a limit, garbage is no answer, and an address that cannot be known is told."""
    with listening(None) as silent, listening(b"garbage\r\n\r\n") as garbage, listening(b"") as closing:
        begin = time.monotonic()
        status, _, errors = healthcheck("--url", f"http://127.0.0.1:{silent}/readyz")
        assert status == 1 and "no answer within 3 s" in errors and time.monotonic() - begin < 15
        for port in (garbage, closing):
            status, _, errors = healthcheck("--url", f"http://127.0.0.1:{port}/readyz")
            assert status == 1 and "does not answer" in errors, errors
    file = tmp_path / "tollgate.toml"
    for listen, told in (("", 'is ""'), ("127.0.0.1:0", "any free port"), ("nowhere", "is not an IP address")):
        file.write_text(f'[admin]\nlisten = "{listen}"\n')
        status, _, errors = healthcheck("-c", file)
        assert status == 1 and told in errors, errors
    assert healthcheck("-c", tmp_path / "none.toml")[0] == 1
    for url in ("https://127.0.0.1/readyz", "http://root:canary@127.0.0.1:1/readyz", "/readyz"):
        status, said, errors = healthcheck("--url", url)
        assert status == 1 and said == "" and errors.startswith("error: `--url` must") and "canary" not in errors, errors
