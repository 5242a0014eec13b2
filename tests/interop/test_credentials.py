"""Where a token may stand, what makes it count, and that nothing in it is ever fetched; weak secrets do not start."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import jwt
import pytest

from support.config import ISSUER, LAB_SECRET, TRUSTED_LAB, base, lab_claims, lab_token, route, upstream
from support.forging import SUBJECTS
from support.http import Answer, assert_refused, bearer, send
from support.issuers import forger, signer
from support.processes import Gateway, eventually, tollgate
from support.signing import public_pem


class Recorder:
    """A service that answers every request, and remembers connections and heads byte for byte."""

    def __init__(self) -> None:
        self.connections = 0
        self.heads: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections += 1
                threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as requests, contextlib.suppress(OSError):
            head = b""
            while line := requests.readline():
                head += line
                if line == b"\r\n":
                    self.heads.append(head)
                    head = b""
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def close(self) -> None:
        self.listener.close()


@pytest.fixture(scope="module")
def service() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.close()


@pytest.fixture(scope="module")
def gate(module_gateway, service: Recorder) -> Gateway:
    routes = route("/data/{*rest}", "service") + route("/maybe/{*rest}", "service", 'auth = "optional"')
    return module_gateway(base("{folder}") + TRUSTED_LAB + upstream("service", service.url) + routes)


@pytest.fixture
def untouched(service: Recorder) -> Iterator[None]:
    """Fails if a request of the test reaches the service."""
    before = len(service.heads)
    yield
    assert len(service.heads) == before, service.heads[before:]


def get(gate: Gateway, *authorization: str, target: str = "/data/x", more: tuple[tuple[str, str], ...] = ()) -> Answer:
    return send(gate.port, "GET", target, [("Authorization", value) for value in authorization] + list(more))


QUERIES = ["access_token={}", "token={}", "authorization=Bearer%20{}", "jwt={}&bearer_token={}"]


@pytest.mark.parametrize("target", ["/data/{}", *(f"/data/x?{query}" for query in QUERIES)])
def test_a_token_in_the_target_is_no_credential(target: str, gate: Gateway, untouched: None):
    assert_refused(send(gate.port, "GET", target.format(*[lab_token()] * 2)), 401, "token_missing")


@pytest.mark.parametrize("body", ["access_token={}", "token={}&access_token={}", '{{"access_token": "{}"}}'])
def test_a_token_in_a_body_is_no_credential(body: str, gate: Gateway, untouched: None):
    content = "application/json" if body.startswith("{{") else "application/x-www-form-urlencoded"
    token = lab_token()
    answer = send(gate.port, "POST", "/data/x", {"Content-Type": content}, body.format(token, token).encode())
    assert_refused(answer, 401, "token_missing")


OTHER_HEADERS = ["Cookie", "X-Authorization", "Proxy-Authorization", "X-Access-Token", "Authorization2", "X-Forwarded-User"]


@pytest.mark.parametrize("name", OTHER_HEADERS)
def test_a_token_in_another_header_is_no_credential(name: str, gate: Gateway, untouched: None):
    token = lab_token()
    value = f"access_token={token}; Authorization=Bearer {token}" if name == "Cookie" else f"Bearer {token}"
    assert_refused(get(gate, more=((name, value),)), 401, "token_missing")


def test_two_credentials_are_refused_even_if_they_are_the_same(gate: Gateway, untouched: None):
    token, other = lab_token(), lab_token(sub="bob")
    for one in [f"Bearer {token}", f"Bearer {other}", "Basic dTpw"]:
        pair = [one, f"Bearer {token}"]
        assert_refused(get(gate, *pair), 400, "multiple_tokens")
        assert_refused(get(gate, *reversed(pair)), 400, "multiple_tokens")


def test_only_the_syntax_of_a_bearer_token_is_one(gate: Gateway, untouched: None):
    token = lab_token()
    for text in ["Bearer Bearer {}", "Bearer\t{}", "Bearer {0},Bearer {0}", "Bearer {0} {0}", "Bearer", 'Bearer "{}"']:
        assert_refused(get(gate, text.format(token)), 401, "token_malformed")
    for text in ["Basic dTpw", "Token {}", "JWT {}", "Bearer{}", "{}", "Basic {}", "DPoP {}"]:
        assert_refused(get(gate, text.format(token)), 401, "token_missing")


@pytest.mark.parametrize("value", ["Bearer {}", "bearer {}", "BEARER {}", "Bearer  {}"])
def test_the_case_of_the_scheme_and_the_number_of_spaces_do_not_count(value: str, gate: Gateway):
    assert get(gate, value.format(lab_token())).status == 200


# Made when a test asks for them: a token of the start of the run would be expired, whatever else is wrong with it.
STATES = {
    "garbage": lambda: "x",
    "three empty parts": lambda: "..",
    "unsigned": lambda: jwt.encode(lab_claims(), None, "none"),
    "another secret": lambda: jwt.encode(lab_claims(), LAB_SECRET[::-1], "HS256"),
    "expired": lambda: lab_token(exp=int(time.time()) - 3600),
    "expired long ago": lambda: lab_token(exp=1),
    "not yet valid": lambda: lab_token(nbf=int(time.time()) + 36_000),
    "another issuer": lambda: lab_token(iss="https://elsewhere.example.org"),
    "another audience": lambda: lab_token(aud="other"),
    "a refresh token": lambda: lab_token(headers={"typ": "rt+jwt"}),
    "without claims": lambda: jwt.encode({}, LAB_SECRET, "HS256"),
}


@pytest.mark.parametrize("make", STATES.values(), ids=STATES)
def test_the_presence_of_a_token_is_not_enough(make: Callable[[], str], gate: Gateway, untouched: None):
    """Not on a protected route, not on one that would serve nobody, and not with what a browser asks beforehand."""
    for target in ["/data/x", "/maybe/x", "/auth/me"]:
        answer = get(gate, f"Bearer {make()}", target=target)
        assert answer.status == 401 and answer.json()["code"].startswith("token_"), answer
        assert 'error="invalid_token"' in (answer.header("WWW-Authenticate") or ""), answer


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "PROPFIND", "OPTIONS"])
def test_what_looks_like_a_preflight_does_not_skip_the_token(method: str, gate: Gateway, untouched: None):
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    override = {"X-HTTP-Method-Override": "OPTIONS", "X-Method-Override": "OPTIONS", "X-HTTP-Method": "OPTIONS"}
    answer = send(gate.port, method, "/data/x", {"Origin": "https://app.example.org"} | asked | override)
    assert answer.status == 401, answer


def test_no_address_in_a_token_is_ever_fetched(gate: Gateway, untouched: None):
    """`jku`, `x5u` and their like lead to a listener that has the forger's keys; nobody comes."""
    listener = Recorder()
    own = forger("ES256")
    jwk = {**json.loads(signer("ES256").to_jwk(own.public)), "kid": "forger"}
    for headers in [
        {"jku": f"{listener.url}/keys"},
        {"x5u": f"{listener.url}/chain.pem"},
        {"jku": f"{listener.url}/keys", "jwk": jwk, "kid": "forger"},
        {"kid": f"{listener.url}/key"},
        {"kid": "forger", "iss": listener.url},
    ]:
        for issuer in [ISSUER, listener.url]:
            for key, algorithm in [(own.private, "ES256"), (LAB_SECRET[::-1], "HS256")]:
                token = jwt.encode(lab_claims(iss=issuer, jku=listener.url), key, algorithm, headers=headers)
                answer = get(gate, f"Bearer {token}")
                assert answer.status == 401 and answer.json()["code"].startswith("token_"), answer
    # With a good signature they do no harm either.
    assert get(gate, f"Bearer {lab_token(headers={'jku': listener.url})}", target="/auth/me").status == 200
    time.sleep(1)
    assert listener.connections == 0
    with socket.create_connection(("127.0.0.1", listener.port)):
        eventually("the listener to count", lambda: listener.connections == 1)
    listener.close()


def test_a_remembered_token_makes_no_other_one_good(gate: Gateway):
    """All that differ from it in one character are refused while it is in the cache."""
    token = lab_token()
    assert [get(gate, f"Bearer {token}", target="/auth/me").status for _ in range(2)] == [200, 200]
    for place in [*range(0, len(token), 7), *range(len(token) - 43, len(token))]:
        for letter in "Az_.":
            changed = token[:place] + letter + token[place + 1 :]
            if changed != token:
                assert get(gate, f"Bearer {changed}", target="/auth/me").status == 401, changed
    assert get(gate, f"Bearer {token}", target="/auth/me").status == 200


@pytest.mark.parametrize("subject", [*SUBJECTS, "\u202enimda", "a,b", "\U0001f511", "%0d%0aX-Admin: 1"])
def test_a_subject_becomes_one_clean_header_line(subject: str, gate: Gateway, service: Recorder):
    assert get(gate, f"Bearer {lab_token(sub=subject)}").status == 200
    values = [line[17:].strip() for line in service.heads[-1].split(b"\r\n") if line.lower().startswith(b"x-forwarded-user:")]
    assert len(values) == 1 and values[0].isascii() and values[0].decode().isprintable(), values
    assert unquote(values[0].decode()) == subject


WEAK = {
    "empty": "",
    "a word": "secret",
    "a byte too short": "k9#Jq2-vX7!mZ4pL8@tR1wY6&cB3nG5",
    "of FastAPI's tutorial": "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    "of jwt.io": "a-string-secret-at-least-256-bits-long",
    "of Supabase": "super-secret-jwt-token-with-at-least-32-characters-long",
    "of PostgREST, in capitals": "REALLYREALLYREALLYREALLYVERYSAFE",
    "a word again and again": "changeme" * 8,
    "one letter": "x" * 64,
    "a public key": public_pem("RS256").decode(),
}
PLACES = {
    "tokens": '\n[tokens]\nalgorithm = "HS256"\nkey = {{ env = "WEAK" }}\n',
    "issuers": TRUSTED_LAB.replace("{", "{{").replace("}", "}}").replace("LAB_SECRET", "WEAK"),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("secret", WEAK.values(), ids=WEAK)
def test_a_weak_secret_does_not_start_and_the_message_says_what_to_do(secret: str, place: str, tmp_path: Path):
    file = tmp_path / "tollgate.toml"
    file.write_text(base(tmp_path) + place.format())
    for command in ["check", "run"]:
        ended = tollgate(command, "-c", file, environment={"WEAK": secret}, timeout=30)
        assert ended.returncode == 1, ended
        assert "WEAK" in ended.stderr, ended.stderr
        assert "openssl rand -base64" in ended.stderr, ended.stderr
        # A short one is a word of the message itself.
        assert len(secret) < 8 or secret not in ended.stderr


def test_the_password_grant_that_is_switched_off_is_refused_and_not_announced(module_gateway):
    server = module_gateway(base("{folder}").replace("[login]", "[login]\npassword_grant = false"))
    form = b"grant_type=password&username=alice&password=x"
    answer = send(server.port, "POST", "/auth/token", {"Content-Type": "application/x-www-form-urlencoded"}, form)
    assert (answer.status, answer.json()["error"]) == (400, "unsupported_grant_type"), answer
    metadata = send(server.port, "GET", "/.well-known/oauth-authorization-server").json()
    assert "password" not in metadata.get("grant_types_supported", []), metadata
