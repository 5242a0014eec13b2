"""What an upstream learns about the caller: from the gateway, and from nobody else."""

import re
import socket
import time

import pytest

from support.config import TRUSTED_LAB, base, lab_token, route, upstream
from support.http import assert_refused, bearer, send
from support.processes import Application, free_port

IDENTITY = ["X-Forwarded-User", "X-Forwarded-Preferred-Username", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Forwarded-Scopes"]
# It must live until its test's turn in the whole run.
TOKEN = lab_token(
    name="Alice",
    email="alice@example.org",
    roles=["scientist", "admin"],
    scope="read write",
    project=["apollo"],
    exp=int(time.time()) + 3600,
)


@pytest.fixture(scope="module")
def wsgi():
    """A WSGI application: there, `X-Forwarded-User` and `X_Forwarded_User` are one name."""
    application = Application("wsgi_app")
    yield application
    application.stop()


@pytest.fixture(scope="module")
def gate(module_gateway, echo, wsgi):
    """One route for each kind of access, before the echo application, and one before the WSGI application."""
    return module_gateway(
        base("{folder}")
        + TRUSTED_LAB
        + upstream("app", echo.url)
        + upstream("passing", echo.url, more='token = { mode = "pass" }')
        + upstream("wsgi", wsgi.url)
        + route("/echo/{*rest}", "app")
        + route("/echo/public/{*rest}", "app", 'auth = "public"')
        + route("/echo/optional/{*rest}", "app", 'auth = "optional"')
        + route("/echo/pass/{*rest}", "passing")
        + route("/echo/scoped/{*rest}", "app", 'scopes = ["read", "approve"]')
        + route("/echo/role/{*rest}", "app", 'any_role = ["owner", "admin"]')
        + route("/echo/no-role/{*rest}", "app", 'any_role = ["owner"]')
        + route("/echo/projects/{project}/{*rest}", "app", 'claims = { project = "{project}" }')
        + route("/stripped/{*rest}", "app", 'strip_prefix = "/stripped"')
        + route("/rewritten/{one}/{*rest}", "app", 'rewrite = "/echo/{one}.json/{*rest}"')
        + route("/wsgi/{*rest}", "wsgi", 'auth = "public"')
    )


def seen(answer):
    """The headers that the application saw, each with all its values."""
    assert answer.status == 200, answer
    headers = {}
    for name, value in answer.json()["headers"]:
        headers.setdefault(name, []).append(value)
    return headers


def test_the_application_sees_who_is_calling(gate):
    headers = seen(send(gate.port, "GET", "/echo/a", bearer(TOKEN)))
    assert headers["x-forwarded-user"] == ["alice"]
    assert headers["x-forwarded-preferred-username"] == ["Alice"]
    assert headers["x-forwarded-email"] == ["alice@example.org"]
    assert headers["x-forwarded-groups"] == ["scientist,admin"]
    assert headers["x-forwarded-scopes"] == ["read write"]


SPELLINGS = [str, str.lower, str.upper, str.swapcase, lambda name: name.replace("-", "_"), lambda name: name.lower().replace("-", "_")]
SPELLINGS += [lambda name: name.replace("-", "_", 1), lambda name: name[::-1].replace("-", "_", 1)[::-1].upper()]


@pytest.mark.parametrize("path, authenticated", [("/echo/a", True), ("/echo/public/a", False), ("/echo/optional/a", False)])
def test_an_identity_that_the_client_sent_does_not_arrive(path, authenticated, gate):
    forged = [(spell(name), f"forged{number}") for number, spell in enumerate(SPELLINGS) for name in IDENTITY]
    token = list(bearer(lab_token()).items()) if authenticated else []
    headers = seen(send(gate.port, "GET", path, forged + token))
    assert "forged" not in str(headers)
    known = {name.lower() for name in IDENTITY}
    arrived = {name.replace("_", "-"): values for name, values in headers.items() if name.replace("_", "-") in known}
    assert arrived == ({"x-forwarded-user": ["alice"]} if authenticated else {})


def test_an_identity_that_the_client_sent_does_not_reach_wsgi(gate):
    forged = [(spell(name), "forged") for spell in SPELLINGS for name in IDENTITY]
    answer = send(gate.port, "GET", "/wsgi/a", forged + [("X-Other", "kept")])
    assert answer.status == 200 and answer.json()["HTTP_X_OTHER"] == "kept"
    assert "forged" not in str(answer.json())


def test_a_connection_header_cannot_remove_the_identity(gate):
    headers = {"Connection": "close, X-Forwarded-User, X-Removed", "X-Removed": "yes", "X-Kept": "yes", "TE": "gzip"}
    arrived = seen(send(gate.port, "GET", "/echo/a", {**headers, "Keep-Alive": "5", **bearer(TOKEN)}))
    assert arrived["x-forwarded-user"] == ["alice"]
    assert arrived["x-kept"] == ["yes"]
    assert not {"x-removed", "keep-alive", "te"} & set(arrived)
    assert "x-removed" not in str(arrived.get("connection", "")).lower()


def test_the_token_is_stripped_or_passed_as_the_upstream_says(gate):
    assert "authorization" not in seen(send(gate.port, "GET", "/echo/a", bearer(TOKEN)))
    assert seen(send(gate.port, "GET", "/echo/pass/a", bearer(TOKEN)))["authorization"] == [f"Bearer {TOKEN}"]


def test_the_application_learns_how_the_request_came(gate):
    headers = seen(send(gate.port, "GET", "/echo/a", bearer(TOKEN), host="science.example.org"))
    assert headers["x-forwarded-for"] == ["127.0.0.1"]
    assert headers["x-forwarded-proto"] == ["http"]
    assert headers["x-forwarded-host"] == ["science.example.org"]
    (forwarded,) = headers["forwarded"]
    assert "for=127.0.0.1" in forwarded and "proto=http" in forwarded and "science.example.org" in forwarded
    assert headers["via"][0].startswith("1.1 ")
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", headers["traceparent"][0])
    assert len(headers["x-request-id"]) == 1


def test_what_an_untrusted_client_says_about_its_way_is_not_believed(gate):
    told = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9;proto=https", "X-Forwarded-Proto": "https"}
    headers = seen(send(gate.port, "GET", "/echo/a", {**told, **bearer(TOKEN)}))
    assert "203.0.113.9" not in str(headers)
    assert headers["x-forwarded-proto"] == ["http"]


def test_the_request_id_is_the_same_for_client_and_application(gate):
    answer = send(gate.port, "GET", "/echo/a", bearer(TOKEN))
    assert seen(answer)["x-request-id"] == [answer.header("X-Request-Id")]


def test_an_optional_route_knows_a_caller_who_says_who_it_is(gate):
    assert seen(send(gate.port, "GET", "/echo/optional/a", bearer(TOKEN)))["x-forwarded-user"] == ["alice"]
    assert_refused(send(gate.port, "GET", "/echo/optional/a", bearer(TOKEN + "x")), 401, "token_signature")


def test_a_caller_without_the_right_is_refused(gate):
    refused = send(gate.port, "GET", "/echo/scoped/a", bearer(TOKEN))
    assert_refused(refused, 403, "scope_missing")
    assert 'error="insufficient_scope"' in refused.header("WWW-Authenticate")
    assert 'scope="read approve"' in refused.header("WWW-Authenticate")
    assert_refused(send(gate.port, "GET", "/echo/no-role/a", bearer(TOKEN)), 403, "role_missing")
    assert_refused(send(gate.port, "GET", "/echo/projects/gemini/a", bearer(TOKEN)), 403, "claim_mismatch")
    assert send(gate.port, "GET", "/echo/projects/apollo/a", bearer(TOKEN)).status == 200
    assert send(gate.port, "GET", "/echo/role/a", bearer(TOKEN)).status == 200
    assert send(gate.port, "GET", "/echo/scoped/a", bearer(lab_token(scope="approve read"))).status == 200
    assert_refused(send(gate.port, "GET", "/echo/a"), 401, "token_missing")
    assert_refused(send(gate.port, "GET", "/nowhere/a", bearer(TOKEN)), 404, "route_not_found")


def test_a_path_is_rewritten_as_the_route_says(gate):
    assert send(gate.port, "GET", "/stripped/echo/a?b=c", bearer(TOKEN)).json()["raw_path"] == "/echo/a"
    rewritten = send(gate.port, "GET", "/rewritten/x%20y/b/c?d", bearer(TOKEN)).json()
    assert (rewritten["raw_path"], rewritten["query"]) == ("/echo/x%20y.json/b/c", "d")


ODD = ["/echo/%2e%2e/admin", "/echo/a%2fb", "/echo//a", "/echo/a\\b", "/echo/..;/a", "/echo/a;b", "/echo/a%00", "/echo/../a"]
ODD += ["/echo/%c0%ae", "/echo/%5c", "/echo/%252e", "/echo/%zz"]


@pytest.mark.parametrize("path", ODD)
def test_a_path_that_two_parsers_read_differently_is_refused(path, gate):
    assert_refused(send(gate.port, "GET", path, bearer(TOKEN)), 400, "bad_path")


def test_an_encoded_letter_is_that_letter_for_the_route_and_for_the_application(gate):
    assert_refused(send(gate.port, "GET", "/echo/%73coped/a", bearer(TOKEN)), 403, "scope_missing")
    assert send(gate.port, "GET", "/echo/%61/%7Eb", bearer(TOKEN)).json()["raw_path"] == "/echo/a/~b"


HEADS = ["GET /echo/public/a HTTP/1.1", "GET /echo/public/a HTTP/1.1\r\nHost: a\r\nHost: b"]
HEADS += ["GET http://b/echo/public/a HTTP/1.1\r\nHost: a", "CONNECT a:80 HTTP/1.1\r\nHost: a:80"]
HEADS += ["TRACE /echo/public/a HTTP/1.1\r\nHost: a"]


@pytest.mark.parametrize("head", HEADS)
def test_a_head_that_cannot_be_trusted_is_refused(head, gate):
    with socket.create_connection(("127.0.0.1", gate.port), timeout=20) as connection:
        connection.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode())
        status = int(connection.makefile("rb").readline().split()[1])
    assert status in (400, 405), status


def test_a_dead_server_is_passed_over_and_a_dead_upstream_is_a_502(gateway, echo):
    dead = f"http://127.0.0.1:{free_port()}"
    server = gateway(
        base("{folder}")
        + upstream("half", dead, echo.url, more='balance = "round_robin"')
        + upstream("dead", dead)
        + route("/echo/{*rest}", "half", 'auth = "public"')
        + route("/dead/{*rest}", "dead", 'auth = "public"')
    )
    assert [send(server.port, "GET", "/echo/a").status for _ in range(6)] == [200] * 6
    refused = send(server.port, "GET", "/dead/a")
    assert_refused(refused, 502, "upstream_unreachable")
    assert dead.removeprefix("http://") not in str(refused.body)
