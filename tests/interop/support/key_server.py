"""An issuer's server on loopback, over HTTP or TLS, that answers each path as a test wants, also as no server should."""

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

import jwt

Behaviour = Callable[[socket.socket], None]
BIT_BUCKET = b"x" * 65536


class KeyServer:
    """Each connection is one request, whose path chooses the behaviour. Counts what was asked for, and what was written."""

    def __init__(self, certificate: Path | None = None, port: int = 0):
        self.paths: dict[str, Behaviour] = {}
        self.heads: list[str] = []
        self.sent: dict[str, int] = {}
        self.context = tls_context(certificate) if certificate else None
        self.listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        self.port = self.listener.getsockname()[1]
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"{'https' if self.context else 'http'}://127.0.0.1:{self.port}"

    def count(self, path: str) -> int:
        """Requests for the path so far."""
        return sum(head.startswith(f"GET {path} ") for head in list(self.heads))

    def publish(self, path: str, *keys: dict, headers: str = "") -> None:
        self.paths[path] = answer(json.dumps({"keys": keys}).encode(), headers=headers)

    def stop(self) -> None:
        self.over.set()
        # Only this wakes a thread that accepts.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(10)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def _accept(self) -> None:
        while not self.over.is_set():
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            client.settimeout(30)
            if self.context:
                client = self.context.wrap_socket(client, server_side=True)
            head = b""
            while b"\r\n\r\n" not in head:
                piece = client.recv(4096)
                if not piece:
                    return
                head += piece
            path = head.split(b" ")[1].decode()
            self.heads.append(head.decode())
            counted = Counted(client, self, path)
            with contextlib.suppress(OSError):
                self.paths.get(path, answer(b"nothing here", "404 Not Found"))(counted)
            client.close()


class Counted:
    """A connection that counts what is written to it."""

    def __init__(self, client: socket.socket, server: KeyServer, path: str):
        self.client, self.server, self.path = client, server, path

    def sendall(self, data: bytes) -> None:
        self.client.sendall(data)
        self.server.sent[self.path] = self.server.sent.get(self.path, 0) + len(data)

    def recv(self, size: int) -> bytes:
        return self.client.recv(size)

    def is_over(self) -> bool:
        return self.server.over.is_set()


def tls_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def answer(body: bytes, status: str = "200 OK", headers: str = "", length: int | None = None) -> Behaviour:
    length = len(body) if length is None else length
    head = f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n".encode()
    return lambda client: client.sendall(head + body)


def redirect(target: str) -> Behaviour:
    return answer(b"", "302 Found", f"Location: {target}\r\n")


def endless(client) -> None:
    """100 MB without a word about it before."""
    client.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b'{"keys":[' + b" " * 1000)
    for _ in range(1600):
        client.sendall(BIT_BUCKET)


def trickle(client) -> None:
    """One byte a second of an answer that would be good."""
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n")
    for byte in b'{"keys":[]}\n':
        if client.is_over():
            return
        client.sendall(bytes([byte]))
        time.sleep(1)


def silent(client) -> None:
    """Takes the request and says nothing, for as long as the other side stays."""
    client.recv(1)


def unended(body: bytes) -> Behaviour:
    """A whole answer that is said to be longer, on a connection that stays open."""

    def serve(client) -> None:
        answer(body, length=len(body) + 1)(client)
        client.recv(1)

    return serve


class Held:
    """Answers like `then`, but not before it is released."""

    def __init__(self, then: Behaviour):
        self.then, self.gate, self.count = then, threading.Event(), 0

    def __call__(self, client) -> None:
        self.count += 1
        assert self.gate.wait(30)
        self.then(client)


def jwk(private: object, algorithm: str, kid: str | None, **changes: object) -> dict:
    """The public JWK; a change to `None` leaves the member out."""
    key = jwt.get_algorithm_by_name(algorithm).to_jwk(private.public_key(), as_dict=True)
    members = {**key, "kid": kid, "alg": algorithm, "use": "sig", "key_ops": None, **changes}
    return {name: value for name, value in members.items() if value is not None}
