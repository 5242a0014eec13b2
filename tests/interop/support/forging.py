"""Good tokens, and everything that a forger would make of them: one function for each kind."""

import base64
import dataclasses
import hashlib
import hmac
import json
import random
import zlib
from collections.abc import Callable

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from support.config import AUDIENCE
from support.issuers import ALGORITHMS, OWN_NAME, P256_ORDER, P384_ORDER
from support.issuers import Issuer, decoded, forger, issuers, part, public_text, signer

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493
SUBJECTS = ["alice", "65f0c2a4e13b", "auth0|5f7c", "Zoë", "山田太郎", "a b", 'quote"d', "x" * 200]


class Mint:
    """Makes the tokens of one run from one seed."""

    def __init__(self, seed: int, now: int):
        self.random, self.now = random.Random(seed), now
        self.pool = {issuer.name: [self.good(issuer) for _ in range(24)] for issuer in issuers()}

    def claims(self, issuer: Issuer, **changes: object) -> dict:
        """Claims that differ from token to token in what may differ; a change to `None` leaves one out."""
        pick = self.random
        claims = {
            "iss": issuer.name,
            "sub": pick.choice(SUBJECTS) + str(pick.getrandbits(40)),
            "aud": pick.choice([AUDIENCE, [AUDIENCE], ["other", AUDIENCE], [AUDIENCE, "https://api.example.org"]]),
            "exp": self.now + pick.randrange(7200, 86_400) + pick.choice([0, 0, 0.5]),
            "iat": self.now - pick.randrange(0, 60),
            "jti": f"{pick.getrandbits(64):x}",
            "client_id": pick.choice(["web", "cli"]),
        }
        if pick.random() < 0.5:
            claims["nbf"] = self.now - pick.randrange(0, 3600)
        if pick.random() < 0.5:
            claims["scope"] = pick.choice(["", "read", "read write", "read:datasets  write:datasets"])
        if pick.random() < 0.5:
            claims["roles"] = pick.choice([[], ["scientist"], ["lab head", "admin"]])
        if pick.random() < 0.3:
            claims |= {"name": "Ada \\ Lovelace ☃", "email": "ada@example.org", "email_verified": True}
        if pick.random() < 0.3:
            claims["address"] = {"lines": [["a", None], {"b": -1.5e3}], "sub": "not the subject"}
        return {name: value for name, value in {**claims, **changes}.items() if value is not None}

    def good(self, issuer: Issuer) -> str:
        # PyJWT itself: what it makes, with the header that it writes.
        headers = {"typ": issuer.typ, **({"kid": issuer.kid} if issuer.kid else {})}
        if issuer.name != OWN_NAME:
            headers["typ"] = self.random.choice(["JWT", "jwt", "at+jwt", "application/at+jwt"])
        return jwt.encode(self.claims(issuer), issuer.private, issuer.algorithm, headers=headers)

    def known(self, issuer: Issuer) -> str:
        return self.random.choice(self.pool[issuer.name])

    def signed(self, issuer: Issuer, **changes: object) -> str:
        return issuer.sign(issuer.header(), self.claims(issuer, **changes))

    def forged(self, kind: str, issuer: Issuer) -> str:
        """Never one of the good ones by accident: what a kind leaves as it was is made again."""
        for _ in range(100):
            token = KINDS[kind](self, issuer)
            if token not in self.pool[issuer.name]:
                return token
        raise AssertionError(f"{kind} changes nothing")


Forge = Callable[[Mint, Issuer], str]
KINDS: dict[str, Forge] = {}


def kind(name: str) -> Callable[[Forge], Forge]:
    def register(function: Forge) -> Forge:
        KINDS[name] = function
        return function

    return register


def flipped(mint: Mint, data: bytes) -> bytes:
    place, bit = mint.random.randrange(len(data)), mint.random.randrange(8)
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


def flip_part(mint: Mint, issuer: Issuer, number: int) -> str:
    parts = mint.known(issuer).split(".")
    parts[number] = part(flipped(mint, decoded(parts[number])))
    return ".".join(parts)


kind("bit flipped in the signature")(lambda mint, issuer: flip_part(mint, issuer, 2))
kind("bit flipped in the claims")(lambda mint, issuer: flip_part(mint, issuer, 1))
kind("bit flipped in the header")(lambda mint, issuer: flip_part(mint, issuer, 0))


@kind("character changed")
def _(mint: Mint, issuer: Issuer) -> str:
    token = mint.known(issuer)
    # The last character of a part may hold bits that count for nothing: a kind of its own.
    places = [place for place in range(len(token) - 1) if "." not in token[place : place + 2]]
    place = mint.random.choice(places)
    return token[:place] + mint.random.choice(ALPHABET + ".") + token[place + 1 :]


@kind("cut, doubled or swapped")
def _(mint: Mint, issuer: Issuer) -> str:
    token = mint.known(issuer)
    place = mint.random.randrange(1, len(token) - 2)
    return mint.random.choice(
        [
            token[:place],
            token[:place] + token[place + 1 :],
            token[:place] + token[place - 1 :],
            token[:place] + token[place + 1] + token[place] + token[place + 2 :],
            token + mint.random.choice(ALPHABET) * 4,
            token + token,
        ]
    )


@kind("alg none")
def _(mint: Mint, issuer: Issuer) -> str:
    name = mint.random.choice(["none", "None", "NONE", "nOnE", "", "null", " none", "none\0", None])
    text = f"{part({**issuer.header(), 'alg': name})}.{part(mint.claims(issuer))}"
    return text + mint.random.choice(["", ".", ".AA", "." + mint.known(issuer).split(".")[2]])


@kind("public key as a secret")
def _(mint: Mint, issuer: Issuer) -> str:
    if isinstance(issuer.public, bytes):
        issuer = mint.random.choice([other for other in issuers() if not isinstance(other.public, bytes)])
    jwk = signer(issuer.algorithm).to_jwk(issuer.public, as_dict=True)
    pem = public_text(issuer, serialization.Encoding.PEM)
    texts = [pem, pem.rstrip(), pem.replace(b"\n", b"\r\n"), public_text(issuer, serialization.Encoding.DER)]
    texts += [json.dumps(jwk).encode(), json.dumps(jwk, separators=(",", ":")).encode()]
    texts += [decoded(str(jwk.get("n") or jwk["x"])), (issuer.kid or "").encode()]
    algorithm, digest = mint.random.choice([("HS256", hashlib.sha256), ("HS384", hashlib.sha384), ("HS512", hashlib.sha512)])
    text = f"{part(issuer.header(alg=algorithm))}.{part(mint.claims(issuer))}"
    return f"{text}.{part(hmac.new(mint.random.choice(texts), text.encode(), digest).digest())}"


@kind("another algorithm")
def _(mint: Mint, issuer: Issuer) -> str:
    same_key = [name for name in ALGORITHMS if name != issuer.algorithm and name[:2] in ("HS", "RS", "PS")]
    if issuer.algorithm[:2] == "HS":
        same_key = [name for name in same_key if name[:2] == "HS"]
    elif issuer.algorithm[:2] in ("RS", "PS"):
        same_key = [name for name in same_key if name[:2] != "HS"]
    else:
        # The right signature under a name that is not the right one.
        other = [name for name in [*ALGORITHMS, "ES512", "ES256K", "Ed25519", "Ed448"] if name != issuer.algorithm]
        return issuer.sign(issuer.header(alg=mint.random.choice(other)), mint.claims(issuer))
    name = mint.random.choice(same_key)
    return dataclasses.replace(issuer, algorithm=name).sign(issuer.header(alg=name), mint.claims(issuer))


@kind("another key")
def _(mint: Mint, issuer: Issuer) -> str:
    return forger(issuer.algorithm).sign(issuer.header(), mint.claims(issuer))


@kind("key in the header")
def _(mint: Mint, issuer: Issuer) -> str:
    algorithm = mint.random.choice(["ES256", "EdDSA", "HS256", issuer.algorithm])
    own = forger(algorithm)
    jwk = json.loads(signer(algorithm).to_jwk(own.public))
    changes = mint.random.choice(
        [
            {"jwk": jwk},
            {"jku": "http://127.0.0.1:1/keys"},
            {"x5u": "http://127.0.0.1:1/chain"},
            {"x5c": [base64.b64encode(json.dumps(jwk).encode()).decode()]},
            {"jwk": jwk, "kid": jwk.get("kid", "own")},
        ]
    )
    return own.sign(issuer.header(alg=algorithm, **changes), mint.claims(issuer))


@kind("kid that leads elsewhere")
def _(mint: Mint, issuer: Issuer) -> str:
    kids = ["../../../../dev/null", "/dev/null", "|sleep 10", "' UNION SELECT 'k' --", "x" * 3000, "", "\0", 7, [], {}, None]
    header = json.dumps({**issuer.header(), "kid": mint.random.choice(kids)}).encode()
    own = forger(issuer.algorithm)
    if issuer.algorithm.startswith("HS"):
        own = dataclasses.replace(own, private=mint.random.choice([b"", b"\0", b"k", own.private]))
    return own.sign(header, mint.claims(issuer))


@kind("another issuer's key")
def _(mint: Mint, issuer: Issuer) -> str:
    other = mint.random.choice([other for other in issuers() if other.public != issuer.public and not same_rsa(other, issuer)])
    header = mint.random.choice([issuer.header(), other.header(), issuer.header(alg=other.algorithm)])
    return other.sign(header, mint.claims(issuer))


def same_rsa(one: Issuer, other: Issuer) -> bool:
    return one.algorithm[1] == other.algorithm[1] == "S" and {one.algorithm[0], other.algorithm[0]} <= {"R", "P"}


@kind("critical extension")
def _(mint: Mint, issuer: Issuer) -> str:
    choices = [{"crit": ["x"], "x": 1}, {"crit": []}, {"crit": "x"}, {"crit": [None]}, {"crit": ["exp"], "exp": 1}]
    choices += [{"crit": ["b64"], "b64": False}, {"b64": False}, {"crit": ["b64"], "b64": True}, {"crit": {}}, {"crit": False}]
    return issuer.sign({**issuer.header(), **mint.random.choice(choices)}, mint.claims(issuer))


@kind("expired or no good exp")
def _(mint: Mint, issuer: Issuer) -> str:
    late = [mint.now - 60, mint.now - 31.5, mint.now - 86_400, 0, 1.5, -1, -mint.now]
    return mint.signed(issuer, exp=mint.random.choice([*late, None, str(mint.now + 600), [mint.now + 600], {}, "never", 1e300]))


@kind("not yet valid")
def _(mint: Mint, issuer: Issuer) -> str:
    nbf = mint.random.choice([mint.now + 36_000, mint.now + 7200.5, 10**11, "0", [0], {}, "soon"])
    return mint.signed(issuer, nbf=nbf)


@kind("issuer's name changed")
def _(mint: Mint, issuer: Issuer) -> str:
    name = issuer.name
    names = [f"{name}/", f"{name}.evil", name[:-1], name.upper(), f" {name}", f"{name}\n", f"{name}@evil", name.replace("https", "http")]
    return mint.signed(issuer, iss=mint.random.choice([*names, None, 7, [name], {"iss": name}, True, ""]))


@kind("another audience")
def _(mint: Mint, issuer: Issuer) -> str:
    near = ["other", f"{AUDIENCE} ", AUDIENCE.upper(), AUDIENCE[:-1], "", "*"]
    return mint.signed(issuer, aud=mint.random.choice([*near, near, [], None, 7, {AUDIENCE: 1}, [None, AUDIENCE], [[AUDIENCE]], True]))


@kind("another type of token")
def _(mint: Mint, issuer: Issuer) -> str:
    types = ["logout+jwt", "secevent+jwt", "dpop+jwt", "rt+jwt", "JWE", "at+jwt;v=2", 7, ["JWT"], "application/", "x" * 500]
    return issuer.sign(issuer.header(typ=mint.random.choice(types)), mint.claims(issuer))


@kind("subject that is none")
def _(mint: Mint, issuer: Issuer) -> str:
    subjects = [None, 7, "", ["alice"], {}, True, "alice\r\nX-Forwarded-Groups: admin", "alice\0", "a\x85b", "x" * 1025, "\x7f"]
    return mint.signed(issuer, sub=mint.random.choice(subjects))


@kind("member twice")
def _(mint: Mint, issuer: Issuer) -> str:
    claims, header = json.dumps(mint.claims(issuer)), json.dumps(issuer.header())
    extra = mint.random.choice(['"sub":"admin"', '"\\u0073ub":"admin"', '"exp":9999999999', '"roles":["admin"],"roles":[]', '"x":{"a":1,"a":2}'])
    if mint.random.random() < 0.3:
        return issuer.sign(f'{{"alg":"none",{header[1:]}'.encode(), claims.encode())
    return issuer.sign(header.encode(), f"{{{extra},{claims[1:]}".encode())


@kind("not three parts")
def _(mint: Mint, issuer: Issuer) -> str:
    header, claims, signature = mint.known(issuer).split(".")
    general = {"payload": claims, "signatures": [{"protected": header, "signature": signature}]}
    flattened = {"payload": claims, "protected": header, "signature": signature}
    return mint.random.choice(
        [
            header,
            f"{header}.{claims}",
            f"{header}.{claims}.{signature}.",
            f"{header}.{claims}.{signature}.{signature}",
            f".{header}.{claims}.{signature}",
            f"{header}.{claims}..{signature}",
            f"{header}.AA.AA.{claims}.{signature}",
            "." * mint.random.randrange(1, 12_000),
            json.dumps(general, separators=(",", ":")),
            json.dumps(flattened, separators=(",", ":")),
        ]
    )


@kind("base64 not canonical")
def _(mint: Mint, issuer: Issuer) -> str:
    parts = mint.known(issuer).split(".")
    fit = [number for number in range(3) if len(parts[number]) % 4]
    if mint.random.random() < 0.5 and fit:
        # Bits at the end that decode to nothing.
        number = mint.random.choice(fit)
        last = ALPHABET.index(parts[number][-1])
        spare = 16 if len(parts[number]) % 4 == 2 else 4
        parts[number] = parts[number][:-1] + ALPHABET[last - last % spare + mint.random.randrange(1, spare)]
        return ".".join(parts)
    number = mint.random.randrange(3)
    padded = parts[number] + "=" * (-len(parts[number]) % 4 or 4)
    classic = parts[number].replace("-", "+").replace("_", "/")
    parts[number] = mint.random.choice([padded, classic if classic != parts[number] else padded, f"{parts[number]}~"])
    return ".".join(parts)


@kind("not a JSON object")
def _(mint: Mint, issuer: Issuer) -> str:
    claims, header = json.dumps(mint.claims(issuer)).encode(), json.dumps(issuer.header()).encode()
    damage: list[Callable[[bytes], bytes]] = [
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: b"[" + text + b"]",
        lambda text: text + b"x",
        lambda text: text + text,
        lambda text: text.replace(b'"', b"'"),
        lambda text: text[:-1] + b',"x":NaN}',
        lambda text: text[:-1] + b',"x":' + b"[" * 3000 + b"]" * 3000 + b"}",
        lambda text: text[:-1] + b',"x":"\xff"}',
        lambda text: text[:-1] + b',"x":"\\ud800"}',
        lambda text: text[:-1] + b',"x":01}',
        lambda text: text[:-1] + b",}",
        lambda text: text.decode().encode("utf-16"),
        lambda _: b"",
        lambda _: b"null",
    ]
    broken = mint.random.choice(damage)
    if mint.random.random() < 0.3:
        return issuer.sign(broken(header), claims)
    return issuer.sign(header, broken(claims))


@kind("compressed")
def _(mint: Mint, issuer: Issuer) -> str:
    claims = json.dumps(mint.claims(issuer)).encode()
    bomb = claims[:-1] + b',"x":"' + b"x" * mint.random.randrange(0, 200_000) + b'"}'
    packed = zlib.compress(bomb, 9)[2:-4]
    body = mint.random.choice([packed, claims])
    return issuer.sign(issuer.header(zip=mint.random.choice(["DEF", "GZ", 1])), body)


@kind("impossible signature")
def _(mint: Mint, issuer: Issuer) -> str:
    text, _, encoded = mint.known(issuer).rpartition(".")
    good = decoded(encoded)
    size = len(good)
    choices = [b"", bytes(size), b"\xff" * size, good + good, good + b"\0", b"\0" + good, good[:-1], good[::-1], good[: size // 2]]
    if issuer.algorithm.startswith("ES"):
        half = size // 2
        order = P256_ORDER if half == 32 else P384_ORDER
        numbers = [0, 1, order - 1, order, order + 1]
        r, s = good[:half], good[half:]
        choices += [number.to_bytes(half) + s for number in numbers] + [r + number.to_bytes(half) for number in numbers]
        choices += [bytes([0x30, 2 * half + 4, 2, half]) + r + bytes([2, half]) + s]
    elif issuer.algorithm == "EdDSA":
        scalar = int.from_bytes(good[32:], "little")
        choices += [good[:32] + (scalar + times * ED25519_ORDER).to_bytes(32, "little") for times in (1, 2, 7)]
    elif isinstance(issuer.public, rsa.RSAPublicKey):
        modulus = issuer.public.public_numbers().n
        choices += [number.to_bytes(size) for number in (1, modulus - 1, modulus)]
        choices += [(int.from_bytes(good) + modulus).to_bytes(size + 1)]
    return f"{text}.{part(mint.random.choice(choices))}"


@kind("spliced from two")
def _(mint: Mint, issuer: Issuer) -> str:
    one, other = (mint.known(issuer).split(".") for _ in range(2))
    if one[1] == other[1]:
        other = mint.known(mint.random.choice([found for found in issuers() if found is not issuer])).split(".")
    return mint.random.choice(["{0[0]}.{1[1]}.{0[2]}", "{0[0]}.{0[1]}.{1[2]}"]).format(one, other)
