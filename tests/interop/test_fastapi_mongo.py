"""A FastAPI application with users and tokens of its own, unmodified, behind the gateway: no line of it knows the gateway."""

import time

import jwt
import pytest

from support.config import base, route, upstream
from support.http import assert_refused, bearer, log_in, send, send_json
from support.processes import Application, tollgate

# That they are short is what is tested.
pytestmark = pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")

PASSWORD = "correct horse battery staple"
ADA = {"fullname": "Ada Lovelace", "email": "Ada@example.org", "password": PASSWORD}
STUDENT = {"fullname": "Bob Kahn", "email": "bob@example.org", "course_of_study": "Networks", "year": 2, "gpa": 3.5}
# The default of the starter, the length of its sample, and one as it should be.
SECRETS = {"default": "secret", "sample": "d8f0c1a27b3e4956a0b1c2d3e4f5", "strong": "q7Zp0vX3mB9sL2tK6wY1nC8rF4gH5jD0"}

USERS = """
[store.users]
collection = "admin"
fields = { login = ["email"], name = "fullname", roles = "", scopes = "", disabled = "" }
"""
ISSUER = """
[issuers.students]
audiences = []
algorithms = ["HS256"]
secret = { env = "STUDENTS_SECRET" }
claims = { subject = "user_id", email = "user_id", expires = "expires" }
"""
MINT = """
[upstreams.students.token]
mode = "mint"
secret = { env = "STUDENTS_SECRET" }
claims = { user_id = "{email}", expires = "{exp}" }
"""


class World:
    """The application, the gateway before it, and the secret that they share."""

    def __init__(self, app, gate, secret):
        self.app, self.gate, self.secret = app, gate, secret

    def token(self, **changes):
        """As the application would make it; a change to `None` leaves the claim out."""
        claims = {"user_id": ADA["email"], "expires": time.time() + 2400, **changes}
        return jwt.encode({name: value for name, value in claims.items() if value is not None}, self.secret, "HS256")


@pytest.fixture(scope="module", params=SECRETS)
def world(request, mongod, module_gateway):
    """With each kind of secret that such deployments have."""
    secret, name = SECRETS[request.param], f"students_{request.param}"
    mongod.client.drop_database(name)
    app = Application("students_app", mongod.uri(name), secret)
    weak = "" if request.param == "strong" else "allow_weak_secret = true\n"
    config = base("{folder}", mongod.uri(name)) + USERS + ISSUER.replace("claims =", weak + "claims =")
    config += upstream("students", app.url) + MINT
    config += route("/student/{*rest}", "students") + route("/admin/login", "students", 'auth = "public"\nmethods = ["POST"]')
    config += route("/", "students", 'auth = "public"')
    try:
        gate = module_gateway(config, {"STUDENTS_SECRET": secret})
        made = send_json(app.port, "/admin", ADA)
        assert (made.status, made.json()) == (200, {"fullname": ADA["fullname"], "email": ADA["email"]})
        yield World(app, gate, secret)
    finally:
        app.stop()
        mongod.client.drop_database(name)


def use(port, token):
    """A student made, changed, read and removed, and what each step answered."""
    headers = bearer(token)
    added = send_json(port, "/student/", STUDENT, headers)
    student = f"/student/{added.json()['data']['_id']}"
    answers = [added, send(port, "GET", "/student/", headers), send(port, "GET", student, headers)]
    answers.append(send_json(port, student, {**STUDENT, "year": 3}, headers, "PUT"))
    answers += [send(port, "DELETE", student, headers), send(port, "DELETE", student, headers)]
    assert [answer.status for answer in answers] == [200] * 6, answers
    assert answers[3].json()["data"]["year"] == 3 and answers[4].json()["data"] is True
    assert answers[5].json()["status_code"] == 404, "its own way to say that there is none"
    return answers


def test_its_admins_log_in_at_the_gateway_and_use_its_routes(world):
    token = log_in(world.gate.port, ADA["email"], PASSWORD)
    me = send(world.gate.port, "GET", "/auth/me", bearer(token)).json()
    assert (me["name"], me["email"]) == (ADA["fullname"], ADA["email"])
    use(world.gate.port, token)
    refused = send_json(world.gate.port, "/auth/login", {"username": ADA["email"], "password": PASSWORD + "!"})
    assert_refused(refused, 401, "login_failed")


def test_the_gateways_own_token_is_nothing_to_the_application(world):
    """So it is the minted one that opened its routes above."""
    token = log_in(world.gate.port, ADA["email"], PASSWORD)
    assert send(world.app.port, "GET", "/student/", bearer(token)).status == 500


def test_its_own_login_goes_on_and_the_gateway_takes_its_tokens(world):
    answer = send_json(world.gate.port, "/admin/login", {"username": ADA["email"], "password": PASSWORD})
    assert answer.status == 200 and list(answer.json()) == ["access_token"]
    token = answer.json()["access_token"]
    assert sorted(jwt.decode(token, options={"verify_signature": False})) == ["expires", "user_id"]
    use(world.gate.port, token)
    me = send(world.gate.port, "GET", "/auth/me", bearer(token)).json()
    assert (me["subject"], me["email"], me["issuer"]) == (ADA["email"], ADA["email"], "students")
    wrong = send_json(world.gate.port, "/admin/login", {"username": ADA["email"], "password": "no"})
    assert (wrong.status, wrong.json()) == (403, {"detail": "Incorrect email or password"})


def test_what_would_be_its_error_500_is_refused_before_it(world):
    """Each is sent to the application, which fails, and to the gateway, which refuses and forwards nothing."""
    good, now = world.token(), int(time.time())
    payload = good.split(".")[1]
    cases = {
        "garbage": ("abc", "token_malformed"),
        "a part too few": (good.rpartition(".")[0], "token_malformed"),
        "another signature": (good[:-4] + ("AAAA" if good[-4:] != "AAAA" else "BBBB"), "token_signature"),
        "another secret": (jwt.encode({"user_id": "a", "expires": now + 60}, "x" * 64, "HS256"), "token_signature"),
        "HS512": (jwt.encode({"user_id": "a", "expires": now + 60}, world.secret, "HS512"), "token_key_unknown"),
        "none": (f"eyJhbGciOiJub25lIn0.{payload}.", "token_malformed"),
        "an exp that is over": (world.token(exp=now - 60), "token_expired"),
        "an audience": (world.token(aud="students"), "token_audience"),
        "no expires": (world.token(expires=None), "token_malformed"),
        "expires as text": (world.token(expires=str(now + 60)), "token_malformed"),
        "nbf to come": (world.token(nbf=now + 600), "token_not_yet_valid"),
    }
    requests = {}
    for what, (token, code) in cases.items():
        assert send(world.app.port, "GET", "/student/", bearer(token)).status == 500, what
        answer = send(world.gate.port, "GET", "/student/", bearer(token))
        assert_refused(answer, 401, code)
        requests[what] = answer.header("X-Request-Id")
    for what, request in requests.items():
        assert world.gate.access_line(request).get("upstream.name") is None, what
    # A null is an error 500 there too, though of another kind.
    assert_refused(send(world.gate.port, "GET", "/student/", bearer(jwt.encode({"user_id": "a", "expires": None}, world.secret, "HS256"))), 401, "token_malformed")


def test_what_it_would_take_is_refused_where_it_is_not_its_own_users_token(world):
    """The application takes any token of its secret: the gateway asks for an expiry and a user, and for no other issuer."""
    now = int(time.time())
    assert send(world.app.port, "GET", "/student/", bearer(world.token(user_id=None))).status == 200
    assert_refused(send(world.gate.port, "GET", "/student/", bearer(world.token(user_id=None))), 401, "token_malformed")
    for issuer in ("students", "https://sso.example.org", ""):
        token = world.token(iss=issuer)
        assert send(world.app.port, "GET", "/student/", bearer(token)).status == 200
        assert_refused(send(world.gate.port, "GET", "/student/", bearer(token)), 401, "token_issuer")
    expired = world.token(expires=now - 600.5)
    direct = send(world.app.port, "GET", "/student/", bearer(expired))
    assert (direct.status, direct.json()) == (403, {"detail": "Invalid token or expired token"})
    assert_refused(send(world.gate.port, "GET", "/student/", bearer(expired)), 401, "token_expired")


def test_the_application_finds_its_bearer_however_the_client_wrote_it(world):
    token = world.token()
    lower = {"Authorization": f"bearer {token}"}
    assert send(world.app.port, "GET", "/student/", lower).status == 403, "it wants a capital letter"
    assert send(world.gate.port, "GET", "/student/", lower).status == 200
    for headers in ({}, {"Authorization": "Basic YTpi"}):
        assert send(world.app.port, "GET", "/student/", headers).status in (401, 403), "403 before FastAPI 0.122"
        assert send(world.gate.port, "GET", "/student/", headers).status == 401


def test_a_weak_secret_is_told_at_start_and_only_taken_where_it_is_allowed(world, tmp_path):
    warnings = [line["message"] for line in world.gate.log() if line["level"] == "WARN"]
    weak = [line for line in warnings if "is weak" in line]
    assert len(weak) == (0 if world.secret == SECRETS["strong"] else 2), warnings
    if world.secret == SECRETS["sample"]:
        assert world.secret not in world.gate.log_file.read_text()
    file = tmp_path / "tollgate.toml"
    file.write_text(world.gate.config.read_text().replace("allow_weak_secret = true\n", ""))
    checked = tollgate("check", "-c", file, environment={"STUDENTS_SECRET": world.secret})
    assert checked.returncode == (0 if world.secret == SECRETS["strong"] else 1), checked
