"""SIGHUP: what log rotation sends after it has moved the access log, and what must not end a process."""

import json
import os
import signal
import threading
import time

from support.config import ENVIRONMENT, base, route, upstream
from support.databases import Standalone
from support.http import send
from support.processes import Gateway, eventually


def to_file(folder, path):
    return base(folder).replace("[log]", f'[log]\naccess = "{path}"')


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_access_log_is_opened_anew_and_no_line_is_lost(gateway, echo, tmp_path):
    log, moved = tmp_path / "access.log", tmp_path / "access.log.1"
    server = gateway(to_file(tmp_path, log) + upstream("app", echo.url) + route("/{*rest}", "app", 'auth = "public"'))
    over, sent = threading.Event(), []

    def keep_sending():
        while not over.is_set():
            sent.append(send(server.port, "GET", "/echo/a").header("X-Request-Id"))

    client = threading.Thread(target=keep_sending)
    client.start()
    try:
        eventually("the first lines", lambda: log.exists() and log.stat().st_size > 0)
        log.rename(moved)
        server.signal(signal.SIGHUP)
        eventually("a new file with lines", lambda: log.exists() and log.stat().st_size > 0)
    finally:
        over.set()
        client.join(30)
    eventually("every line", lambda: len(lines(moved)) + len(lines(log)) == len(sent))
    assert sorted(line["request.id"] for line in lines(moved) + lines(log)) == sorted(sent)
    assert [line["message"] for line in server.log()].count("Access log opened anew") == 1
    assert os.stat(moved).st_ino != os.stat(log).st_ino


def test_an_access_log_that_cannot_be_opened_anew_goes_on_in_the_former_file(gateway, echo, tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    log, moved = folder / "access.log", tmp_path / "elsewhere"
    server = gateway(to_file(tmp_path, log) + upstream("app", echo.url) + route("/{*rest}", "app", 'auth = "public"'))
    log.rename(moved)
    folder.rmdir()
    server.signal(signal.SIGHUP)
    failed = lambda: [line for line in server.log() if "former file is kept" in line["message"]]
    (line,) = eventually("a word in the log", failed)
    assert line["level"] == "ERROR" and "No such file" in line["error"]
    request_id = send(server.port, "GET", "/echo/a").header("X-Request-Id")
    assert eventually("the line", lambda: [line for line in lines(moved) if line["request.id"] == request_id])


def test_an_access_log_that_is_a_pipe_without_a_reader_stops_neither_the_start_nor_requests(gateway, echo, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    server = gateway(to_file(tmp_path, pipe) + upstream("app", echo.url) + route("/{*rest}", "app", 'auth = "public"'))
    server.signal(signal.SIGHUP)
    eventually("a word in the log", lambda: any("opened anew" in line["message"] for line in server.log()))
    request_ids = [send(server.port, "GET", "/echo/a").header("X-Request-Id") for _ in range(3)]
    with pipe.open() as reader:
        # Each worker hands over its own lines, so only their set is certain.
        assert {json.loads(reader.readline())["request.id"] for _ in request_ids} == set(request_ids)


def test_a_hangup_without_a_file_is_told_and_ends_nothing(gateway, echo):
    server = gateway(base("{folder}") + upstream("app", echo.url) + route("/{*rest}", "app", 'auth = "public"'))
    server.signal(signal.SIGHUP)
    eventually("a word in the log", lambda: any("SIGHUP ignored" in line["message"] for line in server.log()))
    assert send(server.port, "GET", "/echo/a").status == 200


def test_a_hangup_while_the_store_is_waited_for_does_not_end_the_start(tmp_path):
    database = Standalone(tmp_path / "mongod")
    database.pause()
    try:
        server = Gateway(tmp_path / "gateway", base(tmp_path, database.uri("start")), ENVIRONMENT, wait=False)
        # The time before the signal is caught cannot be seen from outside; the store is waited for almost 2 s.
        time.sleep(0.7)
        assert server.process.poll() is None
        server.signal(signal.SIGHUP)
        time.sleep(0.1)
        database.resume()
        server.wait_until_listening()
        server.stop()
    finally:
        database.stop()
