"""Keys for PyJWT, and files that the gateway reads their public half from."""

import json

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()

PRIVATE = {
    **dict.fromkeys(["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"], RSA),
    "ES256": P256,
    "ES384": P384,
    "EdDSA": ED25519,
}


def public_pem(algorithm):
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    return PRIVATE[algorithm].public_key().public_bytes(serialization.Encoding.PEM, info)


def private_pem(algorithm):
    pkcs8 = serialization.PrivateFormat.PKCS8
    return PRIVATE[algorithm].private_bytes(serialization.Encoding.PEM, pkcs8, serialization.NoEncryption())


def public_jwk(algorithm, kid):
    key = PRIVATE[algorithm].public_key()
    jwk = jwt.get_algorithm_by_name(algorithm).to_jwk(key, as_dict=True)
    return {**jwk, "kid": kid, "alg": algorithm, "use": "sig"}


def write_jwks(path, *keys):
    path.write_text(json.dumps({"keys": keys}))
    return path
