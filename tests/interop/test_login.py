"""People that passlib and Beanie wrote into a real mongod log in as they are."""

import json
import re
import uuid

import jwt
import pytest

from support.config import base
from support.http import assert_refused, bearer, log_in, send, send_json
from support.people import PASSWORD, Admin, Customer, Scientist, hashes, write

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def claims(token):
    return jwt.decode(token, options={"verify_signature": False})


@pytest.fixture
def login_gateway(mongod, database, gateway):
    """A gateway on the test's own database, with these further keys of `[store.users]`."""

    def start(users=""):
        return gateway(base("{folder}", mongod.uri(database.name)) + f"\n[store.users]\n{users}\n")

    return start


def test_a_beanie_document_logs_in_by_name_and_by_email(mongod, database, login_gateway):
    (alice,) = write(
        mongod.uri(database.name),
        lambda: [
            Customer(
                username="alice",
                email="alice@example.org",
                password=hashes.hash(PASSWORD),
                roles=["scientist", "admin"],
                scopes="read:datasets write:datasets",
            )
        ],
    )
    server = login_gateway('collection = "Customer"')
    for login in ["alice", "alice@example.org"]:
        token = claims(log_in(server.port, login, PASSWORD))
        assert token["sub"] == str(alice.id)
        assert token["roles"] == ["scientist", "admin"]
        assert token["scope"] == "read:datasets write:datasets"
        assert token["email"] == "alice@example.org"


def test_a_beanie_document_with_a_uuid_and_fields_of_its_own_logs_in(mongod, database, login_gateway):
    ada, _ = write(
        mongod.uri(database.name),
        lambda: [
            Scientist(
                username=name,
                hashed_password=hashes.hash(PASSWORD),
                profile={"display": "Ada Lovelace"},
                groups="scientist reviewer",
                is_active=name == "ada",
            )
            for name in ["ada", "charles"]
        ],
    )
    server = login_gateway(
        'collection = "scientists"\nfilter = { is_active = true }\n'
        'fields = { login = ["username"], password = "hashed_password", name = "profile.display", roles = "groups" }'
    )
    token = claims(log_in(server.port, "ada", PASSWORD))
    assert uuid.UUID(token["sub"]) == ada.id
    assert token["name"] == "Ada Lovelace"
    assert token["roles"] == ["scientist", "reviewer"]
    before = database.scientists.find_one({"username": "ada"})
    answer = send_json(server.port, "/auth/login", {"username": "charles", "password": PASSWORD})
    assert_refused(answer, 401, "login_failed")
    assert database.scientists.find_one({"username": "ada"}) == before, "a login changes nothing that Beanie guards"


def test_an_admin_of_fastapi_mongo_logs_in_by_email(mongod, database, login_gateway):
    write(
        mongod.uri(database.name),
        lambda: [Admin(fullname="Abdul Y.", email="abdul@youngest.dev", password=hashes.hash(PASSWORD))],
    )
    server = login_gateway('collection = "admin"\nfields = { login = ["email"], name = "fullname" }')
    token = claims(log_in(server.port, "abdul@youngest.dev", PASSWORD))
    assert (token["name"], token["email"]) == ("Abdul Y.", "abdul@youngest.dev")


@pytest.mark.parametrize("identifier", [7, "alice-7", uuid.uuid4()])
def test_an_id_of_another_type_becomes_the_subject(identifier, database, login_gateway):
    database.users.insert_one({"_id": identifier, "username": "alice", "password": hashes.hash(PASSWORD)})
    assert claims(log_in(login_gateway().port, "alice", PASSWORD))["sub"] == str(identifier)


def multipart(fields):
    parts = (f'--line\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items())
    return {"Content-Type": "multipart/form-data; boundary=line"}, ("".join(parts) + "--line--\r\n").encode()


def test_a_login_comes_as_json_as_a_form_and_as_multipart(database, login_gateway):
    database.users.insert_one({"username": "alice", "password": hashes.hash(PASSWORD), "scopes": ["read:datasets"]})
    server = login_gateway()
    form = b"grant_type=password&username=alice&password=" + PASSWORD.replace(" ", "+").encode()
    answers = [
        send_json(server.port, "/auth/login", {"username": "alice", "password": PASSWORD}),
        send(server.port, "POST", "/auth/login", FORM, form),
        send(server.port, "POST", "/auth/login", *multipart({"username": "alice", "password": PASSWORD})),
        send(server.port, "POST", "/auth/token", FORM, form + b"&scope=read:datasets"),
    ]
    for answer in answers:
        assert answer.status == 200, answer
        body = answer.json()
        assert (body["token_type"].lower(), body["expires_in"]) == ("bearer", 300)
        assert "no-store" in answer.header("Cache-Control")
        me = send(server.port, "GET", "/auth/me", bearer(body["access_token"])).json()
        assert me["subject"] == str(database.users.find_one()["_id"])
        assert me["scopes"] == ["read:datasets"]


@pytest.mark.parametrize("username, password", [({"$ne": ""}, PASSWORD), ("alice", {"$gt": ""}), ({"$ne": ""}, {"$ne": ""})])
def test_an_operator_is_no_username(username, password, database, login_gateway):
    database.users.insert_one({"username": "alice", "password": hashes.hash(PASSWORD)})
    server = login_gateway()
    assert_refused(send_json(server.port, "/auth/login", {"username": username, "password": password}), 400, "bad_request")


def test_an_operator_as_text_is_only_text(database, login_gateway):
    database.users.insert_one({"username": '{"$ne": ""}', "password": hashes.hash(PASSWORD)})
    server = login_gateway()
    assert log_in(server.port, '{"$ne": ""}', PASSWORD)
    answer = send(server.port, "POST", "/auth/login", FORM, b"username[$ne]=&password[$ne]=")
    assert_refused(answer, 400, "bad_request")


def test_all_that_fails_looks_the_same_to_the_client_and_different_in_the_log(database, login_gateway):
    good = hashes.hash(PASSWORD)
    database.users.insert_many(
        [
            {"username": "alice", "password": good},
            {"username": "disabled", "password": good, "disabled": True},
            {"username": "malformed", "password": "$2b$10$tooshort"},
            {"username": "plaintext", "password": PASSWORD},
            {"username": "null", "password": None},
            {"username": "absent"},
            {"username": "greedy", "password": "$argon2id$v=19$m=4194304,t=3,p=4$" + "c2FsdHNhbHRzYWx0" + "$" + "A" * 43},
        ]
    )
    server = login_gateway()
    names = ["nobody", "alice", "disabled", "malformed", "plaintext", "null", "absent", "greedy"]
    answers, request_ids = {}, {}
    for name in names:
        password = PASSWORD + "!" if name == "alice" else PASSWORD
        answer = send_json(server.port, "/auth/login", {"username": name, "password": password})
        problem = assert_refused(answer, 401, "login_failed")
        headers = {header.lower() for header, _ in answer.headers}
        request_ids[name] = problem["request_id"]
        answers[name] = ({key: value for key, value in problem.items() if key != "request_id"}, headers)
        assert name not in str(problem), "an answer must not repeat what was sent"
    assert all(answer == answers["nobody"] for answer in answers.values()), answers
    told = {line["request.id"]: line["error"] for line in server.log() if line.get("message") == "Login refused"}
    reasons = {name: re.sub(r"`[0-9a-f]{24}`", "", told[request_id]) for name, request_id in request_ids.items()}
    assert reasons["null"] == reasons["absent"], "MongoDB does not tell them apart either"
    assert len(set(reasons.values())) == len(names) - 1, reasons
    log = server.log_file.read_text() + server.access_file.read_text()
    assert PASSWORD not in log and good not in log and "tooshort" not in log


def test_an_unsuccessful_oauth_login_speaks_oauth(database, login_gateway):
    database.users.insert_one({"username": "alice", "password": hashes.hash(PASSWORD), "scopes": "read"})
    server = login_gateway()
    password = PASSWORD.replace(" ", "+").encode()
    for form, error in [
        (b"grant_type=password&username=alice&password=wrong", "invalid_grant"),
        (b"grant_type=password&username=nobody&password=wrong", "invalid_grant"),
        (b"grant_type=client_credentials", "unsupported_grant_type"),
        (b"username=alice&password=" + password, "invalid_request"),
        (b"grant_type=password&username=alice&scope=write&password=" + password, "invalid_scope"),
    ]:
        answer = send(server.port, "POST", "/auth/token", FORM, form)
        assert (answer.status, answer.json()["error"]) == (400, error), answer
        assert answer.header("Cache-Control") == "no-store"


def test_no_level_of_the_log_tells_a_secret(mongod, database, gateway):
    stored = hashes.hash(PASSWORD)
    database.users.insert_one({"username": "alice", "password": stored})
    config = base("{folder}", mongod.uri(database.name).replace("?", "?appName=canary-in-the-uri&"))
    server = gateway(config.replace("[log]", '[log]\nlevel = "trace"'))
    token = log_in(server.port, "alice", PASSWORD)
    assert send(server.port, "GET", "/auth/me", bearer(token)).status == 200
    assert send(server.port, "GET", "/auth/me", bearer(token + "x")).status == 401
    assert_refused(send_json(server.port, "/auth/login", {"username": "alice", "password": PASSWORD + "."}), 401, "login_failed")
    key = next(value for value in find_strings(database.tollgate_keys.find_one()) if "PRIVATE KEY" in value)
    server.stop()
    log = server.log_file.read_text() + server.access_file.read_text()
    assert "DEBUG" in {line["level"] for line in server.log()}, "the refusal of a token tells its cause there"
    secrets = [PASSWORD, PASSWORD.replace(" ", "+"), stored, token, token.split(".")[2], key, key.splitlines()[1], "canary-in-the-uri"]
    for secret in secrets:
        assert secret not in log and json.dumps(secret)[1:-1] not in log, secret


def find_strings(document):
    return [value for value in document.values() if isinstance(value, str)]
