"""What a token says must arrive as one clean line for each header, whatever is in it: looked at in the bytes that left."""

import unicodedata
import urllib.parse

import pytest

from support.config import TRUSTED_LAB, base, lab_token, route, upstream
from support.http import assert_refused, bearer, send
from support.recorder import Recorder

ODD = ["a,b", "a\r\nX-Evil: 1", "a\nb", "a\x00b", "José Ångström", "名前", "a\u2028b", "a\u0085b", "\u202eadmin", '"quoted"', "100%", "%2C", "%0d%0aX: 1"]
ODD += [" a", "a ", "a\tb", "a;b", "a=b", "\x7f", "\x1b[31m", "😀", "a" * 3000]
NAMES = {"x-forwarded-user": "sub", "x-forwarded-preferred-username": "name", "x-forwarded-email": "email", "x-forwarded-groups": "roles"}


@pytest.fixture(scope="module")
def recorder():
    recorder = Recorder()
    yield recorder
    recorder.stop()


@pytest.fixture(scope="module")
def gate(module_gateway, recorder):
    return module_gateway(base("{folder}") + TRUSTED_LAB + upstream("app", recorder.url) + route("/{*rest}", "app"))


def arrived(gate, recorder, token) -> dict[str, list[str]]:
    """The headers that left for a request with this token, each with all its values; none if it was refused."""
    mark = recorder.mark()
    answer = send(gate.port, "GET", "/a", bearer(token))
    new = b"".join(recorder.since(mark))
    assert (answer.status == 200) == bool(new), answer
    headers: dict[str, list[str]] = {}
    for line in new.split(b"\r\n")[1:]:
        # Visible ASCII and spaces, or a server could take a byte for the end of the line.
        assert all(0x20 <= byte < 0x7F for byte in line), line
        name, _, value = line.decode().partition(": ")
        headers.setdefault(name, []).append(value)
    return headers


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("claim", ["sub", "name", "email", "roles"])
def test_a_claim_is_one_header_that_can_be_read_back(claim, text, gate, recorder):
    claims = {"sub": "alice", claim: [text, "second"] if claim == "roles" else text}
    headers = arrived(gate, recorder, lab_token(**claims))
    assert "x-evil" not in headers
    for name, told in NAMES.items():
        if told not in claims or not headers:
            continue
        (value,) = headers[name]
        read = [urllib.parse.unquote(part) for part in value.split(",")] if told == "roles" else urllib.parse.unquote(value)
        assert read == claims[told], value


def test_only_a_claim_with_control_characters_is_refused(gate, recorder):
    passed = [text for text in ODD if arrived(gate, recorder, lab_token(name=text))]
    assert passed == [text for text in ODD if not any(unicodedata.category(character) == "Cc" for character in text)]


def test_an_identity_that_is_too_long_is_refused(gate, recorder):
    mark = recorder.mark()
    # Each letter takes six bytes once it is encoded.
    roles = ["é" * 4 for _ in range(300)]
    answer = send(gate.port, "GET", "/a", bearer(lab_token(roles=roles)))
    assert_refused(answer, 431, "headers_too_large")
    assert recorder.since(mark) == []
