"""Whoever has a copy of the database has no token, no password, and with an encryption key no key that makes them."""

import base64
import binascii
import hashlib
import hmac
import json
import os
import re

import bson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicNumbers

from support.config import base
from support.people import PASSWORD
from support.processes import tollgate
from support.sessions import Connections, held, raw

ENCRYPTION_KEY = base64.b64encode(os.urandom(32)).decode()
STORES = ["mongodb", "sqlite"]
KEY_BYTES = 32
# What random bytes nearly always have, and what texts, zeros and tables rarely do; it saves most of the work.
VARIETY = 20


@pytest.fixture(params=STORES)
def store(request, database, mongod, tmp_path):
    """The store's URL (`None`: the gateway's own file), and what yields all that is stored."""
    if request.param == "mongodb":
        return mongod.uri(database.name), lambda server: dump(database)
    return None, lambda server: b"".join(path.read_bytes() for path in sorted(server.config.parent.glob("tollgate.db*")))


def dump(database) -> bytes:
    """Every document of every collection."""
    documents = (document for name in sorted(database.list_collection_names()) for document in database[name].find())
    return b"".join(bson.encode(document) for document in documents)


class Used:
    """A gateway after logins, refreshes, a logout and a rotation of keys, and what its clients saw."""

    def __init__(self, gateway, store, encrypted: bool):
        url, self._dump = store
        key = 'encryption_key = { env = "ENCRYPTION_KEY" }\n' if encrypted else ""
        environment = {"ENCRYPTION_KEY": ENCRYPTION_KEY}
        config = base("{folder}", url).replace("[store]\n", f"[store]\n{key}") + '[tokens]\nalgorithm = "ES256"\n'
        self.server = gateway(config, environment)
        for name in ("alice", "bob"):
            added = tollgate("user", "add", name, "--password-stdin", "-c", self.server.config, stdin=PASSWORD, environment=environment)
            assert added.returncode == 0, added
        self.held = []
        with Connections() as client:
            for round in range(2):
                for name in ("alice", "bob"):
                    self.held.append(held(client.log_in(self.server, name)))
                    for _ in range(3):
                        self.held.append(held(client.refresh(self.server, self.held[-1].refresh)))
                assert client.log_out(self.server, self.held[-1].refresh).status == 200
                if round == 0:
                    rotated = tollgate("key", "rotate", "-c", self.server.config, environment=environment)
                    assert rotated.returncode == 0, rotated
        # Not what the gateway publishes, which reads the new key seconds later.
        exported = tollgate("key", "export", "-c", self.server.config, environment=environment)
        self.published = json.loads(exported.stdout)["keys"]
        self.dump = self._dump(self.server)


def spellings(secret: bytes) -> list[bytes]:
    """As it is, and as texts usually hold it, wherever in a longer text it begins."""
    found = [secret, secret.hex().encode(), secret.hex().upper().encode()]
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        # The letters that do not depend on what stands before and behind.
        found += [encode(b"\0" * shift + secret)[(0, 2, 3)[shift] :].rstrip(b"=")[:-1] for shift in range(3)]
    return found


def holds(data: bytes, secret: bytes) -> bool:
    return any(spelling in data for spelling in spellings(secret))


def candidates(data: bytes) -> set[bytes]:
    """All that may be a key of 32 bytes: any bytes of that length, and those that a text of base64 or hexadecimal says."""
    texts = [data]
    # PEM is base64 in lines.
    for run in set(re.findall(rb"[A-Za-z0-9+/_-]{43,}", data) + re.findall(rb"[A-Za-z0-9+/_-]{43,}", data.replace(b"\n", b""))):
        plain = run.translate(bytes.maketrans(b"-_", b"+/"))
        for skipped in range(4):
            part = plain[skipped:]
            texts.append(base64.b64decode(part[: len(part) // 4 * 4]))
            with_rest = part + b"=" * (-len(part) % 4)
            if len(part) % 4 != 1:
                texts.append(base64.b64decode(with_rest))
    for run in set(re.findall(rb"[A-Fa-f0-9]{64,}", data)):
        texts += [binascii.unhexlify(run[start : len(run) - (len(run) - start) % 2]) for start in (0, 1)]
    windows = (text[start : start + KEY_BYTES] for text in texts for start in range(len(text) - KEY_BYTES + 1))
    return {window for window in windows if len(set(window)) >= VARIETY}


def refresh_keys(found: set[bytes], token: str) -> set[bytes]:
    """Those that make the token."""
    claim, mac = raw(token)[:-32], raw(token)[-32:]
    return {key for key in found if hmac.digest(key, claim, hashlib.sha256) == mac}


def signing_keys(found: set[bytes], published: list[dict]) -> set[bytes]:
    """Those whose public half is published."""
    number = lambda text: int.from_bytes(base64.urlsafe_b64decode(text + "=="))
    public = {EllipticCurvePublicNumbers(number(key["x"]), number(key["y"]), ec.SECP256R1()) for key in published}
    return {key for key in found if 0 < int.from_bytes(key) < ORDER and public_half(key) in public}


ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def public_half(key: bytes) -> EllipticCurvePublicNumbers:
    return ec.derive_private_key(int.from_bytes(key), ec.SECP256R1()).public_key().public_numbers()


def check_no_token_and_no_password(used: Used):
    """And what is looked for would be found: the ids of the sessions are there, and a token that is put in is seen."""
    sessions = {each.session for each in used.held}
    assert len(sessions) == 4
    for each in used.held:
        assert holds(used.dump, raw(each.refresh)[1:17]) or each.session.encode() in used.dump
        secrets = [each.refresh.encode(), raw(each.refresh), raw(each.refresh)[-32:], each.access.encode()]
        for secret in [*secrets, each.access.rsplit(".", 1)[1].encode(), raw(each.access.rsplit(".", 1)[1])]:
            assert not holds(used.dump, secret)
            for spelling in spellings(secret):
                assert holds(used.dump[:1001] + b"x" + spelling + used.dump[1001:], secret)
    assert b"alice" in used.dump and not holds(used.dump, PASSWORD.encode())
    assert not holds(used.dump, ENCRYPTION_KEY.encode()) and not holds(used.dump, base64.b64decode(ENCRYPTION_KEY))


def test_with_an_encryption_key_the_database_holds_no_token_no_password_and_no_key(gateway, store):
    used = Used(gateway, store, encrypted=True)
    assert len(used.published) == 2
    check_no_token_and_no_password(used)
    found = candidates(used.dump)
    print(f"\n{len(used.dump)} bytes, {len(found)} candidates for keys")
    assert refresh_keys(found, used.held[0].refresh) == set()
    assert signing_keys(found, used.published) == set()
    assert b"PRIVATE KEY" not in used.dump


def test_without_one_it_holds_the_keys_and_nothing_else(gateway, store):
    """Which shows that they would have been found."""
    used = Used(gateway, store, encrypted=False)
    check_no_token_and_no_password(used)
    found = candidates(used.dump)
    assert len(refresh_keys(found, used.held[0].refresh)) == 1
    assert len(signing_keys(found, used.published)) == 2
