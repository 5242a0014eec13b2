"""Large bodies pass in constant memory, however slow the other side is."""

import hashlib
import http.client
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.config import base, route, upstream
from support.http import send

MEBIBYTE = 1024 * 1024
# What twenty transfers may hold of the 400 MiB that pass: the program that is tested is not optimized.
MOST_GROWTH = 32 * MEBIBYTE


class Memory:
    """The most resident memory of a process while this watches, above what it had at first."""

    def __init__(self, process):
        self.file = Path(f"/proc/{process.pid}/statm")
        self.first = self.most = self.resident()
        self.done = threading.Event()
        self.watching = threading.Thread(target=self.watch)

    def resident(self):
        return int(self.file.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def watch(self):
        while not self.done.wait(0.01):
            self.most = max(self.most, self.resident())

    def __enter__(self):
        self.watching.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.watching.join()

    @property
    def growth(self):
        return self.most - self.first


@pytest.fixture
def through(gateway, echo):
    server = gateway(base("{folder}") + upstream("app", echo.url) + route("/{*rest}", "app", 'auth = "public"'))
    for _ in range(20):  # What is made once for each thread and connection has been made.
        assert len(send(server.port, "GET", f"/large?bytes={MEBIBYTE}").body) == MEBIBYTE
    return server


def slow_download(port, size, go_on):
    """Reads the beginning, waits, and reads the rest; the number of bytes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", f"/large?bytes={size}")
    response = connection.getresponse()
    count = len(response.read(1024))
    assert go_on.wait(60)
    while block := response.read(64 * 1024):
        count += len(block)
    connection.close()
    return count


def test_twenty_downloads_by_slow_readers_wait_at_the_application(through):
    size = 20 * MEBIBYTE
    go_on = threading.Event()
    with Memory(through.process) as memory, ThreadPoolExecutor(20) as readers:
        downloads = [readers.submit(slow_download, through.port, size, go_on) for _ in range(20)]
        time.sleep(2)  # Enough for all 400 MiB, if anybody took them.
        while_waiting = memory.growth
        go_on.set()
        assert [download.result() for download in downloads] == [size] * 20
    assert memory.growth < MOST_GROWTH, f"{while_waiting} bytes while the readers waited, {memory.growth} in all"


def test_a_large_upload_to_a_slow_application_waits_at_the_client(through):
    size, block = 200 * MEBIBYTE, b"block of an upload" * 4096
    digest = hashlib.sha256()
    sent = 0

    def blocks():
        nonlocal sent
        while sent < size:
            part = block[: size - sent]
            digest.update(part)
            sent += len(part)
            yield part

    with Memory(through.process) as memory, ThreadPoolExecutor(1) as sender:
        upload = sender.submit(send, through.port, "POST", "/upload/late?pause=2", (), blocks(), timeout=120)
        time.sleep(1.5)
        sent_early = sent
        answer = upload.result()
    assert answer.json() == {"length": size, "sha256": digest.hexdigest()}
    assert 0 < sent_early < size / 4, "the application took nothing yet"
    assert memory.growth < MOST_GROWTH, f"{memory.growth} bytes"
