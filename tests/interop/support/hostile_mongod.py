"""A server that speaks enough of MongoDB's protocol to be believed, and then answers as no server should."""

import os
import socket
import struct
import threading

import bson

from .relay import close

OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
HELLO = {
    "helloOk": True,
    "ismaster": True,
    "isWritablePrimary": True,
    "maxBsonObjectSize": 16 * 1024 * 1024,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "connectionId": 1,
    "minWireVersion": 0,
    "maxWireVersion": 17,
    "readOnly": False,
    "ok": 1.0,
}
USER = {"_id": "eve", "username": "eve", "password": "x"}


def found(*documents):
    return {"cursor": {"id": bson.Int64(0), "ns": "test.users", "firstBatch": list(documents)}, "ok": 1.0}


def header(length, answered, operation=OP_MSG):
    return struct.pack("<iiii", length, 7, answered, operation)


def message(payload, answered, operation=OP_MSG):
    """An OP_MSG with one section, whose document is `payload`."""
    body = struct.pack("<IB", 0, 0) + payload
    return header(16 + len(body), answered, operation) + body


def reply(document, answered, operation):
    """The answer to a command, in the form that the question had."""
    payload = bson.encode(document)
    if operation == OP_QUERY:
        body = struct.pack("<iqii", 8, 0, 0, 1) + payload
        return header(16 + len(body), answered, OP_REPLY) + body
    return message(payload, answered)


def lying(value):
    """A document whose one element is given in bytes, whatever they are."""
    return struct.pack("<i", 4 + len(value) + 1) + value + b"\0"


def nested(depth):
    document = b"\x05\0\0\0\0"
    for _ in range(depth):
        document = lying(b"\x03a\0" + document)
    return document


class Flood:
    """So many bytes after a head, in pieces, until the other side has had enough."""

    def __init__(self, head, length):
        self.head, self.length = head, length

    def send(self, connection):
        connection.sendall(self.head)
        for _ in range(self.length // 65_536):
            connection.sendall(bytes(65_536))


# What is sent to a `find` with that request id. `None`: nothing, for ever. Empty: the connection is closed.
ANSWERS = {
    "random bytes": lambda answered: os.urandom(4096),
    "another protocol": lambda answered: b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "a negative length": lambda answered: header(-1, answered) + bytes(64),
    "the least length there is": lambda answered: header(-(2**31), answered) + bytes(64),
    "a length of zero": lambda answered: header(0, answered) + bytes(64),
    "a length of less than its head": lambda answered: header(15, answered) + bytes(64),
    "64 MB": lambda answered: Flood(header(64 * 2**20, answered), 64 * 2**20),
    "47 MB that are allowed, of zeros": lambda answered: Flood(header(47_000_000, answered), 47_000_000 + 65_536),
    "a length of 2 GB and silence": lambda answered: header(2**31 - 1, answered),
    "silence": lambda answered: None,
    "a close at once": lambda answered: b"",
    "a close in the middle": lambda answered: message(bson.encode(found(USER)), answered)[:60],
    "an unknown operation": lambda answered: message(bson.encode(found(USER)), answered, operation=4242),
    "compressed, which nobody asked for": lambda answered: header(64, answered, 2012) + bytes(48),
    "an answer to another question": lambda answered: message(bson.encode({"ok": 1.0}), answered + 1),
    "an unknown type": lambda answered: message(lying(b"\x7ea\0\1\2\3\4"), answered),
    "a string longer than its document": lambda answered: message(lying(b"\x02a\0\xff\xff\xff\x7fx\0"), answered),
    "a string that is not UTF-8": lambda answered: message(lying(b"\x02a\0\x03\0\0\0\xff\xfe\0"), answered),
    "a document longer than its message": lambda answered: message(struct.pack("<i", 10_000) + bytes(20), answered),
    "a document of negative length": lambda answered: message(struct.pack("<i", -5) + bytes(20), answered),
    "20,000 documents in each other": lambda answered: message(nested(20_000), answered),
    "no document": lambda answered: header(21, answered) + struct.pack("<IB", 0, 0),
    "an empty document": lambda answered: message(bson.encode({}), answered),
    "success without a cursor": lambda answered: message(bson.encode({"ok": 1.0}), answered),
    "success in words": lambda answered: message(bson.encode({**found(USER), "ok": "yes"}), answered),
    "a cursor of a wrong type": lambda answered: message(bson.encode({"cursor": 5, "ok": 1.0}), answered),
    "a batch of numbers": lambda answered: message(bson.encode(found(1, 2)), answered),
    "an error without words": lambda answered: message(bson.encode({"ok": 0.0}), answered),
    "an error with words": lambda answered: message(
        bson.encode({"ok": 0.0, "code": 8000, "codeName": "Leak", "errmsg": "driver text 127.0.0.1 hunter2"}), answered
    ),
    "more to come for ever": lambda answered: message(
        bson.encode({"cursor": {"id": bson.Int64(9), "ns": "test.users", "firstBatch": []}, "ok": 1.0}), answered
    ),
}
# What is sent to the very first question of every connection.
GREETINGS = {
    "a greeting of random bytes": lambda answered: os.urandom(512),
    "silence for a greeting": lambda answered: None,
    "no greeting": lambda answered: b"",
    "a version of the far future": lambda answered: message(
        bson.encode({**HELLO, "minWireVersion": 900, "maxWireVersion": 900}), answered
    ),
    "a greeting of wrong types": lambda answered: message(
        bson.encode({**HELLO, "maxWireVersion": "x", "isWritablePrimary": [], "maxMessageSizeBytes": -1}), answered
    ),
    "a greeting that is an error": lambda answered: message(bson.encode({"ok": 0.0, "errmsg": "go away"}), answered),
}


class HostileMongod:
    """Greets well, unless it is told not to, and answers every `find` in the one way of `ANSWERS` that is set."""

    def __init__(self):
        self.manner = "silence"
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self):
        close(self._listener)

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        connection.settimeout(20)
        try:
            while head := read(connection, 16):
                length, number, _, operation = struct.unpack("<iiii", head)
                body = read(connection, length - 16)
                if not self._answer(connection, number, operation, body):
                    break
        except OSError:
            pass
        close(connection)

    def _answer(self, connection, number, operation, body):
        command = b"".join(body.split(b"\0", 8)[:8]) if operation == OP_QUERY else body[9:40]
        greeting = any(name in command for name in (b"hello", b"isMaster", b"ismaster"))
        table = GREETINGS if greeting else ANSWERS
        if self.manner in table:
            answer = table[self.manner](number)
        elif b"getMore" in command:
            more = {"id": bson.Int64(9), "ns": "test.users", "nextBatch": []}
            answer = message(bson.encode({"cursor": more, "ok": 1.0}), number)
        else:
            answer = reply(HELLO if greeting else {"ok": 1.0}, number, operation)
        if answer is None:
            return True
        if isinstance(answer, Flood):
            answer.send(connection)
            return True
        connection.sendall(answer)
        # What makes sense to nobody is followed by the end, as a broken server's would be.
        return answer != b"" and len(answer) != 60


def read(connection, length):
    data = b""
    while len(data) < length:
        block = connection.recv(length - len(data))
        if not block:
            return b""
        data += block
    return data
