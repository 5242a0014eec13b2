"""An issuer for each algorithm, with keys that are the same in each run, and a forger with keys of its own."""

import base64
import dataclasses
import functools
import hashlib
import json
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from support.config import AUDIENCE

RSA_FILE = Path(__file__).resolve().parents[3] / "src" / "keyset" / "fixtures" / "rsa.pem"
OWN_NAME = "https://gate.example.org"
ALGORITHMS = [f"{family}{bits}" for family in ("HS", "RS", "PS") for bits in (256, 384, 512)] + ["ES256", "ES384", "EdDSA"]
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P384_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973


@dataclasses.dataclass(frozen=True)
class Issuer:
    """Who signs with what, and what PyJWT verifies it with."""

    algorithm: str
    name: str
    private: object
    public: object
    kid: str | None = None
    typ: str = "JWT"
    required: tuple[str, ...] = ("exp", "iss", "aud", "sub")

    def sign(self, header: dict | bytes, payload: dict | bytes) -> str:
        """A token with a good signature, whatever it says."""
        return self.sign_text(f"{part(header)}.{part(payload)}")

    def sign_text(self, text: str) -> str:
        return f"{text}.{part(signer(self.algorithm).sign(text.encode(), self.private))}"

    def header(self, **changes: object) -> dict:
        header = {"alg": self.algorithm, "typ": self.typ, "kid": self.kid, **changes}
        return {name: value for name, value in header.items() if value is not None}

    def is_good(self, token: str) -> bool:
        """PyJWT's opinion, configured for this issuer as strictly as it can be."""
        try:
            jwt.decode(
                token,
                self.public,
                [self.algorithm],
                audience=AUDIENCE,
                issuer=self.name,
                leeway=30,
                options={"require": list(self.required), "strict_aud": False},
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            # PyJWT lets some errors of the standard library through; a server that uses it would answer 500.
            return False
        return True


@functools.cache
def signer(algorithm: str):
    return jwt.get_algorithm_by_name(algorithm)


def part(value: dict | bytes) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def secret(purpose: str) -> bytes:
    """64 bytes of text, the same in each run."""
    return hashlib.sha256(purpose.encode()).hexdigest().encode()


def private_key(algorithm: str, purpose: str) -> object:
    """A key that is the same in each run, where the library can derive one."""
    seed = hashlib.sha384(f"{purpose} {algorithm}".encode()).digest()
    if algorithm.startswith("HS"):
        return secret(f"{purpose} {algorithm}")
    if algorithm == "ES256":
        return ec.derive_private_key(int.from_bytes(seed) % P256_ORDER, ec.SECP256R1())
    if algorithm == "ES384":
        return ec.derive_private_key(int.from_bytes(seed) % P384_ORDER, ec.SECP384R1())
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.from_private_bytes(seed[:32])
    if purpose == "forger":
        return forgers_rsa()
    return serialization.load_pem_private_key(RSA_FILE.read_bytes(), None)


@functools.cache
def forgers_rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def public_half(private: object) -> object:
    return private if isinstance(private, bytes) else private.public_key()


def public_text(issuer: Issuer, encoding: serialization.Encoding) -> bytes:
    return issuer.public.public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)


@functools.cache
def issuers() -> list[Issuer]:
    """One for each algorithm, half of them with a `kid`, and the gateway's own."""
    found = []
    for number, algorithm in enumerate(ALGORITHMS):
        private = private_key(algorithm, "issuer")
        kid = None if algorithm.startswith("HS") or number % 2 else f"key-{number}"
        found.append(Issuer(algorithm, f"https://sso.example.org/{algorithm}", private, public_half(private), kid))
    own = private_key("ES256", "own")
    required = ("exp", "iss", "aud", "sub", "iat", "jti", "client_id")
    found.append(Issuer("ES256", OWN_NAME, own, own.public_key(), None, "at+jwt", required))
    return found


@functools.cache
def forger(algorithm: str) -> Issuer:
    private = private_key(algorithm, "forger")
    return Issuer(algorithm, "https://forger.example.org", private, public_half(private))
