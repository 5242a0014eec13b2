"""100,000 forged tokens are refused and 100,000 good ones accepted, of every algorithm, and PyJWT agrees on each."""

import collections
import itertools
import multiprocessing
import os
import time
import warnings

import pytest
from cryptography.hazmat.primitives import serialization

from support.clock import Clock, pyjwt_at
from support.config import AUDIENCE, base
from support.forging import KINDS, Mint
from support.issuers import ALGORITHMS, OWN_NAME, issuers, public_text, secret, signer
from support.pipeline import ask
from support.signing import write_jwks

# A smaller number is for trying things out, and is told.
WHOLE = 100_000
TOKENS = int(os.environ.get("TOLLGATE_TEST_TOKENS", WHOLE))
# The tokens are the same in every run but for the signatures of ECDSA and RSA-PSS, which have random numbers of the library in them.
SEED = 20_261_123
# The gateway's clock begins here and goes on; PyJWT's stands.
NOW = 1_800_000_000
# Of a hundred tokens; those of the gateway itself are 6, and each algorithm of RSA has 4.
SHARE = {"HS256": 14, "HS384": 14, "HS512": 14, "ES256": 12, "EdDSA": 12, "ES384": 4}
# Where PyJWT accepts what the gateway refuses, on purpose. On all other kinds both refuse every token.
PYJWT_ACCEPTS = {
    "critical extension": "it knows `b64` when it is true, and ignores it outside of `crit`",
    "expired or no good exp": "it reads numbers written as text, and dates after the year 9999",
    "not yet valid": "it reads numbers written as text",
    "another type of token": "it does not look at `typ`",
    "subject that is none": "it takes any text, also empty, with line ends, or 1,025 bytes long",
    "member twice": "the last one counts",
    "base64 not canonical": "it drops what does not belong, and bits at the end",
    "not a JSON object": "it reads NaN, lone surrogates and deep nesting",
    "compressed": "it ignores `zip`",
}


@pytest.fixture(scope="module")
def trusting(module_gateway, tmp_path_factory):
    """A gateway that trusts one issuer for each algorithm, and has a key of its own that the test knows."""
    folder = tmp_path_factory.mktemp("keys")
    config = base("{folder}")
    environment = {}
    for issuer in issuers():
        if issuer.name == OWN_NAME:
            private = issuer.private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            (folder / "own.pem").write_bytes(private)
            config += f"""
[tokens]
issuer = "{OWN_NAME}"
audience = ["{AUDIENCE}"]
algorithm = "ES256"
key = {{ file = "{folder}/own.pem" }}
"""
            continue
        if isinstance(issuer.public, bytes):
            environment[f"SECRET_{issuer.algorithm}"] = secret(f"issuer {issuer.algorithm}").decode()
            key = f'secret = {{ env = "SECRET_{issuer.algorithm}" }}'
        elif issuer.kid:
            write_jwks(folder / f"{issuer.algorithm}.json", public_jwk(issuer))
            key = f'keys = [{{ jwk_file = "{folder}/{issuer.algorithm}.json" }}]'
        else:
            (folder / f"{issuer.algorithm}.pem").write_bytes(public_text(issuer, serialization.Encoding.PEM))
            key = f'keys = [{{ file = "{folder}/{issuer.algorithm}.pem" }}]'
        config += f"""
[issuers.{issuer.algorithm}]
issuer = "{issuer.name}"
audiences = ["{AUDIENCE}"]
algorithms = ["{issuer.algorithm}"]
{key}
"""
    # It does not jump, so it need not be looked for at each request.
    clock = {**Clock(folder, f"{NOW - time.time():+.0f}").environment, "FAKETIME_NO_CACHE": "0"}
    return module_gateway(config, {**environment, **clock})


def public_jwk(issuer):
    jwk = signer(issuer.algorithm).to_jwk(issuer.public, as_dict=True)
    return {**jwk, "kid": issuer.kid, "alg": issuer.algorithm, "use": "sig"}


def shares():
    """Each issuer as often as its algorithm has shares."""
    return [issuer for issuer in issuers() for _ in range(SHARE.get(issuer.algorithm, 4) if issuer.name != OWN_NAME else 6)]


def good(port, seed, now, count):
    """How often (what, answer, PyJWT) came, how often each kind with each algorithm, and some tokens on which the two do not agree."""
    mint = Mint(seed, now)
    made = []

    def tokens():
        for issuer in itertools.islice(itertools.cycle(shares()), count):
            token = mint.good(issuer)
            made.append((issuer, token))
            yield token

    table, matrix = collections.Counter(), collections.Counter()
    disagreements = []
    for (status, code), (issuer, token) in zip(ask(port, tokens()), made, strict=False):
        is_good = issuer.is_good(token)
        table[shown(issuer), f"{status} {code}".strip(), is_good] += 1
        matrix["good", shown(issuer)] += 1
        if (status, is_good) != (200, True):
            disagreements.append(("good", f"{status} {code}", is_good, token))
    return table, matrix, disagreements[:5]


def shown(issuer):
    return issuer.algorithm if issuer.name != OWN_NAME else "own ES256"


def forged(port, seed, now, count):
    mint = Mint(seed, now)
    made = []

    def tokens():
        weighted = shares()
        for kind in itertools.islice(itertools.cycle(KINDS), count):
            issuer = mint.random.choice(weighted)
            token = mint.forged(kind, issuer)
            made.append((kind, issuer, token))
            yield token

    table, matrix = collections.Counter(), collections.Counter()
    disagreements = []
    for (status, code), (kind, issuer, token) in zip(ask(port, tokens()), made, strict=False):
        is_good = issuer.is_good(token)
        table[kind, f"{status} {code}".strip(), is_good] += 1
        matrix[kind, shown(issuer)] += 1
        if status != 401 or not code.startswith("token_") or is_good and kind not in PYJWT_ACCEPTS:
            disagreements.append((kind, f"{status} {code}", is_good, token))
    return table, matrix, disagreements[:5]


def run(work, port):
    """Two processes, each with half of the tokens and a seed of its own."""
    if TOKENS != WHOLE:
        warnings.warn(f"{TOKENS:,} tokens instead of {WHOLE:,}, as TOLLGATE_TEST_TOKENS says", stacklevel=1)
    halves = [(port, SEED + number, NOW, TOKENS // 2) for number in range(2)]
    with pyjwt_at(NOW), multiprocessing.get_context("fork").Pool(2) as pool:
        results = pool.starmap(work, halves)
    table, matrix, disagreements = collections.Counter(), collections.Counter(), []
    for counts, cells, tokens in results:
        table += counts
        matrix += cells
        disagreements += tokens
    return table, matrix, disagreements


def assert_every_cell(matrix, kinds):
    """Every kind was tried with every algorithm, and with the gateway's own tokens."""
    algorithms = [*ALGORITHMS, "own ES256"]
    cells = {(kind, algorithm): matrix[kind, algorithm] for kind in kinds for algorithm in algorithms}
    fewest = min(cells, key=cells.get)
    print(f"{sum(cells.values()):,} tokens: {len(kinds)} kinds x {len(algorithms)} issuers, at least {cells[fewest]} of each ({fewest[0]}, {fewest[1]})")
    assert set(matrix) == set(cells) and cells[fewest] >= max(1, TOKENS // len(kinds) // 50), (fewest, cells[fewest])


def rows(table):
    """What, count, accepted by the gateway, accepted by PyJWT, the answers."""
    for what in dict.fromkeys(what for what, _, _ in table):
        mine = {(answer, is_good): count for (found, answer, is_good), count in table.items() if found == what}
        accepted = sum(count for (answer, _), count in mine.items() if answer.startswith("200"))
        by_pyjwt = sum(count for (_, is_good), count in mine.items() if is_good)
        yield what, sum(mine.values()), accepted, by_pyjwt, " ".join(sorted({answer for answer, _ in mine}))


def show(title, table):
    print(f"\n{title:<30} {'tokens':>7} {'accepted':>9} {'by PyJWT':>9}  answers")
    for what, count, accepted, by_pyjwt, answers in rows(table):
        print(f"{what:<30} {count:>7} {accepted:>9} {by_pyjwt:>9}  {answers}")
    totals = [sum(row[column] for row in rows(table)) for column in (1, 2, 3)]
    print(f"{'all':<30} {totals[0]:>7} {totals[1]:>9} {totals[2]:>9}")
    return totals


def test_every_good_token_is_accepted_and_pyjwt_agrees(trusting):
    table, matrix, disagreements = run(good, trusting.port)
    totals = show("good, by algorithm", table)
    assert not disagreements, disagreements
    assert totals == [TOKENS, TOKENS, TOKENS]
    assert_every_cell(matrix, ["good"])


def test_no_forged_token_is_accepted_and_pyjwt_agrees(trusting):
    table, matrix, disagreements = run(forged, trusting.port)
    totals = show("forged, by kind", table)
    assert not disagreements, disagreements
    assert totals[:2] == [TOKENS, 0]
    assert len(KINDS) >= 20
    assert_every_cell(matrix, KINDS)
    for kind, count, _, by_pyjwt, _ in rows(table):
        assert count >= TOKENS // len(KINDS) - 2
        assert (by_pyjwt > 0) == (kind in PYJWT_ACCEPTS), f"{kind}: PyJWT accepts {by_pyjwt}"
