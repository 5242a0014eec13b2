"""Keys of other issuers by JWKS: fetched, refreshed, asked for, taken back, and not to be had."""

import base64
import gzip
import http.client
import json
import socket
import struct
import threading
import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from support.certificates import Authority
from support.config import AUDIENCE, base, route, upstream
from support.http import assert_refused, bearer, send
from support.key_server import (
    Held,
    KeyServer,
    answer,
    endless,
    jwk,
    redirect,
    silent,
    tls_context,
    trickle,
    unended,
)
from support.pipeline import ask
from support.processes import eventually, free_port, tollgate

RSA = [rsa.generate_private_key(65537, 2048) for _ in range(3)]
P256 = [ec.generate_private_key(ec.SECP256R1()) for _ in range(8)]
MEBIBYTE = 1024 * 1024


def issuer(name: str, location: str, algorithms=("RS256", "ES256"), more: str = "", identifier: str | None = None) -> str:
    algorithms = ", ".join(f'"{algorithm}"' for algorithm in algorithms)
    return f"""
[issuers.{name}]
issuer = "{identifier or identifier_of(name)}"
audiences = ["{AUDIENCE}"]
algorithms = [{algorithms}]
{location}
{more}
"""


def identifier_of(name: str) -> str:
    return f"https://{name}.example.org"


def token(private: object, kid: str | None, algorithm: str = "ES256", name: str = "lab", header=None, **changes) -> str:
    now = int(time.time())
    claims = {"iss": identifier_of(name), "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 600, **changes}
    return jwt.encode(claims, private, algorithm, headers={**({"kid": kid} if kid else {}), **(header or {})})


def me(server, text: str):
    return send(server.port, "GET", "/auth/me", bearer(text))


def is_accepted(server, text: str) -> bool:
    found = me(server, text)
    assert found.status in (200, 401, 503), found
    return found.status == 200


def ready(server):
    return send(server.admin_port, "GET", "/readyz")


def wait_until_ready(server) -> None:
    eventually("readiness", lambda: ready(server).body == b"ok\n")


def metric(server, name: str, **labels: str) -> float | None:
    page = send(server.admin_port, "GET", "/metrics").body.decode()
    wanted = name + ("{" + ",".join(f'{label}="{value}"' for label, value in labels.items()) + "}" if labels else "")
    values = [float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.rsplit(" ", 1)[0] == wanted]
    return values[0] if values else None


def log_of(server, name: str, word: str = "") -> list[dict]:
    return [line for line in server.log() if line.get("issuer") == name and word in line["message"]]


def resident(server) -> int:
    return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * 4096


def start(gateway, *issuers: str):
    return gateway(base("{folder}") + "".join(issuers))


def assert_unavailable(found) -> None:
    assert_refused(found, 503, "keys_unavailable")
    assert int(found.header("Retry-After")) >= 1
    assert found.header("WWW-Authenticate") is None, "it says that a token would help"


# ── K1 ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_k1_each_key_of_a_set_is_judged_by_itself(gateway):
    small = rsa.generate_private_key(65537, 1024)
    private = json.loads(jwt.get_algorithm_by_name("RS256").to_jwk(RSA[2]))
    off_curve = jwk(P256[1], "ES256", "off-curve")
    refused = {
        "twin": [jwk(P256[2], "ES256", "twin"), jwk(P256[3], "ES256", "twin")],
        "secret": [{"kty": "oct", "kid": "secret", "k": encoded(b"s" * 64), "alg": "HS256"}],
        "private": [{**private, "kid": "private", "alg": "RS256", "use": "sig", "key_ops": ["verify"]}],
        "private-d": [jwk(P256[4], "ES256", "private-d", d=encoded(P256[4].private_numbers().private_value.to_bytes(32)))],
        "alg-of-another-kind": [jwk(P256[5], "ES256", "alg-of-another-kind", alg="RS256")],
        "crv-of-another-size": [jwk(P256[5], "ES256", "crv-of-another-size", crv="P-384", alg=None)],
        "off-curve": [{**off_curve, "y": off_curve["x"]}],
        "exponent-1": [jwk(RSA[2], "RS256", "exponent-1", e="AQ")],
        "1024-bits": [jwk(small, "RS256", "1024-bits")],
        "65536-bits": [jwk(RSA[2], "RS256", "65536-bits", n=encoded(b"\xff" * 8192))],
        "no-key": [{"kid": "no-key"}],
    }
    passed_over = {
        "encryption": [jwk(P256[6], "ES256", "encryption", use="enc")],
        "signs-only": [jwk(P256[7], "ES256", "signs-only", key_ops=["sign"])],
        "future": [{"kty": "future", "kid": "future"}],
        "p521": [jwk(ec.generate_private_key(ec.SECP521R1()), "ES512", "p521")],
    }
    good = [jwk(RSA[0], "RS256", "rsa"), jwk(P256[0], "ES256", "ec"), jwk(P256[0], "ES256", "ec")]
    bad = [key for keys in [*refused.values(), *passed_over.values()] for key in keys]
    with KeyServer() as source:
        source.publish("/keys", *good[:1], *bad, *good[1:])
        algorithms = ["RS256", "ES256", "ES384"]
        location = f'jwks_url = "{source.url}/keys"'
        server = start(gateway, issuer("lab", location, algorithms, 'jwks_refresh = "1s"'))
        wait_until_ready(server)
        assert is_accepted(server, token(RSA[0], "rsa", "RS256"))
        assert is_accepted(server, token(P256[0], "ec"))
        eventually("some refreshes", lambda: source.count("/keys") >= 3)
        for private_key, kid, algorithm in [
            (P256[2], "twin", "ES256"),
            (P256[3], "twin", "ES256"),
            (RSA[2], "private", "RS256"),
            (P256[4], "private-d", "ES256"),
            (P256[6], "encryption", "ES256"),
            (P256[7], "signs-only", "ES256"),
            (small, "1024-bits", "RS256"),
        ]:
            assert_refused(me(server, token(private_key, kid, algorithm)), 401, "token_key_unknown")
        lines = log_of(server, "lab", "Key of the issuer refused")
        # Once each, though the set was fetched some times.
        assert sorted(line["key"] for line in lines) == sorted([*refused, "twin"]), lines
        assert {line["level"] for line in lines} == {"WARN"}
        others = log_of(server, "lab", "is for something else")
        assert sorted(line["key"] for line in others) == sorted(passed_over)
        assert len(log_of(server, "lab", "Keys of the issuer fetched")) == 1
        # Another set is told again.
        source.publish("/keys", *good)
        eventually("the change in the log", lambda: len(log_of(server, "lab", "Keys of the issuer fetched")) == 2)
        assert is_accepted(server, token(P256[0], "ec"))


# ── K2, K3, K7 ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("then", ["good", "empty", "down"])
def test_k2_a_hundred_thousand_unknown_keys_make_one_fetch(gateway, then):
    good = token(P256[0], "ec")
    head, payload, signature = good.split(".")
    attempts = 100_000 if then == "good" else 2_000

    def stranger(number: int) -> str:
        other = encoded(json.dumps({"alg": "ES256", "typ": "JWT", "kid": f"{number:032x}"}).encode())
        return f"{other}.{payload}.{signature}"

    with KeyServer() as source:
        source.publish("/keys", jwk(P256[0], "ES256", "ec"))
        server = start(gateway, issuer("lab", f'jwks_url = "{source.url}/keys"', more='jwks_cooldown = "1h"'))
        wait_until_ready(server)
        assert is_accepted(server, good)
        if then == "empty":
            source.publish("/keys")
        elif then == "down":
            source.paths["/keys"] = answer(b"", "503 Service Unavailable")
        began = time.monotonic()
        list(ask(server.port, (stranger(-number) for number in range(1, 2_000))))
        before, fetches = resident(server), source.count("/keys")
        answers: dict[tuple[int, str], int] = {}
        for number, found in enumerate(ask(server.port, map(stranger, range(attempts)))):
            answers[found] = answers.get(found, 0) + 1
            if number % (attempts // 4) == 0:
                assert is_accepted(server, good), "a known key was lost"
        assert answers == {(401, "token_key_unknown"): attempts}
        if then == "good":
            # One at the start, one for the first stranger; the next refresh is minutes away.
            assert (fetches, source.count("/keys")) == (2, 2)
        else:
            # One for the first stranger; the others are the attempts after a failure, 1 s, 2 s, 4 s apart.
            attempts_after = lambda seconds: 1 + sum(2**count - 1 <= seconds / 0.9 for count in range(1, 9))
            failed = metric(server, "tollgate_jwks_refreshes_total", issuer="lab", result="failed")
            assert 1 <= failed <= attempts_after(time.monotonic() - began), "strangers made the gateway ask again"
        assert is_accepted(server, good)
        growth = resident(server) - before
        assert growth < 8 * MEBIBYTE, f"{growth} bytes more"


class Crowd:
    """Connections that ask at the same time."""

    def __init__(self, port: int, size: int):
        self.clients = [http.client.HTTPConnection("127.0.0.1", port, timeout=60) for _ in range(size)]
        for client in self.clients:
            client.connect()

    def ask(self, text: str) -> None:
        for client in self.clients:
            client.request("GET", "/auth/me", headers=bearer(text))

    def statuses(self) -> list[int]:
        statuses = []
        for client in self.clients:
            response = client.getresponse()
            response.read()
            statuses.append(response.status)
        return statuses

    def reset(self, count: int) -> None:
        """The first of them leave by a reset, in the middle of their request."""
        for client in self.clients[:count]:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sock.close()
        del self.clients[:count]

    def close(self) -> None:
        for client in self.clients:
            client.close()


def test_k3_a_thousand_requests_without_keys_make_one_fetch(gateway):
    with KeyServer() as source:
        source.paths["/keys"] = answer(b"", "503 Service Unavailable")
        server = start(gateway, issuer("lab", f'jwks_url = "{source.url}/keys"'))
        crowd = Crowd(server.port, 1000)
        eventually("some failed attempts", lambda: source.count("/keys") >= 2)
        held = Held(answer(json.dumps({"keys": [jwk(P256[0], "ES256", "ec")]}).encode()))
        source.paths["/keys"] = held
        crowd.ask(token(P256[0], "ec"))
        in_flight = lambda: metric(server, "tollgate_requests_in_flight") == 1000
        eventually("a thousand that wait", in_flight)
        assert held.count == 1
        held.gate.set()
        assert crowd.statuses() == [200] * 1000
        assert held.count == 1
        crowd.close()


def test_k7_clients_that_leave_while_their_keys_are_fetched_harm_nobody(gateway):
    with KeyServer() as source:
        source.publish("/keys", jwk(P256[0], "ES256", "old"))
        server = start(gateway, issuer("lab", f'jwks_url = "{source.url}/keys"', more='jwks_cooldown = "1h"'))
        wait_until_ready(server)
        held = Held(answer(json.dumps({"keys": [jwk(P256[1], "ES256", "new")]}).encode()))
        source.paths["/keys"] = held
        crowd = Crowd(server.port, 60)
        crowd.ask(token(P256[1], "new"))
        eventually("sixty that wait", lambda: metric(server, "tollgate_requests_in_flight") == 60)
        # The one that made the gateway fetch is among those that leave.
        crowd.reset(50)
        # Nobody is held up who needs no fetch.
        assert is_accepted(server, token(P256[0], "old"))
        held.gate.set()
        assert crowd.statuses() == [200] * 10
        eventually("the others' end", lambda: metric(server, "tollgate_requests_in_flight") == 0)
        assert source.count("/keys") == 2
        assert metric(server, "tollgate_panics_total") == 0
        crowd.close()


# ── K4 ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_k4_a_source_that_is_down_at_the_start_stops_nobody_else(gateway):
    port = free_port()
    with KeyServer() as other:
        other.publish("/keys", jwk(P256[1], "ES256", "ec"))
        server = start(
            gateway,
            issuer("lab", f'jwks_url = "http://127.0.0.1:{port}/keys"'),
            issuer("other", f'jwks_url = "{other.url}/keys"'),
        )
        eventually("the first attempt", lambda: log_of(server, "lab", "not fetched"))
        eventually("the keys of the other", lambda: is_accepted(server, token(P256[1], "ec", name="other")))
        found = ready(server)
        assert (found.status, found.body) == (503, b"waiting for the keys of `lab`\n")
        assert_unavailable(me(server, token(P256[0], "ec")))
        assert send(server.admin_port, "GET", "/livez").status == 200
        # Then the others are served, and what is missing is told.
        eventually("an end of patience", lambda: ready(server).status == 200)
        assert ready(server).body == b"ok, without the keys of `lab`\n"
        assert metric(server, "tollgate_jwks_refreshes_total", issuer="lab", result="ok") == 0
        assert metric(server, "tollgate_jwks_refreshes_total", issuer="lab", result="failed") >= 1
        assert metric(server, "tollgate_jwks_age_seconds", issuer="lab") is None
        with KeyServer(port=port) as source:
            source.publish("/keys", jwk(P256[0], "ES256", "ec"))
            # At once, for the sake of the request: the next attempt would be seconds away.
            eventually("its keys", lambda: is_accepted(server, token(P256[0], "ec")))
            wait_until_ready(server)


def test_k4_the_last_keys_serve_until_they_are_too_old(gateway):
    good = token(P256[0], "ec")
    source = KeyServer()
    source.publish("/keys", jwk(P256[0], "ES256", "ec"))
    more = 'jwks_refresh = "1s"\njwks_cooldown = "1s"\njwks_max_stale = "4s"'
    server = start(gateway, issuer("lab", f'jwks_url = "{source.url}/keys"', more=more))
    wait_until_ready(server)
    source.stop()
    failed = lambda: metric(server, "tollgate_jwks_refreshes_total", issuer="lab", result="failed")
    eventually("an attempt in vain", lambda: failed() >= 1)
    assert is_accepted(server, good), "the last keys do not serve"
    # A key that they have not is no reason to say that all is well tomorrow.
    assert_refused(me(server, token(P256[1], "other")), 401, "token_key_unknown")
    statuses = []
    eventually("their end", lambda: statuses.append(me(server, good).status) or statuses[-1] == 503)
    assert set(statuses) <= {200, 503}, "a good token was called bad"
    assert_unavailable(me(server, good))
    assert_unavailable(me(server, token(P256[1], "other")))
    assert ready(server).body in (b"waiting for the keys of `lab`\n", b"ok, without the keys of `lab`\n")
    assert any(line["level"] == "ERROR" for line in log_of(server, "lab", "older than `jwks_max_stale`"))
    with KeyServer(port=source.port) as again:
        again.publish("/keys", jwk(P256[0], "ES256", "ec"))
        eventually("their return", lambda: is_accepted(server, good))


# ── K5 ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_k5_whatever_the_source_answers_the_last_keys_stay(gateway, tmp_path):
    authority, stranger = Authority(tmp_path, "ours"), Authority(tmp_path, "stranger")
    key = jwk(P256[0], "ES256", "ec")
    good_set = json.dumps({"keys": [key]}).encode()
    evil_set = json.dumps({"keys": [jwk(P256[1], "ES256", "evil")]}).encode()
    with KeyServer() as evil, KeyServer() as source, KeyServer(authority.server()) as secure:
        evil.paths["/keys"] = answer(evil_set)
        bomb = gzip.compress(bytes(128 * MEBIBYTE), 1)
        faults = {
            "status-500": (answer(evil_set, "500 Internal Server Error"), "status 500"),
            "redirect": (redirect(f"{evil.url}/keys"), "redirects are not followed"),
            "html": (answer(b"<!doctype html><title>Log in</title>"), "strict JSON"),
            "other-json": (answer(b'{"error":"none"}'), "neither a JWK"),
            "empty": (answer(b'{"keys":[]}'), "no key that can verify"),
            "twice": (answer(b'{"keys":[],' + good_set[1:]), "strict JSON"),
            "declared-100-mb": (answer(b"{", length=100_000_000), "longer than 524288 bytes"),
            "endless": (endless, "longer than 524288 bytes"),
            "trickle": (trickle, "not answered in full within 5 s"),
            "silent": (silent, "not answered in full within 5 s"),
            "never-closes": (unended(good_set), "not answered in full within 5 s"),
            "gzip-bomb": (answer(bomb, headers="Content-Encoding: gzip\r\n"), "compressed"),
            "gzip": (answer(gzip.compress(evil_set), headers="Content-Encoding: gzip\r\n"), "compressed"),
            "breaks-off": (answer(good_set[:9], length=len(good_set)), "broke off"),
            "no-http": (lambda client: client.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"), "not HTTP"),
            "no-content": (answer(b"", "204 No Content"), "status 204"),
        }
        more = 'jwks_refresh = "1s"'
        issuers = []
        for name in faults:
            source.publish(f"/{name}", key)
            issuers.append(issuer(name, f'jwks_url = "{source.url}/{name}"', more=more))
        tls = {"wrong-name": authority.server("sso.example.org"), "wrong-authority": stranger.server()}
        secures = {}
        for name in tls:
            secures[name] = KeyServer(authority.server())
            secures[name].publish("/keys", key)
            ca = f'{more}\ntls_ca = "{authority.file}"'
            issuers.append(issuer(name, f'jwks_url = "{secures[name].url}/keys"', more=ca))
        secure.publish("/keys", key)
        # Nobody is trusted beside those that Mozilla lists.
        issuers.append(issuer("private-authority", f'jwks_url = "{secure.url}/keys"', more=more))
        server = start(gateway, *issuers)
        names = [*faults, *tls]
        tokens = {name: token(P256[0], "ec", name=name) for name in names}
        eventually("all keys", lambda: all(is_accepted(server, text) for text in tokens.values()))
        before = resident(server)
        for name, (behaviour, _) in faults.items():
            source.paths[f"/{name}"] = behaviour
        for name, certificate in tls.items():
            secures[name].context = tls_context(certificate)
        reasons = {
            **{name: reason for name, (_, reason) in faults.items()},
            **dict.fromkeys(tls, "cannot be trusted by TLS"),
            "private-authority": "cannot be trusted by TLS",
        }

        def untold() -> set[str]:
            lines = [line for line in server.log() if "not fetched" in line["message"]]
            told = {line["issuer"] for line in lines if reasons[line["issuer"]] in line["error"]}
            return reasons.keys() - told

        eventually("every fault in the log", lambda: not untold(), 30)
        for name, text in tokens.items():
            assert is_accepted(server, text), f"{name} took the keys away"
            assert not is_accepted(server, token(P256[1], "evil", name=name)), f"{name} put a key in"
        assert_unavailable(me(server, token(P256[0], "ec", name="private-authority")))
        assert evil.heads == [], "a redirect was followed"
        # Of what does not end a little more is taken than a set may have: what was on its way.
        attempts = source.count("/endless")
        assert source.sent["/endless"] / attempts < 16 * MEBIBYTE
        growth = resident(server) - before
        assert growth < 48 * MEBIBYTE, f"{growth} bytes more"
        head = source.heads[-1].lower()
        assert "accept-encoding: identity\r\n" in head and "cookie" not in head and "authorization" not in head
        for name in tls:
            secures[name].stop()


# ── K6 ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_k6_a_new_key_serves_at_once_and_an_old_one_goes(gateway):
    old, new = jwk(P256[0], "ES256", "2026-01"), jwk(P256[1], "ES256", "2026-02")
    with KeyServer() as source:
        source.publish("/keys", old)
        server = start(gateway, issuer("lab", f'jwks_url = "{source.url}/keys"'))
        wait_until_ready(server)
        first = token(P256[0], "2026-01")
        assert is_accepted(server, first)
        assert not is_accepted(server, token(P256[1], "2026-02")), "it is not published"
        assert source.count("/keys") == 2
    with KeyServer() as source:
        source.publish("/keys", old)
        server = start(gateway, issuer("lab", f'jwks_url = "{source.url}/keys"', more='jwks_refresh = "3s"'))
        wait_until_ready(server)
        assert is_accepted(server, first)
        source.publish("/keys", old, new)
        # The very first request: nobody has to try twice.
        assert me(server, token(P256[1], "2026-02")).status == 200
        assert is_accepted(server, first)
        source.publish("/keys", new)
        # Now it is a token that was accepted and is remembered.
        eventually("the end of the old key", lambda: not is_accepted(server, first))
        assert_refused(me(server, first), 401, "token_key_unknown")
        assert is_accepted(server, token(P256[1], "2026-02"))
        age = metric(server, "tollgate_jwks_age_seconds", issuer="lab")
        assert age is not None and age <= 3


def test_k6_keys_that_give_way_to_some_that_cannot_be_used_go(gateway):
    """A stolen key is not good for a day longer because its issuer's next one is of a kind that is not supported, or is broken."""
    old = jwk(P256[0], "ES256", "stolen")
    for_encryption = jwk(P256[1], "ES256", "next", use="enc")
    unsupported = {"kty": "OKP", "crv": "Ed448", "kid": "next", "use": "sig", "x": "AAAA"}
    weak = jwk(RSA[0], "RS256", "next", e="AQ")
    with KeyServer() as source:
        names = {"encryption": for_encryption, "unsupported": unsupported, "weak": weak}
        more = 'jwks_refresh = "1s"\njwks_cooldown = "1s"'
        issuers = [issuer(name, f'jwks_url = "{source.url}/{name}"', more=more) for name in names]
        for name in names:
            source.publish(f"/{name}", old)
        server = start(gateway, *issuers)
        wait_until_ready(server)
        held = {name: token(P256[0], "stolen", name=name) for name in names}
        for name, other in names.items():
            # Verified, and then remembered.
            assert is_accepted(server, held[name]) and is_accepted(server, held[name])
            source.publish(f"/{name}", other)
            eventually(f"the end of the stolen key for {name}", lambda: not is_accepted(server, held[name]))
            # It may be the new one that the token is of: nothing can be said of it here.
            assert_unavailable(me(server, held[name]))
            assert any(line["level"] == "ERROR" for line in log_of(server, name, "publishes no key any more"))
        for name in names:
            source.publish(f"/{name}", jwk(P256[2], "ES256", "at last"))
            eventually("a key that can be used", lambda: is_accepted(server, token(P256[2], "at last", name=name)))
            assert_refused(me(server, held[name]), 401, "token_key_unknown")


def test_k6_max_age_shortens_the_time_to_the_next_fetch_and_never_lengthens_it(gateway):
    key = jwk(P256[0], "ES256", "ec")
    with KeyServer() as source:
        source.publish("/keys", key, headers="Cache-Control: public, max-age=86400\r\n")
        server = start(gateway, issuer("lab", f'jwks_url = "{source.url}/keys"', more='jwks_refresh = "1s"'))
        wait_until_ready(server)
        eventually("further fetches", lambda: source.count("/keys") >= 3)


# ── K8, K9, K10 ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_k8_a_token_without_kid_is_tried_with_four_keys_of_its_algorithm(gateway):
    with KeyServer() as source:
        source.publish("/one", jwk(P256[0], "ES256", "a"), jwk(RSA[0], "RS256", "b"))
        source.publish("/two", jwk(P256[0], "ES256", "a"), jwk(P256[1], "ES256", "b"))
        source.publish("/six", *[jwk(P256[number], "ES256", f"key-{number}") for number in range(6)])
        source.publish("/nameless", jwk(P256[0], "ES256", None))
        names = ["one", "two", "six", "nameless"]
        more = 'jwks_cooldown = "1s"'
        server = start(gateway, *[issuer(name, f'jwks_url = "{source.url}/{name}"', more=more) for name in names])
        wait_until_ready(server)
        accepted = lambda name, number: is_accepted(server, token(P256[number], None, name=name))
        assert accepted("one", 0) and not accepted("one", 1)
        assert is_accepted(server, token(RSA[0], None, "RS256", name="one"))
        assert accepted("two", 0) and accepted("two", 1) and not accepted("two", 2)
        assert [accepted("six", number) for number in range(6)] == [True] * 4 + [False] * 2
        assert is_accepted(server, token(P256[5], "key-5", name="six")), "with its name it is found"
        assert_refused(me(server, token(P256[5], None, name="six")), 401, "token_signature")
        # A key without a name serves any `kid`, and a signature that it did not make may be that of its successor.
        assert is_accepted(server, token(P256[0], "any", name="nameless"))
        source.publish("/nameless", jwk(P256[1], "ES256", None))
        eventually("the successor", lambda: is_accepted(server, token(P256[1], "any", name="nameless")))


def test_k9_the_same_kid_of_two_issuers_is_two_keys(gateway):
    with KeyServer() as source:
        source.publish("/one", jwk(P256[0], "ES256", "signing"))
        source.publish("/two", jwk(P256[1], "ES256", "signing"))
        server = start(gateway, *[issuer(name, f'jwks_url = "{source.url}/{name}"') for name in ["one", "two"]])
        wait_until_ready(server)
        for name, number, code in [("one", 0, None), ("two", 1, None), ("one", 1, "token_signature"), ("two", 0, "token_signature")]:
            found = me(server, token(P256[number], "signing", name=name))
            assert found.status == 200 if code is None else found.json()["code"] == code, (name, number, found)
        # Its key is known by its name, so nothing is fetched for a wrong signature.
        assert (source.count("/one"), source.count("/two")) == (1, 1)


def test_k10_algorithms_that_are_not_supported_are_told_by_name(gateway):
    p521, edwards = ec.generate_private_key(ec.SECP521R1()), ed25519.Ed25519PrivateKey.generate()
    with KeyServer() as source:
        source.publish("/keys", jwk(P256[0], "ES256", "ec"), jwk(p521, "ES512", "p521"))
        server = start(gateway, issuer("lab", f'jwks_url = "{source.url}/keys"', ["ES256", "EdDSA"]))
        wait_until_ready(server)
        renamed = token(edwards, "edwards", "EdDSA").split(".")
        renamed[0] = encoded(json.dumps({"alg": "Ed25519", "kid": "edwards"}).encode())
        for text in [token(p521, "p521", "ES512"), ".".join(renamed)] * 2:
            assert_refused(me(server, text), 401, "token_malformed")
        lines = [line for line in server.log() if "`alg` is not supported" in line["message"]]
        assert sorted(line["token.alg"] for line in lines) == ["ES512", "Ed25519"]
        assert is_accepted(server, token(P256[0], "ec"))
        (passed_over,) = log_of(server, "lab", "is for something else")
        assert passed_over["key"] == "p521"
        assert source.count("/keys") == 1


def test_keys_that_a_token_brings_or_points_to_are_never_looked_at(gateway):
    with KeyServer() as evil, KeyServer() as source:
        evil.publish("/keys", jwk(P256[1], "ES256", "mine"))
        source.publish("/keys", jwk(P256[0], "ES256", "ec"))
        server = start(gateway, issuer("lab", f'jwks_url = "{source.url}/keys"'))
        wait_until_ready(server)
        mine = jwk(P256[1], "ES256", "mine")
        for kid in ["mine", "ec", None, f"{evil.url}/keys"]:
            for header in [
                {"jku": f"{evil.url}/keys"},
                {"x5u": f"{evil.url}/keys"},
                {"jwk": mine},
                {"x5c": [encoded(b"certificate")]},
                {"jku": f"{evil.url}/keys", "jwk": mine},
            ]:
                assert not is_accepted(server, token(P256[1], kid, header=header)), (kid, header)
        assert evil.heads == []
        assert is_accepted(server, token(P256[0], "ec", header={"jku": f"{evil.url}/keys"}))
        assert evil.heads == []


# ── Discovery and TLS ────────────────────────────────────────────────────────────────────────────────────────────────


def document(identifier: str, keys: str) -> bytes:
    return json.dumps({"issuer": identifier, "jwks_uri": keys, "authorization_endpoint": f"{identifier}/a"}).encode()


def test_discovery_finds_the_keys_of_the_very_issuer_and_of_no_other(gateway, tmp_path):
    authority = Authority(tmp_path, "lab")
    with KeyServer(authority.server()) as secure, KeyServer() as plain:
        realm = f"{secure.url}/realms/lab"
        well_known = ".well-known/openid-configuration"
        secure.paths[f"/realms/lab/{well_known}"] = answer(document(realm, f"{secure.url}/keys"))
        secure.publish("/keys", jwk(P256[0], "ES256", "ec"))
        plain.publish("/keys", jwk(P256[0], "ES256", "ec"))
        ca = f'tls_ca = "{authority.file}"'
        issuers = [issuer("lab", "discovery = true", more=ca, identifier=realm)]
        bad = {
            "slash": (document(identifier_of("slash") + "/", f"{secure.url}/keys"), "not, to the letter"),
            "downgrade": (document(identifier_of("downgrade"), f"{plain.url}/keys"), "is not `https`"),
            "elsewhere": (document(identifier_of("elsewhere"), "http://sso.example.org/keys"), "`jwks_uri`"),
            "keyless": (document(identifier_of("keyless"), ""), "`jwks_uri`"),
        }
        secure.paths["/named"] = answer(document(identifier_of("named"), f"{secure.url}/keys"))
        issuers.append(issuer("named", f'discovery_url = "{secure.url}/named"', more=ca))
        for name, (body, _) in bad.items():
            secure.paths[f"/{name}"] = answer(body)
            issuers.append(issuer(name, f'discovery_url = "{secure.url}/{name}"', more=ca))
        server = start(gateway, *issuers)
        eventually("the keys", lambda: is_accepted(server, token(P256[0], "ec", iss=realm)))
        eventually("the keys", lambda: is_accepted(server, token(P256[0], "ec", name="named")))
        told = lambda name, reason: any(reason in line["error"] for line in log_of(server, name, "not fetched"))
        eventually("every reason", lambda: all(told(name, reason) for name, (_, reason) in bad.items()))
        for name in bad:
            assert_unavailable(me(server, token(P256[0], "ec", name=name)))
        assert plain.heads == []


# ── Commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_commands_stay_offline_until_they_are_told_to_ask(tmp_path):
    with KeyServer() as source:
        source.publish("/keys", jwk(P256[0], "ES256", "ec"), jwk(RSA[0], "RS256", "weak", e="AQ"))
        source.paths["/nothing"] = answer(b"", "404 Not Found")
        file = tmp_path / "tollgate.toml"
        with Recipient() as recipient:
            file.write_text(
                base(tmp_path)
                + issuer("lab", f'jwks_url = "{source.url}/keys?key=query-of-the-address"')
                + upstream("app", recipient.url)
                + route("/{*rest}", "app")
            )
            source.paths["/keys?key=query-of-the-address"] = source.paths["/keys"]
            good, bad = token(P256[0], "ec"), token(P256[1], "ec")
            explain = lambda text, *more: tollgate("explain", "GET", "/a", "-", "-c", file, *more, stdin=text)
            inspect = lambda text, *more: tollgate("token", "-c", file, "inspect", "-", "--verify", *more, stdin=text)
            for command in [explain, inspect]:
                offline = command(good)
                assert offline.returncode == 1
                assert f"published at {source.url}/keys; `--fetch-keys` asks" in offline.stdout + offline.stderr
                assert source.heads == []
                assert command(good, "--fetch-keys").returncode == 0, command(good, "--fetch-keys")
                refused = command(bad, "--fetch-keys")
                assert refused.returncode == 1 and "signature is wrong" in refused.stdout + refused.stderr
                source.heads.clear()
            checked = tollgate("check", "-c", file, "--connect")
            assert "ok: issuer `lab`, keys at `" in checked.stdout and "1 key; key weak is refused" in checked.stdout
            assert "query-of-the-address" not in checked.stdout + checked.stderr
            file.write_text(file.read_text().replace("/keys?key=query-of-the-address", "/nothing"))
            checked = tollgate("check", "-c", file, "--connect")
            assert checked.returncode == 1 and "status 404" in checked.stdout, checked
            gone = explain(good, "--fetch-keys")
            assert gone.returncode == 1 and "cannot be fetched" in gone.stdout


class Recipient:
    """A port that takes connections, for `check --connect`."""

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        return self

    def __exit__(self, *_):
        self.listener.close()
