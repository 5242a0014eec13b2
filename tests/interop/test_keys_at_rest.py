"""Private keys in the store: nobody who gets a copy of the database can sign with it, and nobody who loses the encryption key gets
another signing key without being told."""

import base64
import contextlib
import json
import sqlite3
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives import serialization

from support.config import base
from support.databases import Standalone
from support.http import bearer, log_in, send
from support.people import PASSWORD
from support.processes import eventually, tollgate

ENCRYPTED = '\nencryption_key = { file = "encryption.key" }\n'
PREVIOUS = '\nencryption_key = { env = "NEW_KEY" }\nprevious_encryption_keys = [{ file = "encryption.key" }]\n'
WARNING = "Private keys stand in the store unencrypted"


@pytest.fixture(params=["sqlite", "mongodb"])
def vault(request, tmp_path):
    """A store, and what a thief of it would have."""
    if request.param == "sqlite":
        return Sqlite(tmp_path)
    database = request.getfixturevalue("database")
    return Mongo(request.getfixturevalue("mongod").uri(database.name), database)


class Sqlite:
    def __init__(self, folder):
        self.file = folder / "store.db"
        self.url = f"sqlite://{self.file}"

    def run(self, sql, *values):
        # Closed before anybody reads the file as a file, which ends the locks that SQLite has on it in this process.
        with contextlib.closing(sqlite3.connect(self.file)) as database:
            rows = database.execute(sql, values).fetchall()
            database.commit()
            return rows

    def material(self):
        return dict(self.run("SELECT kid, material FROM keys WHERE algorithm NOT LIKE 'tollgate-%'"))

    def all_material(self):
        return [material for (material,) in self.run("SELECT material FROM keys")]

    def set_material(self, kid, material):
        self.run("UPDATE keys SET material = ? WHERE kid = ?", material, kid)

    def dump(self):
        """Every byte of the database, of its write-ahead file and of its index."""
        return b"".join(part.read_bytes() for part in sorted(self.file.parent.glob("store.db*")))


class Mongo:
    def __init__(self, url, database):
        self.url, self.database = url, database

    def material(self):
        signing = {"algorithm": {"$not": {"$regex": "^tollgate-"}}}
        return {key["kid"]: key["material"] for key in self.database.tollgate_keys.find(signing)}

    def all_material(self):
        return [key["material"] for key in self.database.tollgate_keys.find()]

    def set_material(self, kid, material):
        self.database.tollgate_keys.update_one({"kid": kid}, {"$set": {"material": material}})

    def dump(self):
        names = self.database.list_collection_names()
        return "".join(str(document) for name in names for document in self.database[name].find()).encode()


class World:
    """A gateway and the commands on one store, with changing lines of `[store]`."""

    def __init__(self, folder, vault, gateway):
        self.folder, self.vault, self.start = folder, vault, gateway
        self.environment = {}
        made = tollgate("key", "generate", "--encryption", "--out", folder / "encryption.key")
        assert made.returncode == 0 and made.stdout == "" and (folder / "encryption.key").stat().st_mode & 0o777 == 0o600
        self.secret = (folder / "encryption.key").read_text().strip()
        assert len(base64.b64decode(self.secret)) == 32 and self.secret not in made.stderr

    def config(self, lines):
        file = str(self.folder / "encryption.key")
        config = base(self.folder, self.vault.url).replace("\n[login]", lines + "\n[login]")
        return config.replace("encryption.key", file)

    def run(self, lines):
        return self.start(self.config(lines), self.environment)

    def refused(self, lines):
        """What the gateway says when it does not start."""
        config = self.folder / "refused.toml"
        config.write_text(self.config(lines))
        done = tollgate("run", "-c", config, environment=self.environment)
        assert done.returncode == 1, done
        return done.stderr

    def command(self, lines, *words, stdin=""):
        config = self.folder / "command.toml"
        config.write_text(self.config(lines))
        done = tollgate(*words, "-c", config, environment=self.environment, stdin=stdin)
        assert done.returncode == 0, done
        return done


@pytest.fixture
def world(tmp_path, vault, gateway):
    return World(tmp_path, vault, gateway)


def send_form(port, target, fields):
    return send(port, "POST", target, {"Content-Type": "application/x-www-form-urlencoded"}, urlencode(fields).encode())


def parts(pem):
    """The text of a private key in pieces, and the number itself: none of it may be anywhere."""
    lines = [line for line in pem.splitlines() if line and "-----" not in line]
    key = serialization.load_pem_private_key(pem.encode(), None)
    number = key.private_numbers().private_value.to_bytes(32, "big")
    pieces = [line[start : start + 24] for line in lines for start in range(0, len(line) - 23, 12)]
    return [*(piece.encode() for piece in pieces[2:-2]), number, base64.b64encode(number)[:-4]]


def test_keys_in_the_clear_are_encrypted_and_nothing_of_them_stays(world):
    vault = world.vault
    server = world.run("")
    assert any(line["level"] == "WARN" and WARNING in line["message"] for line in server.log())
    world.command("", "user", "add", "alice", "--password-stdin", stdin=f"{PASSWORD}\n")
    token = log_in(server.port, "alice", PASSWORD)
    ((kid, pem),) = vault.material().items()
    assert json.loads(world.command("", "key", "list", "--json").stdout)[0]["encrypted"] is False
    search = lambda: [part for part in parts(pem) if part in vault.dump()]
    assert "PRIVATE KEY" in pem and search(), "the search finds it"
    (refresh,) = set(vault.all_material()) - {pem}
    assert refresh.encode() in vault.dump()
    server.stop()

    server = world.run(ENCRYPTED)
    assert not any(WARNING in line["message"] for line in server.log())
    ((same, sealed),) = vault.material().items()
    assert same == kid and sealed.startswith("tollgate-sealed:1:") and search() == []
    assert send(server.port, "GET", "/auth/me", bearer(token)).status == 200, "the key is the same"
    assert json.loads(world.command(ENCRYPTED, "key", "list", "--json").stdout)[0]["encrypted"] is True
    # A further key, made while it runs, is never in the clear.
    new = world.command(ENCRYPTED, "key", "rotate").stdout.strip()
    assert set(vault.material()) == {kid, new}
    assert len(vault.all_material()) == 3, "two that sign, and the one behind refresh tokens"
    assert all(material.startswith("tollgate-sealed:1:") for material in vault.all_material())
    assert refresh and refresh.encode() not in vault.dump()
    assert b"PRIVATE KEY" not in vault.dump() and world.secret.encode() not in vault.dump()
    shown = world.command(ENCRYPTED, "config", "show").stdout
    assert "encryption_key" in shown and world.secret not in shown
    assert world.secret not in server.log_file.read_text()


def test_without_the_right_encryption_key_it_does_not_start_and_makes_no_other_key(world):
    server = world.run(ENCRYPTED)
    server.stop()
    before = world.vault.material()
    other = tollgate("key", "generate", "--encryption").stdout.strip()
    world.environment = {"NEW_KEY": other}

    assert "`store.encryption_key` is not set; set it to that key" in world.refused("")
    told = world.refused('\nencryption_key = { env = "NEW_KEY" }\n')
    assert "set it to the former key, or add that to `store.previous_encryption_keys`" in told
    # Another algorithm would need a new key; none is made while there are some that cannot be read.
    algorithm = world.config("") + '\n[tokens]\nalgorithm = "EdDSA"\n'
    (world.folder / "other.toml").write_text(algorithm)
    assert tollgate("run", "-c", world.folder / "other.toml").returncode == 1
    ((kid, sealed),) = before.items()
    listed = json.loads(world.command("", "key", "list", "--json").stdout)
    assert listed[0]["state"] == "unusable" and "encrypted" in listed[0]["problem"]

    for wrong in ("", "password", base64.b64encode(b"x" * 31).decode(), world.secret + "=", "A" * 44):
        world.environment = {"NEW_KEY": wrong}
        assert "store.encryption_key" in world.refused('\nencryption_key = { env = "NEW_KEY" }\n')
    assert f"'{other}'" not in told and other not in told

    # A sealed key opens in its own place, as it was, and nowhere else.
    for damaged in (sealed[:-8] + "AAAAAAA=", sealed.replace(":1:", ":2:"), sealed[:30]):
        world.vault.set_material(kid, damaged)
        assert kid in world.refused(ENCRYPTED)
    world.vault.set_material(kid, sealed)
    assert world.vault.material() == before
    world.run(ENCRYPTED)


def test_the_encryption_key_is_replaced_while_a_fleet_serves(world):
    vault = world.vault
    first = world.run(ENCRYPTED)
    world.command(ENCRYPTED, "user", "add", "alice", "--password-stdin", stdin=f"{PASSWORD}\n")
    token = log_in(first.port, "alice", PASSWORD)
    ((kid, former),) = vault.material().items()
    world.environment = {"NEW_KEY": tollgate("key", "generate", "--encryption").stdout.strip()}
    second = world.run(PREVIOUS)
    ((same, sealed),) = vault.material().items()
    assert same == kid and sealed != former
    for server in (first, second):
        assert send(server.port, "GET", "/auth/me", bearer(token)).status == 200
        log_in(server.port, "alice", PASSWORD)
    # From now on the former key is needed no more.
    for server in (first, second):
        server.stop()
    third = world.run('\nencryption_key = { env = "NEW_KEY" }\n')
    assert send(third.port, "GET", "/auth/me", bearer(token)).status == 200


def test_the_key_behind_refresh_tokens_is_encrypted_also_where_the_file_names_the_signing_key(world):
    made = tollgate("key", "generate", "--out", world.folder / "sign.pem")
    assert made.returncode == 0
    tokens = f'\n[tokens]\nkey = {{ file = "{world.folder / "sign.pem"}" }}\n[login]'
    configured = world.config
    world.config = lambda lines: configured(lines).replace("\n[login]", tokens)
    world.environment = {"NEW_KEY": tollgate("key", "generate", "--encryption").stdout.strip()}

    server = world.run("")
    assert any(WARNING in line["message"] for line in server.log())
    (plain,) = world.vault.all_material()
    world.command("", "user", "add", "alice", "--password-stdin", stdin=f"{PASSWORD}\n")
    server.stop()
    sealed = []
    for lines in (ENCRYPTED, PREVIOUS, '\nencryption_key = { env = "NEW_KEY" }\n'):
        server = world.run(lines)
        log_in(server.port, "alice", PASSWORD)
        assert not any(WARNING in line["message"] for line in server.log())
        server.stop()
        assert plain.encode() not in world.vault.dump()
        sealed += world.vault.all_material()
    assert all(material.startswith("tollgate-sealed:1:") for material in sealed)
    assert sealed[0] != sealed[1] == sealed[2], "sealed anew with the new key, which is then enough"


@pytest.mark.parametrize("is_in_file", [False, True], ids=["stored", "in_file"])
def test_the_key_behind_refresh_tokens_is_replaced_as_when_its_encryption_key_is_stolen(gateway, tmp_path, is_in_file):
    config = base(tmp_path)
    if is_in_file:
        assert tollgate("key", "generate", "--out", tmp_path / "sign.pem").returncode == 0
        config = config.replace("[login]", f'[tokens]\nkey = {{ file = "{tmp_path / "sign.pem"}" }}\n[login]')
    vault = Sqlite(tmp_path)
    vault.file = tmp_path / "tollgate.db"
    server = gateway(config)
    assert tollgate("user", "add", "alice", "--password-stdin", "-c", server.config, stdin=PASSWORD).returncode == 0
    credentials = {"grant_type": "password", "username": "alice", "password": PASSWORD}
    refresh = send_form(server.port, "/auth/token", credentials).json()["refresh_token"]
    (former,) = vault.run("SELECT material FROM keys WHERE algorithm = 'tollgate-refresh'")
    signing = send(server.port, "GET", "/.well-known/jwks.json").json()
    told = tollgate("key", "retire", "refresh", "-c", server.config)
    assert told.returncode == 1 and "ends all sessions" in told.stderr, told
    done = tollgate("key", "retire", "refresh", "--now", "-c", server.config)
    assert done.returncode == 0 and "restart all gateways now" in done.stderr, done
    server.stop()
    server = gateway(config)
    (new,) = vault.run("SELECT material FROM keys WHERE algorithm = 'tollgate-refresh'")
    assert new != former and send(server.port, "GET", "/.well-known/jwks.json").json() == signing
    refused = send_form(server.port, "/auth/token", {"grant_type": "refresh_token", "refresh_token": refresh})
    assert refused.status == 400 and refused.json()["error"] == "invalid_grant", refused
    assert log_in(server.port, "alice", PASSWORD)


def test_a_key_that_cannot_be_opened_when_the_store_comes_back_is_told(gateway, tmp_path):
    server = Standalone(tmp_path / "mongod")
    try:
        for name, words in (("sign.pem", ()), ("one.key", ("--encryption",)), ("other.key", ("--encryption",))):
            assert tollgate("key", "generate", *words, "--out", tmp_path / name).returncode == 0
        store = f'\nencryption_key = {{ file = "{tmp_path / "one.key"}" }}\n[tokens]\nkey = {{ file = "{tmp_path / "sign.pem"}" }}\n[login]'
        config = base(tmp_path, server.uri("late")).replace("\n[login]", store)
        gateway(config).stop()
        server.kill()
        # With its signing key in the file it starts without the store.
        late = gateway(config.replace("one.key", "other.key"))
        server.start()
        said = lambda: [line for line in late.log() if line["message"].startswith("Key of refresh tokens cannot be used")]
        (line,) = eventually("the reason", said)
        assert line["level"] == "ERROR" and "`store.previous_encryption_keys`" in line["error"], line
    finally:
        server.stop()


def test_a_sqlite_file_of_before_is_taken_over(gateway, tmp_path):
    """Layout 1, as the versions before wrote it."""
    file = tmp_path / "tollgate.db"
    made = tollgate("key", "generate")
    kid = made.stderr.split("`")[1]
    server = gateway(base(tmp_path))
    server.stop()
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as database:
        for column in ("active_from", "retired_at", "needed_until"):
            database.execute(f"ALTER TABLE keys DROP COLUMN {column}")
        for (later,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            if later not in ("accounts", "grants", "keys"):
                database.execute(f"DROP TABLE {later}")
        database.execute("DELETE FROM keys WHERE algorithm <> 'ES256'")
        database.execute("UPDATE keys SET kid = ?, material = ?, created_at = 1700000000", (kid, made.stdout))
        database.execute("PRAGMA user_version = 1")
    server = gateway(base(tmp_path))
    published = send(server.port, "GET", "/.well-known/jwks.json").json()["keys"]
    assert [key["kid"] for key in published] == [kid]
