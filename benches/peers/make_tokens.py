"""Makes the keys and tokens of one run with PyJWT: `make_tokens.py FOLDER COUNT`, run inside the venv.

For each of HS256, RS256 and ES256: `<ALG>.tokens`, COUNT different tokens, one a line, that share a key and carry the
same claims; `<ALG>.pem`, the public key (for HS256 `HS256.secret`); for RS256 also `RS256.jwks`; and two tokens that
must be refused, `<ALG>.expired` and `<ALG>.tampered`.
"""

import json
import pathlib
import secrets
import sys
import time
import uuid

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

ISSUER = "https://bench.example.org"
AUDIENCE = "bench"
LIFETIME_SECONDS = 12 * 3600


def claims(number: int, now: int) -> dict:
    """What person `number` carries: the three identity claims, and what a strict verifier requires."""
    return {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": f"user-{number:06}",
        "email": f"user-{number:06}@example.org",
        "scope": "read:data write:data",
        "iat": now,
        "exp": now + LIFETIME_SECONDS,
        "jti": str(uuid.uuid4()),
    }


def main(folder: pathlib.Path, count: int) -> None:
    """Writes all files into `folder`."""
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    ec_key = ec.generate_private_key(ec.SECP256R1())
    secret = secrets.token_hex(32)
    (folder / "HS256.secret").write_text(secret)
    for algorithm, key in (("RS256", rsa_key), ("ES256", ec_key)):
        (folder / f"{algorithm}.pem").write_bytes(
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
    jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key.public_key()))
    jwk.update({"kid": "bench", "alg": "RS256", "use": "sig"})
    (folder / "RS256.jwks").write_text(json.dumps({"keys": [jwk]}))

    now = int(time.time())
    for algorithm, key in (("HS256", secret), ("RS256", rsa_key), ("ES256", ec_key)):
        tokens = [jwt.encode(claims(number, now), key, algorithm) for number in range(count)]
        (folder / f"{algorithm}.tokens").write_text("".join(token + "\n" for token in tokens))
        # Refused by every verifier: one an hour too old, and one whose payload is not what was signed.
        (folder / f"{algorithm}.expired").write_text(
            jwt.encode(claims(0, now - LIFETIME_SECONDS - 3600), key, algorithm)
        )
        header, _, signature = tokens[0].split(".")
        other_payload = jwt.encode(claims(1, now), key, algorithm).split(".")[1]
        (folder / f"{algorithm}.tampered").write_text(f"{header}.{other_payload}.{signature}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
