"""Many requests on one connection, sent ahead of their answers."""

import json
import socket
from collections.abc import Iterable, Iterator

BATCH = 48


def ask(port: int, tokens: Iterable[str], target: str = "/auth/me") -> Iterator[tuple[int, str]]:
    """The status and the code of the refusal (empty: none) for each token, in their order."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection, connection.makefile("rb") as answers:
        batch: list[str] = []
        for token in tokens:
            batch.append(token)
            if len(batch) == BATCH:
                yield from exchange(connection, answers, batch, target)
                batch = []
        yield from exchange(connection, answers, batch, target)


def exchange(connection: socket.socket, answers, batch: list[str], target: str) -> Iterator[tuple[int, str]]:
    head = f"GET {target} HTTP/1.1\r\nHost: gate.example.org\r\nAuthorization: Bearer "
    connection.sendall("".join(f"{head}{token}\r\n\r\n" for token in batch).encode("latin-1"))
    for _ in batch:
        status = int(answers.readline()[9:12])
        length = 0
        while (line := answers.readline()) != b"\r\n":
            assert line, "the gateway closed the connection in the middle of an answer"
            if line[:15].lower() == b"content-length:":
                length = int(line[15:])
        body = answers.read(length)
        yield status, "" if status == 200 else json.loads(body)["code"]
