"""The token endpoint speaks RFC 6749 section 5.2 whatever it is sent, and a login never becomes a query of its sender's."""

import base64
import socket
from collections.abc import Iterator

import pytest

from support.config import base
from support.http import Answer, assert_refused, bearer, log_in, send, send_json
from support.people import PASSWORD, hashes
from support.processes import Gateway, eventually

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
CANARY = "canary-that-nobody-may-log"
GOOD = b"grant_type=password&username=alice&password=" + PASSWORD.replace(" ", "+").encode()


@pytest.fixture(scope="module")
def database(mongod):
    database = mongod.client.token_endpoint
    people = [
        {"username": "alice", "password": hashes.hash(PASSWORD), "scopes": "read"},
        {"username": "a+b c%41", "password": hashes.hash("p+q r%41&=")},
    ]
    database.users.insert_many(people)
    yield database
    mongod.client.drop_database(database.name)


@pytest.fixture(scope="module")
def server(mongod, database, module_gateway) -> Iterator[Gateway]:
    """After all tests of the module, no password that was sent may stand in its logs."""
    config = base("{folder}", mongod.uri(database.name))
    server = module_gateway(config.replace("[log]", '[log]\nlevel = "trace"').replace("[server]", '[server]\nbody_timeout = "1s"'))
    yield server
    server.stop()
    log = server.log_file.read_text() + server.access_file.read_text()
    assert CANARY not in log
    for password in (PASSWORD, PASSWORD.replace(" ", "+"), PASSWORD.replace(" ", "%20"), "p+q r%41&="):
        assert password not in log


def check_oauth(answer: Answer, status: int, error: str) -> None:
    """An error as section 5.2 describes it, which no cache keeps."""
    assert (answer.status, answer.json().get("error")) == (status, error), answer
    assert answer.header("Content-Type") == "application/json"
    assert (answer.header("Cache-Control"), answer.header("Pragma")) == ("no-store", "no-cache")
    assert set(answer.json()) <= {"error", "error_description", "error_uri"}
    description = answer.json()["error_description"]
    assert all(" " <= letter <= "~" and letter not in '"\\' for letter in description), description
    assert CANARY not in answer.body.decode()


def multipart(boundary: str) -> dict[str, str]:
    return {"Content-Type": f"multipart/form-data; boundary={boundary}"}


SECRET = CANARY.encode()
REFUSED = {
    "nothing": ((FORM, b""), "invalid_request"),
    "no grant_type": ((FORM, b"username=alice&password=" + SECRET), "invalid_request"),
    "an empty grant_type": ((FORM, b"grant_type=&username=alice&password=" + SECRET), "invalid_request"),
    "grant_type twice": ((FORM, b"grant_type=password&" + GOOD), "invalid_request"),
    "two grant_types": ((FORM, b"grant_type=refresh_token&" + GOOD), "invalid_request"),
    "username twice": ((FORM, GOOD + b"&username=bob"), "invalid_request"),
    "password twice": ((FORM, GOOD + b"&password=" + SECRET), "invalid_request"),
    "scope twice": ((FORM, GOOD + b"&scope=read&scope=read"), "invalid_request"),
    "another grant_type": ((FORM, b"grant_type=client_credentials"), "unsupported_grant_type"),
    "its case": ((FORM, GOOD.replace(b"=password&", b"=Password&", 1)), "unsupported_grant_type"),
    "authorization_code": ((FORM, b"grant_type=authorization_code&code=" + SECRET), "unsupported_grant_type"),
    "a refresh_token of nobody": ((FORM, b"grant_type=refresh_token&refresh_token=" + SECRET), "invalid_grant"),
    "no refresh_token": ((FORM, b"grant_type=refresh_token"), "invalid_request"),
    "no username": ((FORM, b"grant_type=password&password=" + SECRET), "invalid_request"),
    "no password": ((FORM, b"grant_type=password&username=alice"), "invalid_request"),
    "an empty password": ((FORM, b"grant_type=password&username=alice&password="), "invalid_grant"),
    "a wrong password": ((FORM, b"grant_type=password&username=alice&password=" + SECRET), "invalid_grant"),
    "nobody": ((FORM, b"grant_type=password&username=nobody&password=" + SECRET), "invalid_grant"),
    "no Content-Type": (({}, GOOD), "invalid_request"),
    "JSON": (({"Content-Type": "application/json"}, b'{"grant_type":"password"}'), "invalid_request"),
    "text": (({"Content-Type": "text/plain"}, GOOD), "invalid_request"),
    "another charset": (({"Content-Type": FORM["Content-Type"] + "; charset=utf-16"}, GOOD), "invalid_request"),
    "compressed": (({**FORM, "Content-Encoding": "gzip"}, GOOD), "invalid_request"),
    "a broken percent": ((FORM, GOOD + b"%4"), "invalid_request"),
    "percent and no digits": ((FORM, b"grant_type=password&username=%zz&password=" + SECRET), "invalid_request"),
    "not UTF-8": ((FORM, b"grant_type=password&username=%ff&password=" + SECRET), "invalid_request"),
    "raw bytes": ((FORM, b"grant_type=password&username=\xff&password=" + SECRET), "invalid_request"),
    "overlong NUL": ((FORM, b"grant_type=password&username=%c0%80&password=" + SECRET), "invalid_request"),
    "an operator": ((FORM, b"grant_type=password&username[$ne]=&password[$ne]=" + SECRET), "invalid_request"),
    "multipart cut off": ((multipart("XX"), b"--XX\r\nContent-Disposition: form-data; name=grant_type"), "invalid_request"),
    "multipart without boundary": (({"Content-Type": "multipart/form-data"}, b"--XX--"), "invalid_request"),
    "a client secret": ((FORM, GOOD + b"&client_secret=" + SECRET), "invalid_client"),
    "a bad client_id": ((FORM, GOOD + b"&client_id=a%20b"), "invalid_request"),
    "a bad scope": ((FORM, GOOD + b'&scope="'), "invalid_scope"),
    "too much scope": ((FORM, GOOD + b"&scope=write"), "invalid_scope"),
    "100 fields": ((FORM, GOOD + b"".join(b"&f%d=1" % number for number in range(100))), "invalid_request"),
}


@pytest.mark.parametrize("request_, error", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_granted_is_told_in_oauths_words(request_, error, server):
    headers, body = request_
    answer = send(server.port, "POST", "/auth/token", headers, body)
    check_oauth(answer, 401 if error == "invalid_client" else 400, error)


def test_a_client_that_authenticates_is_no_failed_login(server):
    """The code of its access line is what an operator counts wrong passwords by."""
    basic = "Basic " + base64.b64encode(f"notebook:{CANARY}".encode()).decode()
    for headers in ({**FORM, "Authorization": basic}, {**FORM, "Authorization": "Digest x"}):
        answer = send(server.port, "POST", "/auth/token", headers, GOOD)
        check_oauth(answer, 401, "invalid_client")
        assert answer.header("WWW-Authenticate").startswith("Basic"), answer
        assert server.access_line(answer.header("X-Request-Id"))["refusal.code"] == "bad_request"
    answer = send(server.port, "POST", "/auth/token", FORM, GOOD.replace(b"=alice", b"=nobody"))
    assert server.access_line(answer.header("X-Request-Id"))["refusal.code"] == "login_failed"


def test_what_is_no_request_to_anybody_is_told_as_everywhere(server):
    """A head that two readers could take for two things is refused before it is known whom it is for."""
    for headers, path in [([*FORM.items(), *FORM.items()], "/auth/token"), (FORM, "/auth/./token")]:
        answer = send(server.port, "POST", path, headers, GOOD)
        assert_refused(answer, 400, "bad_path" if "." in path else "bad_request")


@pytest.mark.parametrize("size", [64 * 1024 + 1, 10 * 1024 * 1024])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_over_the_limit_is_refused_in_oauths_words(size, framing, server):
    body = GOOD.replace(PASSWORD.replace(" ", "+").encode(), SECRET) + b"&x=" + b"x" * size
    sent = body if framing == "length" else iter([body[:1000], body[1000:]])
    try:
        answer = send(server.port, "POST", "/auth/token", FORM, sent)
    except (ConnectionResetError, BrokenPipeError):
        # The client may still be writing when the connection is closed behind the answer.
        assert size > 4 * 1024 * 1024
        return
    check_oauth(answer, 413, "invalid_request")


def raw(port: int, text: bytes) -> bytes:
    """What comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(text)
        received = b""
        while part := connection.recv(65536):
            received += part
        return received


def test_a_body_that_never_ends_is_refused_in_oauths_words(server):
    head = b"POST /auth/token HTTP/1.1\r\nHost: a.example\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 500\r\n\r\n"
    answer = raw(server.port, head + GOOD[:20])
    assert answer.startswith(b"HTTP/1.1 408 ") and b'"error":"invalid_request"' in answer, answer


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_a_login_in_the_query_is_refused_and_not_logged(method, server):
    target = f"/auth/token?grant_type=password&username=alice&password={CANARY}"
    answer = send(server.port, method, target)
    assert (answer.status, answer.header("Allow")) == (405, "POST")
    if method != "HEAD":
        check_oauth(answer, 405, "invalid_request")
    (line,) = eventually("the access line", lambda: [line for line in server.access_lines() if line["request.id"] == answer.header("X-Request-Id")])
    assert line["path"] == "/auth/token"


def test_a_query_beside_a_form_gives_nothing(server):
    """RFC 6749 section 2.3.1: parameters are in the body only."""
    target = "/auth/token?" + GOOD.decode()
    check_oauth(send(server.port, "POST", target, FORM, b""), 400, "invalid_request")
    check_oauth(send(server.port, "POST", target, FORM, b"grant_type=password&username=alice&password=x"), 400, "invalid_grant")


def test_plus_and_percent_are_decoded_once(server):
    right = b"grant_type=password&username=a%2Bb+c%2541&password=p%2Bq%20r%2541%26%3D"
    answer = send(server.port, "POST", "/auth/token", {"Content-Type": "Application/X-WWW-form-urlencoded; charset=UTF-8"}, right)
    assert answer.status == 200 and answer.header("Cache-Control") == "no-store"
    for wrong in (right.replace(b"%2Bq", b"+q"), right.replace(b"%2541%26", b"%41%26"), right.replace(b"%20r", b"%2520r")):
        check_oauth(send(server.port, "POST", "/auth/token", FORM, wrong), 400, "invalid_grant")


def test_the_password_grant_can_be_switched_off(mongod, database, gateway):
    config = base("{folder}", mongod.uri(database.name)).replace("[login]", "[login]\npassword_grant = false")
    server = gateway(config)
    check_oauth(send(server.port, "POST", "/auth/token", FORM, GOOD), 400, "unsupported_grant_type")
    check_oauth(send(server.port, "POST", "/auth/token", FORM, b"username=alice"), 400, "invalid_request")
    metadata = send(server.port, "GET", "/.well-known/oauth-authorization-server").json()
    assert "password" not in metadata.get("grant_types_supported", [])
    assert send(server.port, "GET", "/auth/me", bearer(log_in(server.port, "alice", PASSWORD))).status == 200


INJECTIONS = [
    {"username": {"$ne": None}, "password": "x"},
    {"username": {"$gt": ""}, "password": PASSWORD},
    {"username": {"$regex": ".*"}, "password": PASSWORD},
    {"username": {"$where": "1"}, "password": PASSWORD},
    {"username": {"$in": ["alice"]}, "password": PASSWORD},
    {"username": ["alice"], "password": PASSWORD},
    {"username": [], "password": PASSWORD},
    {"username": 0, "password": PASSWORD},
    {"username": True, "password": PASSWORD},
    {"username": "alice", "password": {"$ne": None}},
    {"username": "alice", "password": [PASSWORD]},
    {"username": {"$oid": "0" * 24}, "password": PASSWORD},
    {"username": "alice", "password": None},
]
INJECTED_TEXTS = ['{"$ne": null}', "$where", "' OR '1'='1", "alice' --", "alice\0", "alice\nbob", "/.*/", "%", "ali*", "alice ", " alice", "\ufeffalice"]
INJECTED_FORMS = [b"username[$ne]=x&password=x", b"username[]=alice&password=x", b"username=alice&username=bob&password=x", b"username.$ne=x&password=x"]


def leaves(value: object) -> Iterator[object]:
    """All values of a filter that are neither lists nor documents."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value


@pytest.mark.parametrize("store", ["mongodb", "sqlite"])
def test_no_login_becomes_a_query_of_its_senders(store, mongod, database, gateway, tmp_path):
    server = gateway(base("{folder}", mongod.uri(database.name) if store == "mongodb" else None))
    if store == "mongodb":
        database.command("profile", 2)
    try:
        for value in INJECTIONS:
            assert_refused(send_json(server.port, "/auth/login", value), 400, "bad_request")
        for form in INJECTED_FORMS:
            assert_refused(send(server.port, "POST", "/auth/login", FORM, form), 400, "bad_request")
        for username in INJECTED_TEXTS:
            answer = send_json(server.port, "/auth/login", {"username": username, "password": PASSWORD})
            assert_refused(answer, 401, "login_failed")
    finally:
        database.command("profile", 0)
    if store == "mongodb":
        queries = [entry["command"]["filter"] for entry in database["system.profile"].find({"ns": f"{database.name}.users", "op": "query"})]
        assert [list(leaves(query)) for query in queries] == [[text] * len(list(leaves(queries[0]))) for text in INJECTED_TEXTS]
        operators = {name for query in queries for name in query if name.startswith("$")}
        assert operators == {"$or"} and all(set(query) == {"$or"} for query in queries), "only ours"
        database.drop_collection("system.profile")
