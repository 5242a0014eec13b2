"""Unmodified OAuth clients: requests-oauthlib and Authlib log in, call an API, refresh when their token is over, and revoke."""

import jwt
import pytest
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from oauthlib.oauth2 import InvalidGrantError, LegacyApplicationClient
from requests_oauthlib import OAuth2Session

from support.config import base, route, upstream
from support.people import PASSWORD
from support.processes import tollgate

USER = {"username": "alice", "password": PASSWORD}


@pytest.fixture(scope="module")
def server(module_gateway, echo):
    config = base("{folder}") + upstream("echo", echo.url) + route("/{*rest}", "echo", 'scopes = ["read"]')
    server = module_gateway(config)
    scopes = ["--scope", "read", "--scope", "write"]
    added = tollgate("user", "add", "alice", *scopes, "--password-stdin", "-c", server.config, stdin=PASSWORD)
    assert added.returncode == 0, added
    return server


@pytest.fixture(autouse=True)
def without_tls(monkeypatch):
    """The clients insist on https, but for tests on loopback."""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")


def test_requests_oauthlib_logs_in_and_refreshes(server):
    url, kept = f"{server.url}/auth/token", []
    session = OAuth2Session(
        client=LegacyApplicationClient(client_id="notebook"),
        auto_refresh_url=url,
        token_updater=kept.append,
    )
    first = dict(session.fetch_token(token_url=url, **USER))
    assert first["token_type"] == "bearer" and first["scope"] == ["read", "write"]
    assert session.get(f"{server.url}/echo/x").status_code == 200
    # As if its five minutes were over by the client's own clock.
    session.token = {**session.token, "expires_at": 1.0, "expires_in": -1}
    assert session.get(f"{server.url}/echo/x").status_code == 200
    (second,) = kept
    assert second["refresh_token"] != first["refresh_token"] and second["access_token"] != first["access_token"]
    claims = [jwt.decode(token["access_token"], options={"verify_signature": False}) for token in (first, second)]
    assert claims[0]["sid"] == claims[1]["sid"] and claims[1]["client_id"] == "notebook"
    third = session.refresh_token(url, refresh_token=second["refresh_token"])
    # Long replaced: the session ends, and the client is told so in words that it knows.
    with pytest.raises(InvalidGrantError):
        session.refresh_token(url, refresh_token=first["refresh_token"])
    with pytest.raises(InvalidGrantError):
        session.refresh_token(url, refresh_token=third["refresh_token"])


def test_authlib_logs_in_refreshes_and_revokes(server):
    url = f"{server.url}/auth/token"
    session = AuthlibSession(client_id="pipeline", token_endpoint_auth_method="none", token_endpoint=url, scope="read")
    first = session.fetch_token(url, **USER)
    assert first["scope"] == "read"
    assert session.get(f"{server.url}/echo/x").status_code == 200
    second = session.refresh_token(url, refresh_token=first["refresh_token"])
    assert second["access_token"] != first["access_token"] and second["scope"] == "read"
    assert session.get(f"{server.url}/echo/x").status_code == 200
    # By itself, when its own clock says that the token is over.
    session.token = {**second, "expires_at": 1}
    assert session.get(f"{server.url}/echo/x").status_code == 200
    third = session.token
    assert third["refresh_token"] != second["refresh_token"]
    answer = session.revoke_token(f"{server.url}/auth/revoke", token=third["refresh_token"], token_type_hint="refresh_token")
    assert answer.status_code == 200, answer.text
    with pytest.raises(OAuthError, match="invalid_grant"):
        session.refresh_token(url, refresh_token=third["refresh_token"])


def test_a_refresh_token_is_of_the_client_that_it_was_given_to(server):
    url = f"{server.url}/auth/token"
    mine = AuthlibSession(client_id="mine", token_endpoint_auth_method="none")
    token = mine.fetch_token(url, **USER)
    other = AuthlibSession(client_id="other", token_endpoint_auth_method="none")
    with pytest.raises(OAuthError, match="invalid_grant"):
        other.refresh_token(url, refresh_token=token["refresh_token"])
    assert mine.refresh_token(url, refresh_token=token["refresh_token"])["access_token"]


def test_keys_are_found_and_tokens_verified_by_pyjwt(server):
    """What a resource server does with the tokens of both grants: keys by the metadata, then PyJWT."""
    session = AuthlibSession(client_id="pipeline", token_endpoint_auth_method="none")
    url = f"{server.url}/auth/token"
    token = session.fetch_token(url, **USER)
    token = session.refresh_token(url, refresh_token=token["refresh_token"])
    key = jwt.PyJWKClient(f"{server.url}/.well-known/jwks.json").get_signing_key_from_jwt(token["access_token"])
    claims = jwt.decode(token["access_token"], key, ["ES256"], audience="tollgate", issuer="http://127.0.0.1:8080")
    assert claims["client_id"] == "pipeline" and claims["sid"]
