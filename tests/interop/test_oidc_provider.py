"""A real foreign issuer, the npm package oidc-provider: found by discovery, and through a change of its keys."""

import base64
import json
import os
import shutil
import subprocess
import urllib.parse

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from support.config import base
from support.http import bearer, send
from support.processes import INTEROP, ROOT, eventually, free_port


class OidcProvider:
    """The package in a process of its own; the first key signs."""

    def __init__(self, port: int, *keys: dict):
        folder = os.environ.get("TOLLGATE_TEST_OIDC_PROVIDER") or ROOT / ".cache" / "oidc-provider"
        program = shutil.which("node")
        assert program, "no node: scripts/test says which one is needed"
        self.port = port
        self.process = subprocess.Popen(
            [program, INTEROP / "support" / "oidc_provider.mjs", folder, json.dumps({"port": port, "keys": keys})],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        started = self.process.stdout.readline()
        assert started == "listening\n", "oidc-provider did not start: is it in .cache/oidc-provider? scripts/test installs it"

    def token(self) -> str:
        """An access token of the client itself (RFC 6749 section 4.4) for one resource (RFC 8707)."""
        form = {"grant_type": "client_credentials", "resource": "https://science.example.org", "scope": "read"}
        basic = base64.b64encode(b"robot:only-the-robot-knows").decode()
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": f"Basic {basic}"}
        body = urllib.parse.urlencode(form).encode()
        found = send(self.port, "POST", "/token", headers, body, host=f"127.0.0.1:{self.port}")
        assert found.status == 200, found
        return found.json()["access_token"]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        self.process.stdout.close()


def private_jwk(kid: str) -> dict:
    key = ec.generate_private_key(ec.SECP256R1())
    return {**jwt.get_algorithm_by_name("ES256").to_jwk(key, as_dict=True), "kid": kid, "alg": "ES256", "use": "sig"}


def test_tokens_of_oidc_provider_serve_before_during_and_after_a_change_of_its_keys(gateway):
    port = free_port()
    old, new = private_jwk("old"), private_jwk("new")
    provider = OidcProvider(port, old)
    try:
        server = gateway(
            base("{folder}")
            + f"""
[issuers.sso]
issuer = "http://127.0.0.1:{port}"
audiences = ["science"]
algorithms = ["ES256"]
discovery = true
jwks_refresh = "2s"
"""
        )
        me = lambda text: send(server.port, "GET", "/auth/me", bearer(text))
        eventually("readiness", lambda: send(server.admin_port, "GET", "/readyz").body == b"ok\n")
        first = provider.token()
        found = me(first)
        assert found.status == 200 and found.json()["sub"] == "robot" and found.json()["scopes"] == ["read"], found

        provider.stop()
        assert me(first).status == 200, "tokens depend on the issuer being up"
        provider = OidcProvider(port, new, old)
        second = provider.token()
        assert jwt.get_unverified_header(second)["kid"] == "new"
        assert me(second).status == 200, "a new key does not serve at once"
        assert me(first).status == 200

        provider.stop()
        provider = OidcProvider(port, new)
        eventually("the end of the old key", lambda: me(first).status == 401)
        assert me(first).json()["code"] == "token_key_unknown"
        assert me(second).status == me(provider.token()).status == 200
    finally:
        provider.stop()
