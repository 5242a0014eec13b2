"""C3, C5: one run with secrets of every kind planted, through successes and failures, at the most talkative level of the log."""

import base64
import json
import re

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from support.canaries import Canaries, forms
from support.config import AUDIENCE, ISSUER, base, lab_claims, route, upstream
from support.databases import Standalone
from support.http import bearer, log_in, send, send_json
from support.people import hashes
from support.processes import free_port, tollgate
from support.relay import Relay

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
# What only a stack, a driver or the inside of the network would say.
INSIDE = r"127\.0\.0\.1|localhost|panick|\.rs\b|mongo|sqlite|bson|hyper|tokio|rustls|os error|backtrace|/tmp/|Caused by|canary"


def test_the_search_finds_a_secret_in_every_form():
    canaries = Canaries()
    secret = canaries.add("it", "canary/of the+search?ä")
    for form in forms(secret):
        assert canaries.found_in(f'{{"a":"{form}"}}') == ["it"]
    for before in ("", "a", "ab", "abc"):
        text = base64.b64encode(f"{before}:{secret}:after".encode()).decode()
        assert canaries.found_in(text) == ["it"]
        assert canaries.found_in(text.replace("+", "-").replace("/", "_")) == ["it"]
    assert canaries.found_in("canary/of the+other") == []


class Run:
    """Everything that the world got to see."""

    def __init__(self, canaries):
        self.canaries, self.seen, self.refusals = canaries, [], []

    def see(self, what, text):
        self.seen.append((what, text))

    def refused(self, what, answer):
        """An answer of the gateway's own that is not a success."""
        assert answer.status >= 400, (what, answer)
        text = "\n".join(f"{name}: {value}" for name, value in answer.headers) + "\n" + answer.body.decode()
        self.see(f"the answer to {what}", text)
        self.refusals.append((what, text))

    def command(self, *arguments, status, stdin="", environment=None, prints_a_token=False):
        done = tollgate(*arguments, stdin=stdin, environment=environment)
        assert done.returncode == status, done
        self.see(f"`{' '.join(map(str, arguments[:2]))}`", done.stderr if prints_a_token else done.stdout + done.stderr)
        return done

    def process(self, server, given):
        """What others on the machine see of the process, and what it leaves in its environment."""
        self.see("its arguments", open(f"/proc/{server.process.pid}/cmdline").read())
        environment = open(f"/proc/{server.process.pid}/environ").read()
        for secret in given:
            environment = environment.replace(secret, "")
        self.see("its environment, but what it was given there", environment)
        self.see("metrics", send(server.admin_port, "GET", "/metrics").body.decode())
        self.see("health", send(server.admin_port, "GET", "/readyz").body.decode())

    def logs(self, server):
        server.stop()
        self.see("its log", server.log_file.read_text())
        self.see("its access lines", server.access_file.read_text())


@pytest.fixture
def database(tmp_path):
    server = Standalone(tmp_path / "guarded", "--auth")
    with server.client() as client:
        client.admin.command("createUser", "root", pwd="root-of-this-test", roles=["root"])
    server.connection = {"username": "root", "password": "root-of-this-test"}
    yield server
    server.stop()


def requests_of_all_kinds(run, server, canaries, own, foreign, password):
    """Successes and failures, each with a secret where a careless program would repeat it."""
    for token in (own, foreign, own):
        assert send(server.port, "GET", "/echo/a", bearer(token)).status == 200
    assert send(server.port, "GET", "/auth/me", bearer(own)).status == 200
    assert send(server.port, "GET", "/echo/a?access_token=" + own, bearer(own)).status == 200

    head, _, signature = own.rpartition(".")
    bad = canaries.add_token("a token of which a letter was changed", head + "." + signature[::-1])
    expired = canaries.add_token("an expired token", jwt.encode(lab_claims(exp=1), canaries.secrets["issuer secret"], "HS256"))
    claims = {"canary": canaries.add("a claim", "canary-in-a-claim"), "sub": "eve"}
    strange = canaries.add_token("a token of a strange key", jwt.encode(lab_claims(**claims), "s" * 64, "HS256"))
    for what, token in [("a bad token", bad), ("an expired token", expired), ("a strange token", strange)]:
        run.refused(what, send(server.port, "GET", "/echo/a", bearer(token)))
        run.refused(f"{what} for me", send(server.port, "GET", "/auth/me", bearer(token)))
    run.refused("two tokens", send(server.port, "GET", "/echo/a", [("Authorization", f"Bearer {own}")] * 2))
    run.refused("a cut token", send(server.port, "GET", "/echo/a", bearer(own[:-20])))
    run.refused("a token of two words", send(server.port, "GET", "/echo/a", bearer(f"{own} {own}")))
    run.refused("a token in the query", send(server.port, "GET", f"/echo/a?access_token={own}"))
    run.refused("a token in a cookie", send(server.port, "GET", "/echo/a", {"Cookie": f"token={own}"}))
    run.refused("a token by Basic", send(server.port, "GET", "/echo/a", {"Authorization": f"Basic {own}"}))
    run.refused("a scope that is missing", send(server.port, "GET", "/closed/a", bearer(own)))
    run.refused("a method", send(server.port, "TRACE", "/echo/a", bearer(own)))
    run.refused("a path", send(server.port, "GET", "/echo/../a", bearer(own)))
    run.refused("a large body", send(server.port, "POST", "/small/a", bearer(own), (password * 100).encode()))
    run.refused("a dead upstream", send(server.port, "GET", "/dead/a", bearer(own)))
    run.refused("a header that is none", send(server.port, "GET", "/echo/a", {**bearer(own), "X\x01": own}))
    run.refused("a large head", send(server.port, "GET", "/echo/a", [("X-Token", own)] * 150))

    wrong = canaries.add("a wrong password", "canary-wrong/pass word+1")
    quoted = "".join(f"%{byte:02x}" for byte in wrong.encode())
    login = lambda value: send_json(server.port, "/auth/login", value)
    form = lambda path, text, more=(): send(server.port, "POST", path, {**FORM, **dict(more)}, text.encode())
    run.refused("a wrong password", login({"username": "alice", "password": wrong}))
    run.refused("nobody's password", login({"username": "nobody", "password": wrong}))
    run.refused("a password for a name", login({"username": wrong * 60, "password": password}))
    run.refused("a broken JSON", send(server.port, "POST", "/auth/login", {"Content-Type": "application/json"}, b'{"password":"' + wrong.encode()))
    run.refused("JSON of a wrong type", login({"username": "alice", "password": [wrong]}))
    run.refused("a password twice", form("/auth/login", f"username=alice&password={quoted}&password={quoted}"))
    run.refused("a password in the query", send(server.port, "POST", f"/auth/login?password={quoted}", FORM, b""))
    run.refused("a client secret", form("/auth/token", f"grant_type=password&username=alice&password={quoted}&client_secret={quoted}"))
    basic = base64.b64encode(f"client:{wrong}".encode()).decode()
    run.refused("a Basic secret", form("/auth/token", "grant_type=password&username=a&password=b", {"Authorization": f"Basic {basic}"}.items()))
    run.refused("a wrong grant", form("/auth/token", f"grant_type={quoted}&username=alice&password={quoted}"))
    run.refused("a scope of a login", form("/auth/token", f"grant_type=password&username=alice&password={password}&scope={quoted}"))
    run.refused("another content type", send(server.port, "POST", "/auth/login", {"Content-Type": f"text/{wrong[:12]}"}, wrong.encode()))


def refresh_token(run, what, answer):
    """The one in the cookie that was set, noted as a secret: the whole, and the MAC that makes it one."""
    assert answer.status == 200, answer
    (cookie,) = answer.all("Set-Cookie")
    token = re.fullmatch(r"tollgate_refresh=([^;]{71}); .*", cookie)[1]
    run.canaries.add(what, token)
    run.canaries.add(f"{what}, its MAC", token[28:])
    return token


def sessions_of_all_kinds(run, server, canaries, password):
    """Logins that go on by a cookie or by the token in a body, end, and are tried again; gives the tokens of one that lives."""
    cookie = lambda token: {"Cookie": f"a=1; tollgate_refresh={token}; b=2"}
    page = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    post = lambda path, headers, value=None: send_json(server.port, path, value or {}, headers)

    login = send_json(server.port, "/auth/login", {"username": "alice", "password": password})
    first = refresh_token(run, "a refresh token", login)
    access = canaries.add_token("the token of a session", login.json()["access_token"])
    assert send(server.port, "GET", "/echo/a", {**bearer(access), **cookie(first)}).status == 200
    refreshed = post("/auth/refresh", cookie(first))
    second = refresh_token(run, "the next refresh token", refreshed)
    newer = canaries.add_token("the next access token", refreshed.json()["access_token"])
    run.see("the sessions", send(server.port, "GET", "/auth/sessions", bearer(newer)).body.decode())

    changed = canaries.add("a changed refresh token", second[:-6] + second[:6])
    run.refused("a changed refresh token", post("/auth/refresh", cookie(changed)))
    run.refused("a changed refresh token in a body", post("/auth/refresh", {}, {"refresh_token": changed}))
    run.refused("a cookie twice", post("/auth/refresh", {"Cookie": f"tollgate_refresh={second}; tollgate_refresh={second}"}))
    run.refused("a cookie from another site", post("/auth/refresh", {**cookie(second), **page}))
    run.refused("a logout from another site", post("/auth/logout", {**cookie(second), **page}))
    run.refused("a refresh token in a broken body", send(server.port, "POST", "/auth/refresh", {"Content-Type": "application/json"}, f'{{"{second}'.encode()))
    run.refused("a refresh token of a wrong type", post("/auth/refresh", {}, {"refresh_token": [second]}))
    run.refused("a refresh token in the query", send(server.port, "POST", f"/auth/refresh?refresh_token={second}"))
    run.refused("a refresh token as a bearer", send(server.port, "GET", "/auth/me", bearer(second)))
    run.refused("a refresh token as a grant", send(server.port, "POST", "/auth/token", FORM, f"grant_type={second}".encode()))
    wrong = {"current_password": canaries.secrets["a wrong password"], "new_password": password}
    run.refused("a new password by a wrong one", post("/auth/password", bearer(newer), wrong))
    assert send(server.port, "POST", "/auth/revoke", FORM, f"token={changed}".encode()).status == 200

    granted = send(server.port, "POST", "/auth/token", FORM, f"grant_type=password&username=alice&password={password.replace('+', '%2b')}".encode())
    third = canaries.add("a refresh token of a grant", granted.json()["refresh_token"])
    canaries.add_token("an access token of a grant", granted.json()["access_token"])
    assert post("/auth/logout", cookie(second)).status in (200, 204)
    run.refused("a refresh token after its logout", post("/auth/refresh", cookie(second)))
    run.refused("an access token after its logout", send(server.port, "GET", "/auth/me", bearer(newer)))
    return third


def test_no_secret_is_seen_and_no_answer_tells_of_the_inside(database, gateway, echo, tmp_path):
    canaries = Canaries()
    run = Run(canaries)
    password = canaries.add("the password", "canary-right+password-of-alice")
    database_password = canaries.add("the database's password", "canary-of-the-mongo-uri")
    secret = canaries.add("issuer secret", "canary-issuer-secret-" + "q" * 50)
    encryption_key = canaries.add("the store's encryption key", base64.b64encode(b"canary-encrypts-keys-in-a-store.").decode())
    minting = canaries.add("the upstream's secret", "canary-minting-secret/of+an-upstream-" + "m" * 40)
    own_secret = canaries.add("HMAC secret", "canary-hmac-secret-" + "z" * 50)
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    canaries.add_pem("the signing key", pem)
    (tmp_path / "signing.pem").write_text(pem)
    (tmp_path / "hmac").write_text(own_secret)
    for name in ("signing.pem", "hmac"):
        (tmp_path / name).chmod(0o600)
    stored = canaries.add("the stored hash", hashes.hash(password))
    with database.client() as client:
        client.people.command("createUser", "gate", pwd=database_password, roles=[{"role": "readWrite", "db": "people"}])
        client.people.users.insert_one({"username": "alice", "password": stored, "scopes": "read"})

    relay = Relay(database.port)
    uri = database.uri("people", credentials=f"gate:{database_password}@", port=relay.port)
    environment = {"STORE_URL": uri, "ISSUER_SECRET": secret, "STORE_KEY": encryption_key, "UPSTREAM_SECRET": minting}
    config = base("{folder}").replace("[log]", '[log]\nlevel = "trace"')
    config = re.sub(r'url = "sqlite:.*"', 'url = { env = "STORE_URL" }', config)
    config = config.replace("[store]", '[store]\nencryption_key = { env = "STORE_KEY" }')
    config += f'[tokens]\nkey = {{ file = "{tmp_path}/signing.pem" }}\n'
    config += f'[issuers.lab]\nissuer = "{ISSUER}"\naudiences = ["{AUDIENCE}"]\nalgorithms = ["HS256"]\nsecret = {{ env = "ISSUER_SECRET" }}\n'
    config += upstream("app", echo.url) + upstream("dead", f"http://127.0.0.1:{free_port()}")
    config += route("/echo/{*rest}", "app") + route("/closed/{*rest}", "app", 'scopes = ["admin"]') + route("/dead/{*rest}", "dead")
    config += route("/small/{*rest}", "app", "max_body_bytes = 10")
    for name, url in [("minted", echo.url), ("minted-dead", f"http://127.0.0.1:{free_port()}")]:
        config += upstream(name, url) + f'[upstreams.{name}.token]\nmode = "mint"\nsecret = {{ env = "UPSTREAM_SECRET" }}\n'
        config += route(f"/{name}/{{*rest}}", name, 'rewrite = "/echo/{*rest}"')
    try:
        server = gateway(config, environment)
        own = canaries.add_token("our token", log_in(server.port, "alice", password))
        foreign = canaries.add_token("a foreign token", jwt.encode(lab_claims(), secret, "HS256"))
        requests_of_all_kinds(run, server, canaries, own, foreign, password)
        arrived = dict(send(server.port, "GET", "/minted/a", bearer(own)).json()["headers"])["authorization"]
        canaries.add_token("a minted token", arrived.removeprefix("Bearer "))
        run.refused("a minted token for nobody", send(server.port, "GET", "/minted-dead/a", bearer(own)))
        refresh = sessions_of_all_kinds(run, server, canaries, password)
        relay.switch(None)
        run.refused("a refresh without the store", send_json(server.port, "/auth/refresh", {"refresh_token": refresh}))
        run.refused("a logout without the store", send_json(server.port, "/auth/logout", {"refresh_token": refresh}))
        run.refused("a login without the store", send_json(server.port, "/auth/login", {"username": "alice", "password": password}))
        form = f"grant_type=password&username=alice&password={password}".encode()
        run.refused("a grant without the store", send(server.port, "POST", "/auth/token", FORM, form))
        relay.switch(database.port)
        run.process(server, list(environment.values()))
        run.logs(server)
        assert server.log_file.read_text().count('"level":"DEBUG"') > 20, "every refusal was explained"

        # Another key, from a file, and in the environment of nobody.
        hmac = config.replace(f'key = {{ file = "{tmp_path}/signing.pem" }}', f'key = {{ file = "{tmp_path}/hmac" }}\nalgorithm = "HS256"')
        server = gateway(hmac, environment)
        token = canaries.add_token("our HMAC token", log_in(server.port, "alice", password))
        assert send(server.port, "GET", "/echo/a", bearer(token)).status == 200
        run.process(server, list(environment.values()))
        run.logs(server)

        # And keys of the store, which are encrypted there.
        stored = config.replace(f'key = {{ file = "{tmp_path}/signing.pem" }}\n', "")
        assert stored != config
        server = gateway(stored, environment)
        canaries.add_token("our token by a stored key", log_in(server.port, "alice", password))
        run.process(server, list(environment.values()))
        run.logs(server)

        commands(run, config, hmac, uri, environment, tmp_path, password)
        commands_about_keys_and_sessions(run, config, stored, environment, tmp_path, own)
    finally:
        relay.stop()

    assert len(run.refusals) > 45 and len(run.seen) > 90
    print(f"{len(canaries.secrets)} secrets searched for in {len(run.seen)} texts, {len(run.refusals)} of them refusals")
    for what, text in run.seen:
        assert not canaries.found_in(text), f"{canaries.found_in(text)} in {what}:\n{text[:3000]}"
    for what, text in run.refusals:
        assert not re.search(INSIDE, text, re.IGNORECASE), f"{what}: {text}"


def commands(run, config, hmac, uri, environment, folder, password):
    """What the command line says of the same files, and of others that are wrong around a secret."""
    file = folder / "command.toml"
    for text in (config, hmac):
        file.write_text(text)
        run.command("check", "-c", file, status=0, environment=environment)
        for form in ([], ["--json"]):
            run.command("config", "show", "-c", file, *form, status=0, environment=environment)
    new = ["--password-stdin", "-c", file, "bob"]
    run.command("user", "add", *new, status=0, stdin=f"{password}\n", environment=environment)
    run.command("user", "add", *new, status=1, stdin=f"{password}\n", environment=environment)
    run.command("user", "password", *new, status=0, stdin=f"{password}!\n", environment=environment)
    for form in ([], ["--json"]):
        run.command("user", "list", "-c", file, *form, status=0, environment=environment)
        run.command("user", "show", "-c", file, "bob", *form, status=0, environment=environment)
    run.command("user", "add", "-c", file, "eve", "--password", password, status=2, environment=environment)

    secret, own = run.canaries.secrets["issuer secret"], run.canaries.secrets["HMAC secret"]
    inline = config.replace('{ env = "STORE_URL" }', f'"{uri}"')
    file.write_text(inline)
    run.command("check", "-c", file, status=0, environment=environment)
    run.command("config", "show", "-c", file, status=0, environment=environment)
    for wrong in (
        inline.replace("[store]", "[store]\nunknown = 1"),
        inline.replace(f'url = "{uri}"', f'url = "{uri}" x'),
        inline.replace(f'url = "{uri}"', f'ulr = "{uri}"'),
        inline.replace(f'url = "{uri}"', f'url = ["{uri}"]'),
        inline.replace(f'url = "{uri}"', f'url = "{uri.replace("mongodb://", "mongo://")}"'),
        config.replace('{ env = "ISSUER_SECRET" }', f'"{secret}"'),
        config.replace('{ env = "ISSUER_SECRET" }', f'"{secret}'),
        config.replace('{ env = "ISSUER_SECRET" }', f'{{ value = "{secret}" }}'),
        config.replace('{ env = "STORE_KEY" }', f'"{environment["STORE_KEY"]}"'),
        config.replace('{ env = "STORE_KEY" }', f'{{ key = "{environment["STORE_KEY"]}" }}'),
        config.replace('{ env = "UPSTREAM_SECRET" }', f'"{environment["UPSTREAM_SECRET"]}"'),
        hmac.replace(f'{{ file = "{folder}/hmac" }}', f'"{own}"'),
        hmac.replace(f'{{ file = "{folder}/hmac" }}', f'"""\n{own}\n"""'),
    ):
        assert wrong not in (config, hmac, inline)
        file.write_text(wrong)
        run.command("check", "-c", file, status=1, environment=environment)
        run.command("run", "-c", file, status=1, environment=environment)


def commands_about_keys_and_sessions(run, config, stored, environment, folder, token):
    """What the command line says of keys, tokens and sessions. The key in a file is the one that signs; those of the store are encrypted."""
    file = folder / "command.toml"
    file.write_text(config)
    say = lambda *words, status=0, stdin="": run.command(*words, "-c", file, status=status, stdin=stdin, environment=environment)
    for form in ([], ["--json"]):
        say("key", "list", *form)
        say("session", "list", *form)
        say("token", "inspect", "-", "--verify", *form, stdin=token)
        for target in ("/echo/a", "/minted/a", "/closed/a", f"/echo/a?access_token={token}"):
            say("explain", "GET", target, "-", *form, stdin=token, status=1 if target == "/closed/a" else 0)
    say("key", "export")
    say("key", "rotate", status=1)
    say("check", "--connect", status=1)
    living = json.loads(say("session", "list", "alice", "--json").stdout)
    say("session", "revoke", living[0]["id"])
    say("session", "revoke", living[0]["id"])
    say("token", "inspect", "-", "--verify", stdin=token[:-8] + token[:8], status=1)
    # With keys of the store, encrypted, and with another encryption key than theirs.
    file.write_text(stored)
    say("key", "rotate", "--now")
    say("key", "list")
    say("key", "list", "--json")
    made = run.command("token", "mint", "--subject", "robot", "-c", file, status=0, environment=environment, prints_a_token=True)
    run.canaries.add_token("a token of the command line", made.stdout.strip())
    other = base64.b64encode(b"canary-another-encryption-key-32").decode()
    environment = {**environment, "STORE_KEY": run.canaries.add("another encryption key", other)}
    say("key", "list")
    say("key", "rotate", status=1)
    say("token", "inspect", "-", "--verify", stdin=made.stdout, status=1)
    environment["STORE_KEY"] = run.canaries.add("an encryption key that is none", "canary-that-is-no-key-of-32-bytes")
    say("check", status=1)
