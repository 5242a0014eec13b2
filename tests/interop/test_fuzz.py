"""Every token that the verifier accepts of the fuzzing run is accepted by PyJWT too, with the same key and rules."""

import json
import os
import subprocess
from pathlib import Path

import jwt

from support.clock import pyjwt_at

PROJECT = Path(__file__).parents[2]
TEST = "accepted_tokens_are_told_to_whoever_judges_them"


def test_pyjwt_accepts_every_token_that_the_verifier_accepts(tmp_path: Path) -> None:
    file = tmp_path / "accepted.jsonl"
    command = ["cargo", "test", "--locked", "--test", "fuzz", "--", "--exact", TEST]
    run = subprocess.run(command, cwd=PROJECT, env={**os.environ, "TOLLGATE_ACCEPTED_TOKENS": str(file)}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    accepted = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(accepted) >= 100
    refused = []
    for case in accepted:
        key = jwt.PyJWK(case["key"], algorithm=case["algorithm"])
        # `iat` in the future is no reason to refuse (RFC 7519 gives none); PyJWT asks for it all the same.
        options = {"require": ["exp", "iss", "sub", "aud"], "verify_iat": False}
        try:
            with pyjwt_at(case["now"]):
                jwt.decode(
                    case["token"], key, [case["algorithm"]], options=options, audience=case["audience"], issuer=case["issuer"], leeway=30
                )
        except jwt.PyJWTError as error:
            refused.append(f"{error}: {case['token']}")
    assert not refused, "\n".join(refused)
    algorithms = {case["algorithm"] for case in accepted}
    assert algorithms == {"EdDSA", "HS256", "HS384", "HS512", "RS256", "PS256", "ES256", "ES384"}
    print(f"{len(accepted)} accepted tokens of {len(algorithms)} algorithms, all accepted by PyJWT")
