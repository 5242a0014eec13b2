"""Plays the issuers: `mint.py keys`, `mint.py sso SUBJECT [--role R] [--audience A]`, `mint.py old-application SUBJECT`.

`mint.py forged SUBJECT` signs in the name of the sign-on with the old application's secret.
"""

import argparse
import os
import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

SSO = "https://sso.example.org/realms/lab"


def make_keys() -> None:
    """An RSA pair, as many sign-ons have. The private half never comes near the gateway."""
    folder = Path("keys")
    folder.mkdir(exist_ok=True)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pkcs8, spki = serialization.PrivateFormat.PKCS8, serialization.PublicFormat.SubjectPublicKeyInfo
    private = folder / "sso.private.pem"
    private.touch(mode=0o600)
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, serialization.NoEncryption()))
    public = folder / "sso.public.pem"
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, spki))
    print(f"{private} and {public} written")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("issuer", choices=["keys", "sso", "old-application", "forged"])
    parser.add_argument("subject", nargs="?", default="")
    parser.add_argument("--role", action="append", default=[])
    parser.add_argument("--audience", default="observatory")
    arguments = parser.parse_args()
    if arguments.issuer == "keys":
        return make_keys()
    now = int(time.time())
    claims = {"sub": arguments.subject, "aud": arguments.audience, "iat": now, "exp": now + 600}
    secret = os.environ["OLD_APPLICATION_SECRET"]
    if arguments.issuer == "old-application":
        print(jwt.encode({**claims, "iss": "old-application"}, secret, "HS256"))
        return
    # As Keycloak does it: roles in an object, scopes in one text.
    claims |= {"iss": SSO, "realm_access": {"roles": arguments.role}, "scope": "read:observations"}
    if arguments.issuer == "sso":
        print(jwt.encode(claims, Path("keys/sso.private.pem").read_bytes(), "RS256"))
    else:
        print(jwt.encode(claims, secret, "HS256"))


main()
