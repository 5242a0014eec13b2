"""The operator's commands against the gateway and PyJWT: minted tokens, keys, looks into tokens, replayed decisions."""

import base64
import json
import os
import pty
import sqlite3
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from support import revoking
from support.config import AUDIENCE, ENVIRONMENT, LAB_SECRET, TRUSTED_LAB, base, lab_claims, lab_token, route, upstream
from support.http import bearer, send
from support.processes import Application, Gateway, free_port, gateway_program, tollgate
from support.signing import P256
from test_tokens import BAD, BAD_IN_SOME_WAY

ALGORITHMS = ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]
ISSUER_URL = "https://gate.example.org"


class Tools:
    """The commands on one configuration file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self, *words: object, stdin: str = "", status: int = 0) -> subprocess.CompletedProcess:
        done = tollgate(*words, "-c", self.file, stdin=stdin, environment={**ENVIRONMENT, "TZ": "Europe/Berlin"})
        assert done.returncode == status, done
        return done

    def json(self, *words: object, stdin: str = "", status: int = 0) -> dict | list:
        return json.loads(self(*words, "--json", stdin=stdin, status=status).stdout)

    def mint(self, *words: object) -> str:
        done = self("token", "mint", *words)
        assert done.stdout.count("\n") == 1 and done.stdout.strip() not in done.stderr, done
        return done.stdout.strip()


def tools_with(folder: Path, config: str) -> Tools:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "tools.toml"
    file.write_text(config)
    return Tools(file)


@pytest.fixture(params=["sqlite", "mongodb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty store."""
    if request.param == "sqlite":
        return f"sqlite://{tmp_path}/tools.db"
    return request.getfixturevalue("mongod").uri(request.getfixturevalue("database").name)


def test_a_minted_token_is_accepted_by_the_gateway_and_by_pyjwt(store: str, gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    config = base(tmp_path, store) + f'\n[tokens]\nissuer = "{ISSUER_URL}"\naudience = ["{AUDIENCE}"]\n'
    server, tools = gateway(config), tools_with(tmp_path, config)
    token = tools.mint("--subject", "robot", "--scope", "read", "--scope", "write", "--role", "service", "--ttl", "10m", "--claim", "project=7")
    answer = send(server.port, "GET", "/auth/me", bearer(token))
    assert (answer.status, answer.json()["subject"], answer.json()["scopes"]) == (200, "robot", ["read", "write"])

    exported = tools("key", "export").stdout
    assert json.loads(exported) == send(server.port, "GET", "/.well-known/jwks.json").json()
    (jwk,) = jwt.PyJWKSet.from_json(exported).keys
    pem = load_pem_public_key(tools("key", "export", "--format", "pem", "--kid", jwk.key_id).stdout.encode())
    for key in [jwk.key, pem]:
        claims = jwt.decode(token, key, ["ES256"], audience=AUDIENCE, issuer=ISSUER_URL, options={"require": ["exp", "iat", "jti", "client_id"]})
        assert (claims["sub"], claims["scope"], claims["roles"], claims["project"]) == ("robot", "read write", ["service"], 7)
        assert claims["exp"] - claims["iat"] == 600
    (listed,) = tools.json("key", "list")
    assert (listed["kid"], listed["algorithm"], listed["state"], listed["problem"]) == (jwk.key_id, "ES256", "signs", None)
    assert "PRIVATE" not in tools("key", "list").stdout

    verified = tools("token", "inspect", "-", "--verify", stdin=token)
    assert f"issuer `{ISSUER_URL}`" in verified.stderr and jwk.key_id in verified.stderr
    replayed = tools.json("explain", "GET", "/auth/me", "-", stdin=token)
    assert (replayed["outcome"], replayed["endpoint"], replayed["caller"]["kid"]) == ("allowed", "tollgate:me", jwk.key_id)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_generated_key_signs_tokens_that_pyjwt_verifies(algorithm: str, tmp_path: Path) -> None:
    file = tmp_path / "signing.pem"
    config = base(tmp_path) + f'\n[tokens]\nalgorithm = "{algorithm}"\nkey = {{ file = "signing.pem" }}\naudience = ["{AUDIENCE}"]\n'
    tools = tools_with(tmp_path, config)
    made = tollgate("key", "generate", "--algorithm", algorithm, "--out", file)
    assert made.returncode == 0 and not made.stdout, made
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_text()
    again = tollgate("key", "generate", "--algorithm", algorithm, "--out", file)
    assert again.returncode == 1 and file.read_text() == before, "a key was written over another"

    (listed,) = tools.json("key", "list")
    assert (listed["algorithm"], listed["state"], listed["created"]) == (algorithm, "signs", None)
    assert f"`{listed['kid']}`" in made.stderr
    token = tools.mint("--subject", "robot")
    jwks = json.loads(tools("key", "export").stdout)
    if algorithm.startswith("HS"):
        assert jwks == {"keys": []}
        assert tools("key", "export", "--kid", listed["kid"], status=1).stdout == ""
        key = before.strip()
    else:
        assert not {"d", "p", "q", "k"} & set(jwks["keys"][0])
        key = jwt.PyJWKSet.from_dict(jwks).keys[0].key
    assert jwt.decode(token, key, [algorithm], audience=AUDIENCE)["sub"] == "robot"
    assert jwt.get_unverified_header(token)["kid"] == listed["kid"]
    tools("token", "inspect", token, "--verify")
    assert not (tmp_path / "tollgate.db").exists(), "the file has the key, so no store is needed"


def test_a_key_goes_to_standard_output_when_no_file_is_named() -> None:
    made = tollgate("key", "generate", "--algorithm", "EdDSA")
    assert made.stdout.startswith("-----BEGIN PRIVATE KEY-----\n") and "PRIVATE" not in made.stderr


def test_the_name_of_a_key_may_begin_with_a_hyphen(tmp_path: Path) -> None:
    tollgate("key", "generate", "--out", tmp_path / "signing.pem")
    tools = tools_with(tmp_path, base(tmp_path) + '\n[tokens]\nkey = { file = "signing.pem" }\n')
    assert "no key of our own with the name `-f1`" in tools("key", "export", "--kid", "-f1", status=1).stderr


def test_what_cannot_be_minted_is_refused_and_nothing_is_printed(tmp_path: Path) -> None:
    tollgate("key", "generate", "--out", tmp_path / "signing.pem")
    tools = tools_with(tmp_path, base(tmp_path) + '\n[tokens]\nkey = { file = "signing.pem" }\n')
    for status, words in [
        (1, ["--subject", ""]),
        (1, ["--subject", "a\nb"]),
        (1, ["--subject", "x" * 1025]),
        (1, ["--subject", "a", "--claim", "sub=admin"]),
        (1, ["--subject", "a", "--claim", 'exp=99999999999']),
        (1, ["--subject", "a", "--claim", "nbf=soon"]),
        (1, ["--subject", "a", "--claim", f"padding={'x' * 20_000}"]),
        (2, ["--subject", "a", "--claim", "a=1", "--claim", "a=2"]),
        (2, ["--subject", "a", "--claim", "nothing"]),
        (2, ["--subject", "a", "--scope", "two words"]),
        (2, ["--subject", "a", "--ttl", "29s"]),
        (2, ["--subject", "a", "--ttl", "25h"]),
        (2, ["--subject", "a", "--ttl", "none"]),
        (2, []),
    ]:
        done = tools("token", "mint", *words, status=status)
        assert done.stdout == "" and done.stderr.startswith("error: "), done
    other = tools("token", "mint", "--subject", "a", "--audience", "another-service")
    assert "warning: this gateway refuses it" in other.stderr
    assert jwt.decode(other.stdout.strip(), options={"verify_signature": False})["aud"] == "another-service"


def test_a_verified_look_into_a_token_asks_for_its_session(tmp_path: Path, gateway: Callable[..., Gateway], echo: Application) -> None:
    path = tmp_path / "shared.db"
    server = gateway(revoking.config(f"sqlite://{path}", echo))
    sessions, sid = revoking.Rows(path), revoking.session_id()
    held = revoking.token(sid)

    def look(*more: str, status: int = 0) -> subprocess.CompletedProcess:
        done = tollgate("token", "-c", server.config, "inspect", "-", "--verify", *more, stdin=held, environment=ENVIRONMENT)
        assert done.returncode == status, done
        return done

    assert look().stderr.endswith("session: not known whether it has ended: the store has no row of it, or none any more\n")
    sessions.begin(sid)
    assert look().stderr.startswith("verified: ") and look().stderr.endswith(f"session: `{sid}` has not ended\n")
    assert json.loads(look("--json").stdout)["verification"]["session"]["outcome"] == "alive"
    sessions.end(sid)
    assert f"refused: `token_revoked`: the session of the token has ended: `{sid}` ended at 20" in look(status=1).stderr
    refused = json.loads(look("--json", status=1).stdout)["verification"]
    assert (refused["outcome"], refused["code"]) == ("refused", "token_revoked")
    # As the gateway says, and as it would have been told an hour ago.
    revoking.until_refused(server, held)
    an_hour_ago = str(int(time.time()) - 3600)
    held = revoking.token(sid, iat=int(an_hour_ago))
    assert "has not ended" in look("--at", an_hour_ago).stderr
    # Without its row nobody knows, and it is said.
    server.stop()
    path.rename(tmp_path / "elsewhere.db")
    told = look().stderr
    assert "verified: " in told and "session: not known whether it has ended: its row is in the store, which cannot be read" in told


def test_commands_that_look_make_neither_store_nor_key(tmp_path: Path) -> None:
    tools = tools_with(tmp_path, base(tmp_path) + f'\n[tokens]\nissuer = "{ISSUER_URL}"\n' + TRUSTED_LAB)
    ours = jwt.encode(lab_claims(iss=ISSUER_URL), P256, "ES256", headers={"kid": "x", "typ": "at+jwt"})
    for words in [["key", "list"], ["key", "export"], ["token", "mint", "--subject", "a"], ["user", "list"], ["user", "show", "a"], ["user", "enable", "a"]]:
        done = tools(*words, status=1)
        assert not done.stdout and "there is no database file" in done.stderr and "hint: " in done.stderr, done
    replayed = tools.json("explain", "GET", "/auth/me", "-", stdin=ours, status=1)
    assert replayed["outcome"] == "undecided" and "there is no database file" in replayed["undecided"]
    assert [part["outcome"] for part in replayed["checks"][-1]["parts"]] == ["ok"] * 6 + ["unknown"] * 4
    assert "cannot be judged" in tools("token", "inspect", "-", "--verify", stdin=ours, status=1).stderr
    # What does not need our own keys is judged all the same.
    assert tools.json("explain", "GET", "/auth/me", "-", stdin=lab_token())["outcome"] == "allowed"
    assert tools.json("explain", "GET", "/auth/me", "-", stdin="a.b.c", status=1)["refusal"]["code"] == "token_malformed"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tools.toml"]


def test_a_database_that_does_not_answer_leaves_our_own_tokens_undecided(tmp_path: Path) -> None:
    store = f"mongodb://127.0.0.1:{free_port()}/nobody"
    tools = tools_with(tmp_path, base(tmp_path, store) + f'\n[tokens]\nissuer = "{ISSUER_URL}"\n')
    ours = jwt.encode(lab_claims(iss=ISSUER_URL), P256, "ES256", headers={"kid": "x", "typ": "at+jwt"})
    done = tools("explain", "GET", "/auth/me", "-", stdin=ours, status=1)
    assert "cannot be judged: our own keys are in the store" in done.stdout and "hint: " in done.stdout


def test_explain_judges_foreign_tokens_as_the_gateway_does(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    config = base(tmp_path) + TRUSTED_LAB
    server, tools = gateway(config), tools_with(tmp_path, config)
    bad = {name: make for name, (make, _) in BAD.items()} | BAD_IN_SOME_WAY
    tokens = {name: make() for name, make in bad.items()} | {"good": lab_token()}
    assert len(tokens) >= 25
    for name, token in tokens.items():
        answer = send(server.port, "GET", "/auth/me", bearer(token))
        replayed = tools.json("explain", "GET", "/auth/me", "-", stdin=token, status=0 if answer.status == 200 else 1)
        assert token not in json.dumps(replayed)
        refusal = replayed["refusal"] or {"status": 200, "body": {}}
        assert refusal["status"] == answer.status, name
        assert refusal["body"].get("code") == answer.json().get("code"), name
        assert refusal["body"].get("detail") == answer.json().get("detail"), name
        checks = next(check for check in replayed["checks"] if check["name"] == "authentication")
        outcomes = [part["outcome"] for part in checks["parts"]]
        assert len(outcomes) == 10 and outcomes == sorted(outcomes, key=["ok", "refused", "not_reached"].index), name


def test_a_token_is_never_shown(tmp_path: Path) -> None:
    passing = upstream("a", "http://127.0.0.1:9", more='token = { mode = "pass" }') + route("/{*rest}", "a")
    tools = tools_with(tmp_path, base(tmp_path) + TRUSTED_LAB + passing)
    token, file = lab_token(), tmp_path / "token"
    file.write_text(f"{token}\n")
    url = f"https://api.example.org/x?access_token={token}"
    for words in [["--token", token], ["--token-file", file], ["-"], ["--token-file", file, "-H", f"X-Copy: {token}"]]:
        for json_or_not in [[], ["--json"]]:
            done = tools("explain", "GET", url, *words, *json_or_not, stdin=token)
            assert token not in done.stdout + done.stderr and token.split(".")[2] not in done.stdout + done.stderr
            assert "authorization" in done.stdout, "the upstream gets it, which is told"
    done = tools("explain", "GET", "https://api.example.org/x", "-H", f"Authorization: Bearer {token}")
    assert token not in done.stdout + done.stderr


MISPLACED = "eyJhbGciOiJIUzI1NiJ9.e30.c2VjcmV0"
WORDS_WITH_A_SECRET = {
    "a token without -": ["explain", "GET", "/", MISPLACED],
    "a token behind -": ["explain", "GET", "/", "-", MISPLACED],
    "a header without a colon": ["explain", "GET", "/", "-H", f"Authorization {MISPLACED}"],
    "a password in a URL": ["explain", "GET", f"http://ada:{MISPLACED}@api.example.org/"],
    "two tokens": ["token", "inspect", "-", MISPLACED],
    "a password as a word": ["user", "add", "ada", MISPLACED],
    "a new password as a word": ["user", "password", "ada", MISPLACED],
    "a password as an option": ["user", "add", "ada", f"--password={MISPLACED}"],
    "a password in a URL that is none": ["healthcheck", "--url", f"http://ada:{MISPLACED}@a b/"],
}


@pytest.mark.parametrize("words", WORDS_WITH_A_SECRET.values(), ids=WORDS_WITH_A_SECRET)
def test_a_secret_in_the_wrong_place_is_not_repeated(words: list[str]) -> None:
    done = tollgate(*words)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and MISPLACED not in done.stdout + done.stderr, done


def unread(*words: object) -> int:
    """The exit status of a command whose output has nobody who reads it any more."""
    ours, theirs = os.pipe()
    os.close(ours)
    command = [gateway_program(), *map(str, words)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, timeout=60)
    os.close(theirs)
    return done.returncode


def test_an_exit_code_is_right_although_nobody_reads_the_output(tmp_path: Path) -> None:
    routes = upstream("a", "http://127.0.0.1:9") + route("/{*rest}", "a") + route("/open", "a", more='auth = "public"')
    file = tools_with(tmp_path, base(tmp_path) + routes).file
    assert unread("explain", "GET", "/x", "-c", file) == 1 and unread("explain", "GET", "/open", "-c", file) == 0
    assert unread("check", "--connect", "-c", file) == 1 and unread("check", "-c", file) == 0
    assert unread("healthcheck", "--url", f"http://127.0.0.1:{free_port()}/readyz") == 1
    assert unread("token", "inspect", "a.b.c") == 1
    added = tollgate("user", "add", "ada", "--password-stdin", "-c", file, stdin="correct horse battery")
    assert added.returncode == 0, added
    for words in [["config", "default"], ["man"], ["user", "list", "-c", file], ["user", "disable", "ada", "-c", file]]:
        assert unread(*words) == 0, words


def test_what_the_store_holds_moves_nothing_on_a_terminal(tmp_path: Path) -> None:
    tools = tools_with(tmp_path, base(tmp_path))
    tools("user", "add", "ada", "--password-stdin", stdin="correct horse battery")
    evil = "Ada \x1b[2J\u009b2J\u202e\u061c"
    with sqlite3.connect(tmp_path / "tollgate.db") as database:
        database.execute("UPDATE accounts SET name = ?", [evil])
        database.execute("INSERT INTO grants (subject, kind, value) SELECT subject, 'role', ? FROM accounts", [evil])
    for words in [["user", "list"], ["user", "show", "ada"], ["user", "grant", "ada", "--role", "staff"]]:
        done = tools(*words)
        shown = done.stdout + done.stderr
        assert "Ada \\u{1b}[2J" in shown and not {"\x1b", "\u009b", "\u202e", "\u061c"} & set(shown), shown
    for words in [["user", "list"], ["user", "show", "ada"]]:
        shown = tools(*words, "--json").stdout
        assert shown.isascii()
        (account,) = json.loads(shown) if words[1] == "list" else [json.loads(shown)]
        assert (account["name"], account["roles"]) == (evil, [evil, "staff"])


def test_a_broken_key_is_not_taken_for_none(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    config = base(tmp_path)
    tools = tools_with(tmp_path, config)
    gateway(config)
    with sqlite3.connect(tmp_path / "tollgate.db") as database:
        database.execute("UPDATE keys SET material = 'broken'")
    told = tools("token", "mint", "--subject", "a", status=1).stderr
    assert "cannot be used" in told and "`tollgate key list`" in told and "broken" not in told
    assert tools.json("key", "list")[0]["state"] == "unusable"


def on_a_terminal(*words: object, **environment: str) -> tuple[int, str]:
    """The exit status of a command whose output is a terminal, and what it wrote there."""
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    arguments = [gateway_program(), *map(str, words)]
    process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env={**kept, **environment})
    os.close(theirs)
    text = b""
    try:
        while block := os.read(ours, 65_536):
            text += block
    except OSError:
        pass  # How Linux tells that the other side has closed.
    os.close(ours)
    return process.wait(30), text.decode()


def test_color_is_for_terminals_of_people_who_want_it(tmp_path: Path) -> None:
    tools = tools_with(tmp_path, base(tmp_path) + upstream("a", "http://127.0.0.1:9") + route("/{*rest}", "a"))
    words = ["explain", "GET", "/x", "-c", tools.file]
    status, colored = on_a_terminal(*words)
    assert status == 1 and "\x1b[1;31mrefused\x1b[0m: 401" in colored
    for plain in [on_a_terminal(*words, NO_COLOR="1")[1], tools("explain", "GET", "/x", status=1).stdout]:
        assert "\x1b" not in plain and "refused: 401" in plain
    status, text = on_a_terminal("key", "generate")
    assert status == 1 and "PRIVATE" not in text and "hint: " in text, "a private key was shown on a terminal"


def test_times_are_told_in_local_time_and_in_words(tmp_path: Path) -> None:
    token = lab_token(exp=1_800_000_300, iat=1_800_000_000.5)
    done = Tools(tmp_path / "no.toml")("token", "inspect", "-", "--at", "2027-01-15T08:10:00Z", stdin=token)
    assert "1800000300  2027-01-15T09:05:00+01:00 (expired 5 minutes ago)" in done.stdout
    assert "2027-01-15T09:00:00+01:00 (issued 10 minutes ago)" in done.stdout
    assert done.stderr.startswith("not verified: ")


@pytest.mark.parametrize("algorithm", ["HS256", "ES256"])
def test_a_look_into_a_token_of_pyjwt_shows_what_pyjwt_put_in(algorithm: str, tmp_path: Path) -> None:
    claims = lab_claims(name="Zoë \u202e\u009b2J", nested={"a": [1, 2.5, None]})
    token = jwt.encode(claims, LAB_SECRET if algorithm == "HS256" else P256, algorithm, headers={"kid": "k 1"})
    shown = Tools(tmp_path / "no.toml").json("token", "inspect", token)
    assert shown["header"] == jwt.get_unverified_header(token)
    assert shown["claims"] == jwt.decode(token, options={"verify_signature": False})
    assert shown["verification"] == {"outcome": "not_verified"}
    text = tollgate("token", "inspect", token).stdout
    assert "\u009b" not in text and "\u202e" not in text and "Zoë" in text


def part(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


HEADER = part(b'{"alg":"ES256"}')
TWICE = part(b'{"a":1,"a":2}')
JWE = ".".join([part(b'{"alg":"dir","enc":"A256GCM"}'), "", part(b"iv"), part(b"text"), part(b"tag")])
GARBAGE = {
    "words": ("certainly not a token", "one part"),
    "two parts": ("a.b", "2 parts"),
    "an encrypted token": (JWE, "encrypted"),
    "no base64": (f"{HEADER}.!!!.AAAA", "base64url"),
    "padding": (f"{HEADER}=.e30.AAAA", "base64url"),
    "no JSON": (f"{HEADER}.{part(b'nonsense')}.AAAA", "wrong syntax"),
    "no object": (f"{HEADER}.{part(b'[1]')}.AAAA", "not an object"),
    "a claim twice": (f"{HEADER}.{TWICE}.AAAA", "repeated member"),
    "too deep": (f"{HEADER}.{part(b'[' * 4000)}.AAAA", "its payload"),
    "dots only": ("." * 5000, "5001 parts"),
    "a megabyte": ("x" * 1_000_000, "one part"),
    "a megabyte of payload": (f"{HEADER}.{part(b'x' * 700_000)}.AAAA", "its payload"),
    "more than a megabyte": ("x" * 3_000_000, "no token"),
    "nothing": ("", "empty"),
}


@pytest.mark.parametrize("text, told", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_told_what_is_wrong_with_it(text: str, told: str, tmp_path: Path) -> None:
    done = Tools(tmp_path / "no.toml")("token", "inspect", "-", stdin=text, status=1)
    assert done.stdout == "" and done.stderr.startswith("error: ") and told in done.stderr, done
    assert len(done.stderr) < 300 and "nonsense" not in done.stderr


def test_bytes_that_are_no_text_are_no_token(tmp_path: Path) -> None:
    file = tmp_path / "binary"
    file.write_bytes(bytes(range(256)) * 100)
    for path in [file, tmp_path / "missing", tmp_path]:
        done = tollgate("token", "inspect", "--token-file", path)
        assert done.returncode == 1 and done.stderr.startswith("error: ") and not done.stdout, done


WRONG_USE = {
    "no method": ["explain"],
    "two methods": ["explain", "GET /", "/"],
    "a URL with a space": ["explain", "GET", "/a b"],
    "a URL with a line end": ["explain", "GET", "/a\r\nX: y"],
    "a header without a colon": ["explain", "GET", "/", "-H", "X"],
    "a header with a line end": ["explain", "GET", "/", "-H", "X: a\r\nY: b"],
    "two tokens": ["explain", "GET", "/", "--token", "a", "--token-file", "b"],
    "a word instead of -": ["explain", "GET", "/", "a.b.c"],
    "a time that is none": ["explain", "GET", "/", "--at", "yesterday"],
    "an address that is none": ["explain", "GET", "/", "--from", "localhost"],
    "no token to look into": ["token", "inspect"],
    "an unknown algorithm": ["key", "generate", "--algorithm", "none"],
    "rotation with another algorithm": ["key", "rotate", "--algorithm", "ES256"],
    "retirement of no key": ["key", "retire"],
}


@pytest.mark.parametrize("words", WRONG_USE.values(), ids=WRONG_USE)
def test_wrong_use_is_told_and_exits_with_2(words: list[str]) -> None:
    done = tollgate(*words)
    assert done.returncode == 2 and not done.stdout and done.stderr.startswith("error: "), done
