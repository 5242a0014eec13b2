"""A FastAPI application answers the same through the gateway as directly."""

import hashlib
import http.client
import json
import os
import threading
import time

import pytest

from support.config import TRUSTED_LAB, base, lab_token, route, upstream
from support.http import bearer, send
from support.processes import eventually

# What may differ: the gateway's own headers, the framing of each connection, and the clock.
OWN = {"x-request-id", "via", "date", "connection", "keep-alive", "transfer-encoding"}
# What the gateway adds to a request.
ADDED = {"forwarded", "via", "x-request-id", "traceparent"}


@pytest.fixture(scope="module")
def through(module_gateway, echo):
    """A gateway before the FastAPI application: all of it at `/`, with a token that is good for every test."""
    return module_gateway(base("{folder}") + TRUSTED_LAB + upstream("app", echo.url) + route("/{*rest}", "app"))


TOKEN = lab_token(
    name="Alice Ångström", email="alice@example.org", roles=["scientist", "admin"], scope="read write", exp=int(time.time()) + 3600
)


def headers_that_count(answer):
    # The echo of a request is longer through the gateway, by the headers that it adds; what it says is compared instead.
    left_out = OWN | {"content-length"} if b'"raw_path"' in answer.body else OWN
    return sorted((name.lower(), value) for name, value in answer.headers if name.lower() not in left_out)


def both(through, echo, method, target, headers=(), body=None):
    """The answer through the gateway, after checking that the direct one is the same. A body that is made anew for each
    request is given as a function."""
    headers = list(headers.items()) if isinstance(headers, dict) else list(headers)
    made = body if callable(body) else lambda: body
    direct = send(echo.port, method, target, headers, made())
    proxied = send(through.port, method, target, headers + list(bearer(TOKEN).items()), made())
    assert (proxied.status, proxied.reason) == (direct.status, direct.reason), proxied
    assert headers_that_count(proxied) == headers_that_count(direct)
    if target.startswith("/echo/") and method != "HEAD":
        assert what_arrived(proxied) == what_arrived(direct)
    else:
        assert hashlib.sha256(proxied.body).hexdigest() == hashlib.sha256(direct.body).hexdigest()
    return proxied


def what_arrived(answer):
    """What the application saw, without what the gateway is there to add."""
    seen = answer.json()
    added = lambda name: name in ADDED or name.startswith("x-forwarded-") or name in OWN or name == "content-length"
    return {**seen, "headers": sorted([name, value] for name, value in seen["headers"] if not added(name))}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
@pytest.mark.parametrize("body", [None, b"", b"\x00\xff body"])
def test_every_method_and_body_arrives(method, body, through, echo):
    if method == "HEAD":
        target, body = "/static/table.csv", None
    else:
        target = "/echo/of/a/method"
    both(through, echo, method, target, {"Content-Type": "application/octet-stream"} if body else {}, body)


PATHS = ["/echo/", "/echo/a", "/echo/a/", "/echo/a/b/c.d", "/echo/a%20b", "/echo/%C3%A9t%C3%A9", "/echo/a+b", "/echo/a%3Bv=1"]
PATHS += ["/echo/a:b@c", "/echo/~!$&'()*,=", "/echo/...", "/echo/.hidden", "/echo/" + "long" * 1000, "/not/there", "/ECHO/a"]


@pytest.mark.parametrize("path", PATHS)
def test_every_path_arrives_as_it_was_sent(path, through, echo):
    both(through, echo, "GET", path)


QUERIES = ["a=1&a=2&b=&c", "q=%2F%2e%2e%2F//../..", "x=a+b%20c", "", "&&=&;a=b", "bad=%zz&%", "u=http://e.org/?x=1", "[]=1&{x}|^"]
QUERIES += ["d=" + "0123456789" * 500]


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_arrives_byte_for_byte(query, through, echo):
    both(through, echo, "GET", f"/echo/a?{query}")


def test_fastapi_routing_and_validation_are_unchanged(through, echo):
    as_json = {"Content-Type": "application/json"}
    assert both(through, echo, "GET", "/items/7").json() == {"item": 7}
    assert both(through, echo, "GET", "/items/seven").status == 422
    assert both(through, echo, "PUT", "/items/7", as_json, b'{"name": "x", "price": 1.5}').status == 200
    assert both(through, echo, "PUT", "/items/7", as_json, b'{"name": "x"}').status == 422
    assert both(through, echo, "DELETE", "/items/7").status == 405
    assert both(through, echo, "GET", "/openapi.json").status == 200
    assert both(through, echo, "GET", "/docs").status == 200


def test_a_redirect_is_passed_on_and_not_followed(through, echo):
    answer = both(through, echo, "GET", "/items?limit=3")
    assert (answer.status, answer.header("Location")) == (307, "http://science.example.org/items/?limit=3")


@pytest.mark.parametrize("code", [200, 201, 204, 206, 304, 400, 401, 403, 404, 409, 418, 500, 502, 503])
def test_every_status_is_passed_on(code, through, echo):
    assert both(through, echo, "GET", f"/status/{code}").header("X-Answer") == "yes"


def test_two_cookies_stay_two(through, echo):
    assert len(both(through, echo, "GET", "/cookies").all("Set-Cookie")) == 2


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_ranges_and_validators_of_a_file_work(method, through, echo):
    file = "/static/table.csv"
    whole = both(through, echo, method, file)
    assert whole.status == 200 and whole.header("Accept-Ranges") == "bytes"
    etag = whole.header("ETag")
    for range in ["bytes=0-99", "bytes=100-", "bytes=-50"]:
        assert both(through, echo, method, file, {"Range": range}).status == 206
        assert both(through, echo, method, file, {"Range": range, "If-Range": etag}).status == 206
        assert both(through, echo, method, file, {"Range": range, "If-Range": '"other"'}).status == 200
    assert both(through, echo, method, file, {"Range": "bytes=99999999-"}).status == 416
    unchanged = both(through, echo, method, file, {"If-None-Match": etag})
    assert (unchanged.status, unchanged.body) == (304, b"")


def test_several_ranges_come_in_one_answer(through):
    answer = send(through.port, "GET", "/static/table.csv", {"Range": "bytes=0-9,20-29", **bearer(TOKEN)})
    # The boundary is chosen anew each time, so this one is not compared.
    assert answer.status == 206 and answer.header("Content-Type").startswith("multipart/byteranges")
    assert answer.body.count(b"Content-Range: bytes ") == 2


def test_large_bodies_pass_both_ways(through, echo):
    size = 20 * 1024 * 1024
    down = both(through, echo, "GET", f"/large?bytes={size}")
    assert len(down.body) == size
    body = os.urandom(size)
    counted = both(through, echo, "POST", "/upload/counted", body=body)
    chunked = both(through, echo, "POST", "/upload/chunked", body=lambda: (body[at : at + 70_001] for at in range(0, size, 70_001)))
    for answer in (counted, chunked):
        assert answer.json() == {"length": size, "sha256": hashlib.sha256(body).hexdigest()}


def test_a_response_streams_as_it_is_made(through):
    connection = http.client.HTTPConnection("127.0.0.1", through.port, timeout=20)
    began = time.monotonic()
    connection.request("GET", "/ticks?count=4&pause=1", headers=bearer(TOKEN))
    response = connection.getresponse()
    assert response.readline() == b"tick 0\n"
    assert time.monotonic() - began < 2, "the first line came before the application made the last"
    assert response.read() == b"tick 1\ntick 2\ntick 3\n"
    connection.close()


def test_a_request_streams_as_it_is_sent(through):
    go_on = threading.Event()

    def blocks():
        yield b"first"
        assert go_on.wait(20)
        yield b"second"

    answers = []
    sender = threading.Thread(target=lambda: answers.append(send(through.port, "POST", "/upload/slow", bearer(TOKEN), blocks())))
    sender.start()
    try:
        so_far = lambda: send(through.port, "GET", "/received/slow", bearer(TOKEN)).json() == 5
        eventually("the application to have the first block while the second is not sent", so_far)
    finally:
        go_on.set()
        sender.join(20)
    assert answers[0].json()["length"] == 11


def test_expect_100_continue_is_answered_after_the_decision(through):
    request = "POST /upload/expected HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n{}\r\n"
    for authorization, first in [(f"Authorization: Bearer {TOKEN}\r\n", b"HTTP/1.1 100 "), ("", b"HTTP/1.1 401 ")]:
        connection = http.client.HTTPConnection("127.0.0.1", through.port, timeout=20)
        connection.connect()
        connection.sock.sendall(request.format(authorization).encode())
        received = connection.sock.recv(65_536)
        assert received.startswith(first), received
        if first.endswith(b"100 "):
            connection.sock.sendall(b"body")
            response = http.client.HTTPResponse(connection.sock)
            response.begin()
            assert (response.status, json.loads(response.read())["length"]) == (200, 4)
        connection.close()


def test_a_connection_serves_many_requests(through):
    connection = http.client.HTTPConnection("127.0.0.1", through.port, timeout=20)
    connection.connect()
    local = connection.sock.getsockname()
    for number in range(50):
        connection.request("POST", f"/echo/{number}", b"x" * number, bearer(TOKEN))
        assert json.loads(connection.getresponse().read())["length"] == number
        assert connection.sock.getsockname() == local
    connection.close()
