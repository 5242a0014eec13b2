"""Secrets that a test plants, and a search for them in every form in which they could come out again."""

import base64
import re
from urllib.parse import quote, quote_plus


def base64_forms(secret: bytes):
    """What of the secret stands in any base64 text that holds it, whatever comes before and after it."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + secret)
        # The characters at both ends depend on the neighbors.
        start, end = -(-before * 8 // 6), (before + len(secret)) * 8 // 6
        inner = encoded[start:end].decode()
        yield inner
        yield inner.replace("+", "-").replace("/", "_")


def forms(secret: str):
    """As it is, percent-encoded, in JSON, in hexadecimal digits, as a list of numbers, in base64."""
    raw = secret.encode()
    yield secret
    yield quote(secret, safe="")
    yield quote_plus(secret)
    yield secret.encode("unicode_escape").decode()
    yield secret.replace("/", "\\/")
    yield raw.hex()
    yield raw.hex().upper()
    yield ", ".join(map(str, raw))
    yield from base64_forms(raw)


class Canaries:
    """The secrets by their names."""

    def __init__(self):
        self.secrets: dict[str, str] = {}

    def add(self, name: str, secret: str) -> str:
        assert len(secret) >= 10, "too short to be found without doubt"
        self.secrets[name] = secret
        return secret

    def add_token(self, name: str, token: str) -> str:
        """The signature is what makes a token one, so it is searched for by itself, too."""
        self.add(name, token)
        self.add(f"{name}, its signature", token.split(".")[2])
        return token

    def add_pem(self, name: str, pem: str) -> str:
        """Each full line of its base64, because logs may break it."""
        for number, line in enumerate(re.findall(r"^[A-Za-z0-9+/=]{20,}$", pem, re.MULTILINE)):
            self.add(f"{name}, line {number}", line)
        return pem

    def found_in(self, text: str) -> list[str]:
        return [name for name, secret in self.secrets.items() if any(form in text for form in forms(secret))]
