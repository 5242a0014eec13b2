"""M6: MongoDB with passwords and with TLS: what is right works, what is wrong is an outage that the log explains without
the password."""

import time

import pytest

from support.certificates import Authority
from support.config import IMPATIENT, base, route, upstream
from support.databases import Standalone
from support.http import assert_refused, log_in, send, send_json
from support.people import PASSWORD, hashes
from support.processes import eventually, tollgate
from support.relay import Relay

SECRET = "canary%2Fof-the-database"
LOGIN_BOUND = 2.5
READS = [{"role": "readWrite", "db": "people"}]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A mongod that asks for a password, with the user `gate`."""
    server = Standalone(tmp_path_factory.mktemp("guarded"), "--auth")
    with server.client() as client:  # The first user may be made by anybody on this machine.
        client.admin.command("createUser", "root", pwd="root", roles=["root"])
    server.connection = {"username": "root", "password": "root"}
    with server.client() as client:
        client.people.command("createUser", "gate", pwd=SECRET.replace("%2F", "/"), roles=READS)
        client.people.users.insert_one({"username": "alice", "password": hashes.hash(PASSWORD)})
    yield server
    server.stop()


@pytest.fixture
def signing_key(tmp_path):
    """A key in a file, with which a gateway starts although it cannot use its database."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = tmp_path / "signing.pem"
    file.write_bytes(pem)
    file.chmod(0o600)
    return f'\n[tokens]\nkey = {{ file = "{file}" }}\n'


def public(echo):
    return upstream("app", echo.url) + route("/{*rest}", "app", 'auth = "public"')


def outage(server, *reasons):
    """A login is refused in time, and the log says why; requests are forwarded."""
    began = time.monotonic()
    answer = send_json(server.port, "/auth/login", {"username": "alice", "password": PASSWORD})
    seconds = time.monotonic() - began
    problem = assert_refused(answer, 503, "store_unavailable")
    assert int(answer.header("Retry-After")) >= 1 and seconds < LOGIN_BOUND, f"refused after {seconds:.2f} s"
    assert send(server.port, "GET", "/echo/a").status == 200

    def logged():
        lines = [line for line in server.log() if line.get("request.id") == problem["request_id"]]
        return [line for line in lines if line["message"] == "Request failed"]

    (line,) = eventually("the cause in the log", logged)
    assert (line["level"], line["refusal.code"]) == ("WARN", "store_unavailable")
    assert any(reason in line["error"] for reason in reasons), line["error"]


def no_secret(server):
    written = server.log_file.read_text() + server.access_file.read_text()
    for secret in (SECRET, SECRET.replace("%2F", "/"), "canary"):
        assert secret not in written


def test_a_wrong_password_of_the_database_is_an_outage_that_the_log_explains(guarded, gateway, echo, signing_key, tmp_path):
    uri = guarded.uri("people", credentials=f"gate:wrong-{SECRET}@")
    server = gateway(base("{folder}", uri) + IMPATIENT + signing_key + public(echo))
    outage(server, "does not accept the credentials")
    no_secret(server)
    file = tmp_path / "wrong.toml"
    file.write_text(base(tmp_path, uri))
    for command in (["user", "list"], ["run"]):
        done = tollgate(*command, "-c", file)
        assert done.returncode == 1
        told = done.stdout + done.stderr
        assert "does not accept the credentials" in told, told
        # The command line warns of a password inside the file, and does not repeat it.
        assert "canary" not in told, told


def test_rights_and_passwords_that_are_taken_away_are_an_outage_until_they_are_back(guarded, gateway, echo):
    relay = Relay(guarded.port)
    try:
        uri = guarded.uri("people", credentials=f"gate:{SECRET}@", port=relay.port)
        server = gateway(base("{folder}", uri) + IMPATIENT + public(echo))
        assert log_in(server.port, "alice", PASSWORD)
        with guarded.client() as client:
            client.people.command("revokeRolesFromUser", "gate", roles=READS)
            outage(server, "13 Unauthorized")
            client.people.command("grantRolesToUser", "gate", roles=READS)
            assert log_in(server.port, "alice", PASSWORD)

            client.people.command("updateUser", "gate", pwd="another")
            relay.cut()
            outage(server, "does not accept the credentials", "connection")
            outage(server, "does not accept the credentials")
            client.people.command("updateUser", "gate", pwd=SECRET.replace("%2F", "/"))
            began = time.monotonic()
            eventually("a login", lambda: send_json(server.port, "/auth/login", {"username": "alice", "password": PASSWORD}).status == 200, 5)
            print(f"logins were back after {time.monotonic() - began:.2f} s")
        no_secret(server)
    finally:
        relay.stop()


@pytest.fixture(scope="module")
def authorities(tmp_path_factory):
    folder = tmp_path_factory.mktemp("authorities")
    return Authority(folder, "ours"), Authority(folder, "theirs")


def tls(certificate):
    return ("--tlsMode", "requireTLS", "--tlsCertificateKeyFile", str(certificate))


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory, authorities):
    """A mongod that speaks TLS only, with a certificate of our authority."""
    ours, _ = authorities
    trusting = {"tls": True, "tlsCAFile": str(ours.file), "tlsAllowInvalidCertificates": True}
    server = Standalone(tmp_path_factory.mktemp("encrypted"), *tls(ours.server()), **trusting)
    with server.client() as client:
        client.people.users.insert_one({"username": "alice", "password": hashes.hash(PASSWORD)})
    yield server
    server.stop()


def test_a_database_behind_tls_serves_and_another_certificate_at_run_time_is_an_outage(
    encrypted, authorities, gateway, echo
):
    ours, theirs = authorities
    uri = encrypted.uri("people", f"?tls=true&tlsCAFile={ours.file}")
    server = gateway(base("{folder}", uri) + IMPATIENT + public(echo))
    assert log_in(server.port, "alice", PASSWORD)
    for certificate in (theirs.server(), ours.server("other.example.org")):
        encrypted.kill()
        encrypted.start(*tls(certificate))
        outage(server, "certificate")
    encrypted.kill()
    encrypted.start(*tls(ours.server()))
    right = {"username": "alice", "password": PASSWORD}
    eventually("a login", lambda: send_json(server.port, "/auth/login", right).status == 200, 5)


@pytest.mark.parametrize(
    "options, reason",
    [
        ("?tls=true&tlsCAFile={theirs}", "certificate"),
        ("?tls=true", "certificate"),
        ("", "no suitable server"),
    ],
)
def test_a_server_that_is_not_to_be_trusted_gets_no_login(options, reason, encrypted, authorities, gateway, echo, signing_key):
    _, theirs = authorities
    uri = encrypted.uri("people", options.format(theirs=theirs.file))
    server = gateway(base("{folder}", uri) + IMPATIENT + signing_key + public(echo))
    outage(server, reason)
