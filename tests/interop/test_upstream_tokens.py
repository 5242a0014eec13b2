"""Tokens that the gateway makes for an upstream: PyJWT verifies them, one serves many requests, and H11: an upstream that asks
for them answers nobody else."""

import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest

from support.canaries import Canaries
from support.config import ENVIRONMENT, ISSUER, TRUSTED_LAB, base, lab_token, route, upstream
from support.http import assert_refused, bearer, send
from support.issuers import forger
from support.processes import Application, eventually, tollgate
from support.signing import private_pem, public_pem

GATE = "https://gate.example.org"
SECRET = "canary-of-the-upstream/secret+" + "u" * 40
SECRETS = {"UPSTREAM_SECRET": SECRET}
HMAC = ["HS256", "HS384", "HS512"]
PAIRS = ["RS256", "PS256", "ES256", "ES384", "EdDSA"]
FULL = {"name": "Ada", "email": "ada@example.org", "roles": ["staff", "lab head"], "scope": "read write", "sid": "s-1"}


def token_table(name, more, secret=True):
    secret = 'secret = { env = "UPSTREAM_SECRET" }' if secret else ""
    return f'[upstreams.{name}.token]\nmode = "mint"\n{secret}\n{more}\n'


@pytest.fixture(scope="module")
def gate(module_gateway, echo, tmp_path_factory):
    """An upstream for each algorithm, and one for each thing that a token can be."""
    folder = tmp_path_factory.mktemp("keys")
    config = base("{folder}") + f'[tokens]\nissuer = "{GATE}"\n' + TRUSTED_LAB
    for algorithm in HMAC + PAIRS:
        config += upstream(algorithm, echo.url)
        if algorithm in PAIRS:
            file = folder / f"{algorithm}.pem"
            file.write_bytes(private_pem(algorithm))
            file.chmod(0o600)
            config += token_table(algorithm, f'key = {{ file = "{file}" }}\nalgorithm = "{algorithm}"', secret=False)
        else:
            config += token_table(algorithm, f'algorithm = "{algorithm}"')
        config += route(f"/echo/{algorithm}/{{*rest}}", algorithm)
    config += upstream("brief", echo.url) + token_table("brief", 'lifetime = "10s"') + route("/echo/brief/{*rest}", "brief")
    for access in ("public", "optional"):
        config += route(f"/echo/{access}/{{*rest}}", "HS256", f'auth = "{access}"')
    config += upstream("named", echo.url)
    config += token_table("named", 'issuer = ""\naudience = ["a", "b"]\nclaims = { user_id = "{email}", expires = "{exp}", n = 1 }')
    config += route("/echo/named/{*rest}", "named")
    config += upstream("hasura", echo.url)
    hasura = '"https://hasura.io/jwt/claims" = { "x-hasura-user-id" = "{subject}", "x-hasura-allowed-roles" = "{roles}" }'
    config += token_table("hasura", f'claims = {{ exp = "{{exp}}", jti = "{{jti}}", by = "{{issuer}}", {hasura} }}') + route("/echo/hasura/{*rest}", "hasura")
    return module_gateway(config, SECRETS)


def arrived(answer):
    """Every `Authorization` that the upstream received."""
    assert answer.status == 200, answer
    return [value for name, value in answer.json()["headers"] if name == "authorization"]


def minted(gate, path, token):
    """The one token that the upstream received."""
    (authorization,) = arrived(send(gate.port, "GET", path, bearer(token)))
    scheme, _, text = authorization.partition(" ")
    assert scheme == "Bearer" and " " not in text and text != token
    return text


def verified(text, algorithm="HS256", key=None, **more):
    return jwt.decode(text, key or SECRET, [algorithm], leeway=0, **more)


@pytest.mark.parametrize("algorithm", HMAC + PAIRS)
def test_pyjwt_verifies_what_the_upstream_gets(gate, algorithm):
    now = int(time.time())
    text = minted(gate, f"/echo/{algorithm}/a", lab_token(**FULL))
    key = SECRET if algorithm in HMAC else public_pem(algorithm)
    claims = verified(text, algorithm, key, issuer=GATE, options={"require": ["exp", "iat", "iss", "sub"]})
    assert claims["exp"] - claims.pop("iat") == 65 and now + 60 <= claims.pop("exp")
    assert claims == {
        "iss": GATE, "sub": "alice", "name": "Ada", "email": "ada@example.org", "scope": "read write", "roles": ["staff", "lab head"]
    }
    header = jwt.get_unverified_header(text)
    assert (header["alg"], header["typ"], "kid" in header) == (algorithm, "JWT", algorithm in PAIRS)
    with pytest.raises(jwt.InvalidSignatureError):
        verified(text, algorithm, SECRET[::-1] if algorithm in HMAC else forger(algorithm).public)


def test_claims_are_as_the_file_says(gate):
    text = minted(gate, "/echo/named/a", lab_token(**FULL))
    claims = verified(text, audience="b")
    assert type(claims["expires"]) is int and claims["expires"] > time.time()
    del claims["expires"]
    assert claims == {"aud": ["a", "b"], "user_id": "ada@example.org", "n": 1}

    claims = verified(minted(gate, "/echo/hasura/a", lab_token(**FULL)))
    assert claims["https://hasura.io/jwt/claims"] == {"x-hasura-user-id": "alice", "x-hasura-allowed-roles": ["staff", "lab head"]}
    assert claims["by"] == ISSUER and len(claims["jti"]) == 22


def test_a_caller_without_what_the_token_needs_is_refused_before_the_upstream(gate):
    answer = send(gate.port, "GET", "/echo/named/a", bearer(lab_token(sub="nobody")))
    problem = assert_refused(answer, 403, "claim_mismatch")
    assert "`email`" in problem["detail"]
    assert gate.access_line(answer.header("X-Request-Id")).get("upstream.status") is None
    # By default only what is there is told.
    assert set(verified(minted(gate, "/echo/HS256/a", lab_token(sub="nobody")))) == {"iss", "sub", "exp", "iat"}


def test_exactly_one_bearer_arrives_and_none_where_nobody_is_known(gate):
    token = lab_token(**FULL)
    for scheme in ("Bearer", "bearer", "BEARER"):
        (one,) = arrived(send(gate.port, "GET", "/echo/HS256/a", {"authorization": f"{scheme} {token}"}))
        assert one.startswith("Bearer ") and token not in one
    basic, both = ("Authorization", "Basic YTpi"), ("Authorization", f"Bearer {token}")
    for sent in ([], [basic], [both], [basic, both], [both, both]):
        assert arrived(send(gate.port, "GET", "/echo/public/a", sent)) == []
    assert arrived(send(gate.port, "GET", "/echo/optional/a")) == []
    assert len(arrived(send(gate.port, "GET", "/echo/optional/a", [both]))) == 1
    assert arrived(send(gate.port, "GET", "/echo/optional/a", [basic])) == []
    assert_refused(send(gate.port, "GET", "/echo/HS256/a", [both, both]), 400, "multiple_tokens")


@pytest.mark.parametrize("algorithm", ["ES256", "PS256"])
def test_one_token_serves_many_requests_of_one_caller(gate, algorithm):
    """Both sign differently each time, so an equal text is the same token."""
    one, other = lab_token(**FULL), lab_token(sub="bob")
    with ThreadPoolExecutor(16) as pool:
        texts = list(pool.map(lambda _: minted(gate, f"/echo/{algorithm}/a", one), range(64)))
    # What is quick to sign may be signed by each worker at once, and the last one stays; for what is slow they wait.
    assert len(set(texts)) <= (16 if algorithm == "ES256" else 1), len(set(texts))
    later = {minted(gate, f"/echo/{algorithm}/a", one) for _ in range(10)}
    assert len(later) == 1 and later <= set(texts)
    assert minted(gate, f"/echo/{algorithm}/a", other) not in texts
    assert minted(gate, f"/echo/{algorithm}/a", lab_token(**FULL, jti="another login")) not in texts


def test_a_token_is_renewed_before_its_end(gate):
    token = lab_token(**FULL)
    first = minted(gate, "/echo/brief/a", token)
    begin = time.time()
    texts = []

    def expiry(text):
        return verified(text, options={"verify_exp": False})["exp"]

    def renewed():
        sent = time.time()
        texts.append(minted(gate, "/echo/brief/a", token))
        assert expiry(texts[-1]) > sent, "it had expired when its request was sent"
        return texts[-1] != first

    eventually("another token", renewed)
    now = time.time()
    print(f"renewed after {now - begin:.1f} s, with {expiry(first) - now:.1f} s left; {len(texts) - 1} requests had the first")
    assert len(texts) > 3 and expiry(texts[-1]) > expiry(first)


def test_a_token_ends_with_its_callers(gate):
    now = int(time.time())
    claims = verified(minted(gate, "/echo/HS256/a", lab_token(exp=now + 5)))
    assert claims["exp"] == now + 35, "the gateway's leeway of 30 s included"


def test_a_minted_token_is_nothing_to_the_gateway(gate):
    for algorithm in ("HS256", "ES256", "RS256"):
        text = minted(gate, f"/echo/{algorithm}/a", lab_token(**FULL))
        assert send(gate.port, "GET", "/echo/HS256/a", bearer(text)).status == 401


def test_without_a_cache_each_request_has_a_token_of_its_own(gateway, echo, tmp_path):
    """Also where a signature is slow, and the route's time covers the wait for it."""
    config = base("{folder}") + "[tokens]\ncache_bytes = 0\n" + TRUSTED_LAB
    for algorithm in ("ES256", "PS256"):
        file = tmp_path / f"{algorithm}.pem"
        file.write_bytes(private_pem(algorithm))
        file.chmod(0o600)
        config += upstream(algorithm, echo.url)
        config += token_table(algorithm, f'key = {{ file = "{file}" }}\nalgorithm = "{algorithm}"', secret=False)
        config += route(f"/echo/{algorithm}/{{*rest}}", algorithm, 'timeout = "60s"')
    gate = gateway(config)
    token = lab_token(**FULL)
    for algorithm in ("ES256", "PS256"):
        texts = [minted(gate, f"/echo/{algorithm}/a", token) for _ in range(5)]
        assert len(set(texts)) == 5
        assert verified(texts[0], algorithm, public_pem(algorithm))["sub"] == "alice"


def test_many_callers_at_once_get_a_slow_signature_each(gate):
    tokens = [lab_token(sub=f"caller-{number}") for number in range(100)]

    def one(token):
        start = time.perf_counter()
        text = minted(gate, "/echo/RS256/a", token)
        return time.perf_counter() - start, text

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(one, tokens))
    subjects = {verified(text, "RS256", public_pem("RS256"))["sub"] for _, text in results}
    assert len(subjects) == 100
    times = [took * 1000 for took, _ in results]
    print(f"first request of 100 callers, RS256: median {statistics.median(times):.1f} ms, longest {max(times):.1f} ms")


@pytest.mark.parametrize("algorithm", ["ES256", "HS256"])
def test_an_upstream_that_verifies_answers_nobody_but_the_gateway(gateway, tmp_path, algorithm):
    """H11: who reaches the upstream past the gateway has no such token and cannot make one."""
    key = tmp_path / "verify"
    key.write_bytes(public_pem(algorithm) if algorithm == "ES256" else SECRET.encode())
    private = tmp_path / "sign"
    private.write_bytes(private_pem(algorithm) if algorithm == "ES256" else SECRET.encode())
    private.chmod(0o600)
    app = Application("guarded_app", str(key), algorithm, GATE, "guarded")
    try:
        kind = "key" if algorithm == "ES256" else "secret"
        config = base("{folder}") + f'[tokens]\nissuer = "{GATE}"\n' + TRUSTED_LAB + upstream("guarded", app.url)
        config += token_table("guarded", f'{kind} = {{ file = "{private}" }}\naudience = ["guarded"]', secret=False)
        gate = gateway(config + route("/guarded/{*rest}", "guarded") + route("/guarded/open", "guarded", 'auth = "public"'))
        token = lab_token(**FULL)
        through = send(gate.port, "GET", "/guarded/a", bearer(token))
        assert (through.status, through.json()) == (200, {"rest": "a", "sub": "alice"})
        forged = {"X-Forwarded-User": "alice", "X-Forwarded-For": "127.0.0.1", "Via": "1.1 tollgate"}
        claims = {"iss": GATE, "aud": "guarded", "sub": "alice", "iat": int(time.time()) - 5, "exp": int(time.time()) + 60}
        known = jwt.encode(claims, key.read_bytes().hex(), "HS256")
        unsigned = jwt.encode(claims, None, "none")
        for headers in ({}, forged, bearer(token), {**forged, **bearer(known)}, {**forged, **bearer(unsigned)}):
            direct = send(app.port, "GET", "/guarded/a", headers)
            assert direct.status == 401, (headers, direct)
        # Nor does the gateway speak for those whom it does not know.
        assert send(gate.port, "GET", "/guarded/open").status == 401
        assert send(gate.port, "GET", "/guarded/open", bearer(token)).status == 401
    finally:
        app.stop()


def test_the_secret_and_the_tokens_are_seen_nowhere(gateway, echo, tmp_path):
    """Through successes and failures, at the most talkative level of the log, and in every command."""
    canaries = Canaries()
    canaries.add("the upstream's secret", SECRET)
    pem = private_pem("ES256").decode()
    canaries.add_pem("the upstream's key", pem)
    (tmp_path / "key.pem").write_text(pem)
    (tmp_path / "key.pem").chmod(0o600)
    config = base("{folder}").replace("[log]", '[log]\nlevel = "trace"') + TRUSTED_LAB
    config += upstream("app", echo.url) + token_table("app", 'claims = { exp = "{exp}", mail = "{email}" }') + route("/echo/a/{*rest}", "app")
    config += upstream("pair", echo.url) + token_table("pair", f'key = {{ file = "{tmp_path}/key.pem" }}', secret=False) + route("/echo/b/{*rest}", "pair")
    config += upstream("dead", "http://127.0.0.1:1") + token_table("dead", "") + route("/dead", "dead")
    gate = gateway(config, {**SECRETS})
    token = canaries.add_token("the caller's token", lab_token(**FULL))
    seen = []
    for path in ("/echo/a/1", "/echo/b/1", "/echo/a/1"):
        canaries.add_token(f"the token for {path}", minted(gate, path, token))
    for path, sent in [("/echo/a/1", lab_token(sub="bob")), ("/dead", token), ("/echo/a/1", token[:-3])]:
        answer = send(gate.port, "GET", path, bearer(sent))
        assert answer.status in (401, 403, 502)
        seen.append(answer.body.decode() + str(answer.headers))
    seen.append(send(gate.admin_port, "GET", "/metrics").body.decode())

    environment = {**ENVIRONMENT, **SECRETS}
    for words in (["check"], ["config", "show"], ["config", "show", "--json"]):
        done = tollgate(*words, "-c", gate.config, environment=environment)
        assert done.returncode == 0, done
        seen.append(done.stdout + done.stderr)
    for form in ([], ["--json"]):
        done = tollgate("explain", "GET", "/echo/a/1", "-", *form, "-c", gate.config, stdin=token, environment=environment)
        assert done.returncode == 0, done
        seen.append(done.stdout + done.stderr)
    explained = json.loads(seen[-1])["forwarded"]
    assert explained["minted"]["algorithm"] == "HS256" and explained["minted"]["claims"]["mail"] == "ada@example.org"
    (authorization,) = [header for header in explained["headers"] if header["name"] == "authorization"]
    assert authorization == {"name": "authorization", "value": None, "note": "made for this upstream"}
    assert 'its token, HS256, says\n  iss: "http://127.0.0.1:8080"\n  exp: ' in seen[-2], seen[-2]
    assert "eyJ" not in seen[-1] + seen[-2]
    wrong = gate.config.read_text().replace('secret = { env = "UPSTREAM_SECRET" }', f'secret = "{SECRET}"')
    (tmp_path / "wrong.toml").write_text(wrong)
    done = tollgate("check", "-c", tmp_path / "wrong.toml", environment=environment)
    assert done.returncode == 1 and "must not stand in the file itself" in done.stderr, done
    seen.append(done.stdout + done.stderr)

    gate.stop()
    seen += [gate.log_file.read_text(), gate.access_file.read_text()]
    assert '"level":"DEBUG"' in seen[-2]
    for text in seen:
        assert not canaries.found_in(text), f"{canaries.found_in(text)} in:\n{text[:3000]}"
