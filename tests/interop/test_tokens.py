"""Tokens of Tollgate are verified by PyJWT, and tokens of PyJWT by Tollgate, for every algorithm; bad ones are refused."""

import base64
import hashlib
import hmac
import json
import time

import jwt
import pytest

from support.config import AUDIENCE, ENVIRONMENT, ISSUER, LAB_SECRET, TRUSTED_LAB, base, lab_claims, lab_token
from support.http import assert_refused, bearer, log_in, send
from support.people import PASSWORD, hashes
from support.signing import P256, PRIVATE, RSA, public_jwk, public_pem, write_jwks

SYMMETRIC = ["HS256", "HS384", "HS512"]


@pytest.mark.parametrize("algorithm", SYMMETRIC + list(PRIVATE))
def test_pyjwt_verifies_our_token(algorithm, mongod, database, gateway):
    database.users.insert_one({"username": "alice", "password": hashes.hash(PASSWORD), "roles": ["scientist"]})
    key = 'key = { env = "TOKEN_SECRET" }' if algorithm in SYMMETRIC else ""
    tokens = f'\n[tokens]\nissuer = "https://gate.example.org"\naudience = ["{AUDIENCE}"]\nalgorithm = "{algorithm}"\n{key}\n'
    server = gateway(base("{folder}", mongod.uri(database.name)) + tokens)
    token = log_in(server.port, "alice", PASSWORD)

    jwks_url = f"{server.url}/.well-known/jwks.json"
    if algorithm in SYMMETRIC:
        verification_key = ENVIRONMENT["TOKEN_SECRET"]
        assert send(server.port, "GET", "/.well-known/jwks.json").json() == {"keys": []}, "a secret is never published"
    else:
        verification_key = jwt.PyJWKClient(jwks_url).get_signing_key_from_jwt(token)
    required = ["iss", "sub", "aud", "exp", "iat", "jti", "client_id"]
    claims = jwt.decode(
        token, verification_key, [algorithm], audience=AUDIENCE, issuer="https://gate.example.org", options={"require": required}
    )
    assert claims["roles"] == ["scientist"]
    assert claims["exp"] - claims["iat"] == 300
    header = jwt.get_unverified_header(token)
    assert (header["alg"], header["typ"]) == (algorithm, "at+jwt")
    assert send(server.port, "GET", "/auth/me", bearer(token)).status == 200
    assert send(server.port, "GET", "/.well-known/openid-configuration").json()["issuer"] == "https://gate.example.org"


@pytest.fixture(scope="module")
def trusting(module_gateway, tmp_path_factory):
    """A gateway that trusts one issuer for each way to name a key."""
    keys = tmp_path_factory.mktemp("keys")
    config = base("{folder}") + TRUSTED_LAB
    for algorithm in PRIVATE:
        (keys / f"{algorithm}.pem").write_bytes(public_pem(algorithm))
        write_jwks(keys / f"{algorithm}.json", public_jwk(algorithm, f"key of {algorithm}"))
        for form, file in [("pem", f'file = "{keys}/{algorithm}.pem"'), ("jwk", f'jwk_file = "{keys}/{algorithm}.json"')]:
            config += f"""
[issuers.{form}-{algorithm}]
issuer = "https://{form}.example.org/{algorithm}"
audiences = ["{AUDIENCE}"]
algorithms = ["{algorithm}"]
keys = [{{ {file} }}]
"""
    for algorithm in SYMMETRIC[1:]:
        config += f"""
[issuers.secret-{algorithm}]
issuer = "https://secret.example.org/{algorithm}"
audiences = ["{AUDIENCE}"]
algorithms = ["{algorithm}"]
secret = {{ env = "LAB_SECRET" }}
"""
    return module_gateway(config)


def me(server, token):
    return send(server.port, "GET", "/auth/me", bearer(token))


@pytest.mark.parametrize("algorithm", list(PRIVATE))
@pytest.mark.parametrize("form", ["pem", "jwk"])
def test_a_token_of_pyjwt_is_accepted(form, algorithm, trusting):
    claims = lab_claims(iss=f"https://{form}.example.org/{algorithm}", scope="read write")
    headers = {"kid": f"key of {algorithm}"} if form == "jwk" else None
    answer = me(trusting, jwt.encode(claims, PRIVATE[algorithm], algorithm, headers=headers))
    assert answer.status == 200, answer
    assert (answer.json()["subject"], answer.json()["scopes"]) == ("alice", ["read", "write"])


@pytest.mark.parametrize("algorithm", SYMMETRIC)
def test_a_token_of_pyjwt_with_a_secret_is_accepted(algorithm, trusting):
    issuer = ISSUER if algorithm == "HS256" else f"https://secret.example.org/{algorithm}"
    answer = me(trusting, jwt.encode(lab_claims(iss=issuer), LAB_SECRET, algorithm))
    assert answer.status == 200, answer


def by_hand(header, payload, secret=LAB_SECRET):
    """A token that PyJWT would not make, with a good HMAC-SHA-256 signature."""
    part = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=")
    as_bytes = lambda value: value if isinstance(value, bytes) else json.dumps(value).encode()
    signed = part(as_bytes(header)) + b"." + part(as_bytes(payload))
    key = secret if isinstance(secret, bytes) else secret.encode()
    return (signed + b"." + part(hmac.new(key, signed, hashlib.sha256).digest())).decode()


def changed_signature(token):
    head, signature = token.rsplit(".", 1)
    return f"{head}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"


HS256 = {"alg": "HS256", "typ": "JWT"}
# Made when a test asks for them: a token of the start of the run would be expired, whatever else is wrong with it.
BAD = {
    "garbage": (lambda: "garbage", "token_malformed"),
    "two parts": (lambda: "a.b", "token_malformed"),
    "another signature": (lambda: changed_signature(lab_token()), "token_signature"),
    "another secret": (lambda: jwt.encode(lab_claims(), LAB_SECRET[::-1], "HS256"), "token_signature"),
    "expired": (lambda: lab_token(exp=int(time.time()) - 3600), "token_expired"),
    "not yet valid": (lambda: lab_token(nbf=int(time.time()) + 3600), "token_not_yet_valid"),
    "an unknown issuer": (lambda: lab_token(iss="https://elsewhere.example.org"), "token_issuer"),
    "the issuer with a slash more": (lambda: lab_token(iss=ISSUER + "/"), "token_issuer"),
    "another audience": (lambda: lab_token(aud="other"), "token_audience"),
}
# What matters is that they are refused as tokens; the order of the checks is the gateway's own.
BAD_IN_SOME_WAY = {
    "alg none": lambda: jwt.encode(lab_claims(), None, "none"),
    "an algorithm that the issuer does not use": lambda: jwt.encode(lab_claims(), LAB_SECRET, "HS512"),
    "another issuer's algorithm and key": lambda: jwt.encode(lab_claims(), P256, "ES256"),
    "the public key as a secret": lambda: by_hand(HS256, lab_claims(iss="https://pem.example.org/RS256"), public_pem("RS256")),
    "a key of its own in the header": lambda: jwt.encode(
        lab_claims(iss="https://pem.example.org/RS256"), PRIVATE["ES256"], "ES256", headers={"jwk": public_jwk("ES256", "x")}
    ),
    "no issuer": lambda: lab_token(iss=None),
    "no audience": lambda: lab_token(aud=None),
    "no exp": lambda: by_hand(HS256, lab_claims(exp=None)),
    "exp as text": lambda: by_hand(HS256, lab_claims(exp=str(int(time.time()) + 300))),
    "no sub": lambda: by_hand(HS256, lab_claims(sub=None)),
    "sub as a number": lambda: by_hand(HS256, lab_claims(sub=7)),
    "sub with a line feed": lambda: by_hand(HS256, lab_claims(sub="alice\nX-Forwarded-Groups: admin")),
    "iss as a list": lambda: by_hand(HS256, lab_claims(iss=[ISSUER])),
    "aud as a number": lambda: by_hand(HS256, lab_claims(aud=5)),
    "a critical extension": lambda: by_hand({**HS256, "crit": ["x"], "x": 1}, lab_claims()),
    "another type": lambda: by_hand({**HS256, "typ": "logout+jwt"}, lab_claims()),
    "a claim twice": lambda: by_hand(HS256, json.dumps(lab_claims())[:-1].encode() + b', "sub": "admin"}'),
    "claims that are no object": lambda: by_hand(HS256, b'["sub"]'),
    "too long": lambda: lab_token(padding="x" * 20_000),
}


def assert_bad_token(answer, code=None):
    assert answer.status == 401, answer
    assert_refused(answer, 401, code or answer.json()["code"])
    assert answer.json()["code"].startswith("token_")
    challenge = answer.header("WWW-Authenticate")
    assert challenge.startswith("Bearer realm=") and 'error="invalid_token"' in challenge, challenge


@pytest.mark.parametrize("make, code", BAD.values(), ids=BAD)
def test_a_bad_token_is_refused_with_its_code(make, code, trusting):
    assert_bad_token(me(trusting, make()), code)


@pytest.mark.parametrize("make", BAD_IN_SOME_WAY.values(), ids=BAD_IN_SOME_WAY)
def test_a_bad_token_is_refused(make, trusting):
    answer = me(trusting, make())
    assert_bad_token(answer)
    assert answer.json()["code"] != "token_expired", answer


def test_what_is_made_by_hand_is_accepted_where_nothing_is_wrong_with_it(trusting):
    assert me(trusting, by_hand(HS256, lab_claims())).status == 200


def test_an_unknown_key_is_refused(trusting):
    claims = lab_claims(iss="https://jwk.example.org/RS256")
    assert_bad_token(me(trusting, jwt.encode(claims, RSA, "RS256", headers={"kid": "another"})), "token_key_unknown")


def test_no_token_is_challenged_without_an_error(trusting):
    answer = send(trusting.port, "GET", "/auth/me")
    assert_refused(answer, 401, "token_missing")
    assert answer.header("WWW-Authenticate").startswith("Bearer realm=")
    assert "error=" not in answer.header("WWW-Authenticate")


def test_two_tokens_are_refused(trusting):
    headers = [("Authorization", f"Bearer {lab_token()}"), ("Authorization", f"Bearer {lab_token(sub='bob')}")]
    assert_refused(send(trusting.port, "GET", "/auth/me", headers), 400, "multiple_tokens")


def test_a_remembered_token_is_refused_once_it_expires(module_gateway):
    server = module_gateway(base("{folder}") + '\n[tokens]\nleeway = "0s"\n' + TRUSTED_LAB)
    token = lab_token(exp=int(time.time()) + 3)
    assert me(server, token).status == 200
    assert me(server, token).status == 200, "from the cache"
    while time.time() <= jwt.decode(token, options={"verify_signature": False})["exp"] + 0.1:
        time.sleep(0.1)
    assert_bad_token(me(server, token), "token_expired")
