"""Sessions as rows of a store, and access tokens of them that PyJWT makes with the gateway's own secret."""

import base64
import datetime
import os
import re
import sqlite3
import threading
import time
import uuid

import jwt

from .config import ENVIRONMENT, base, route, upstream
from .http import Answer, bearer, send
from .processes import eventually

ISSUER = "http://127.0.0.1:8080"


def config(store, app, revocation="", tokens="", server=""):
    """A gateway with a lenient route, `/lenient/…`, and a strict one, `/strict/…`."""
    return (
        base("{folder}", store).replace("[server]\n", f"[server]\n{server}\n")
        + f'[tokens]\nalgorithm = "HS256"\nkey = {{ env = "TOKEN_SECRET" }}\n{tokens}\n'
        + f"[revocation]\n{revocation}\n"
        + upstream("app", app.url)
        + route("/lenient/{*rest}", "app", 'rewrite = "/echo/{*rest}"')
        + route("/strict/{*rest}", "app", 'rewrite = "/echo/{*rest}"\nrevocation = "strict"')
        + route("/either/{*rest}", "app", 'rewrite = "/echo/{*rest}"\nrevocation = "strict"\nauth = "optional"')
    )


def session_id():
    return base64.urlsafe_b64encode(os.urandom(16)).rstrip(b"=").decode()


def token(sid, life=300, **changes):
    """An access token of the gateway's own of that session; a change to `None` leaves the claim out."""
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": "tollgate", "sub": "ada", "iat": now, "exp": now + life, "client_id": "tollgate"}
    claims |= {"jti": uuid.uuid4().hex, "sid": sid} | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, ENVIRONMENT["TOKEN_SECRET"], "HS256", headers={"typ": "at+jwt"})


def me(gateway, token) -> Answer:
    return send(gateway.port, "GET", "/auth/me", bearer(token))


def moment(seconds=None):
    whole = int(time.time() if seconds is None else seconds)
    return datetime.datetime.fromtimestamp(whole, datetime.timezone.utc)


class Documents:
    """Sessions in MongoDB."""

    def __init__(self, database):
        self.sessions = database.tollgate_sessions

    def begin(self, sid):
        later = moment(time.time() + 3600)
        self.sessions.insert_one(
            {"_id": sid, "subject": "ada", "login": "ada", "client_id": "tollgate", "scope": "", "counter": 0}
            | dict.fromkeys(("created_at", "used_at", "rotated_at"), moment())
            | dict.fromkeys(("expires_at", "ends_at", "purge_at"), later)
            | {"address": None, "user_agent": None, "ended_at": None, "ended_reason": None}
        )

    def end(self, sid, at=None):
        change = {"$set": {"ended_at": moment(at), "ended_reason": "revoked"}}
        assert self.sessions.update_one({"_id": sid, "ended_at": None}, change).modified_count == 1


class Rows:
    """Sessions in a SQLite file, which another process has open."""

    def __init__(self, path):
        self.path = path

    def _run(self, statement, *values):
        connection = sqlite3.connect(self.path, timeout=10)
        try:
            with connection:
                return connection.execute(statement, values).rowcount
        finally:
            connection.close()

    def begin(self, sid):
        now = int(time.time())
        columns = "id subject login client_id scope created_at used_at counter rotated_at expires_at ends_at purge_at"
        values = [raw(sid), "ada", "ada", "tollgate", "", now, now, 0, now, now + 3600, now + 3600, now + 7200]
        places = ", ".join("?" * len(values))
        self._run(f"INSERT INTO sessions ({columns.replace(' ', ', ')}) VALUES ({places})", *values)

    def end(self, sid, at=None):
        change = "UPDATE sessions SET ended_at = ?, ended_reason = 'revoked' WHERE id = ? AND ended_at IS NULL"
        assert self._run(change, int(time.time() if at is None else at), raw(sid)) == 1


def raw(sid):
    return base64.urlsafe_b64decode(sid + "==")


def times_to_refusal(sessions, gateways, tries, at_once):
    """Ends sessions, `at_once` at a time, and returns for each and each gateway how long it went on being accepted."""
    times, problems = [], []

    def play(count):
        try:
            for _ in range(count):
                sid = session_id()
                sessions.begin(sid)
                held = token(sid)
                for gateway in gateways:
                    # Verified, and then remembered.
                    assert [me(gateway, held).status for _ in range(2)] == [200, 200]
                sessions.end(sid)
                ended = time.monotonic()
                waiting = list(gateways)
                while waiting:
                    for gateway in list(waiting):
                        if me(gateway, held).status == 401:
                            times.append(time.monotonic() - ended)
                            waiting.remove(gateway)
                    assert time.monotonic() - ended < 10, "an ended session is accepted for 10 s"
                    time.sleep(0.005)
        except Exception as problem:
            problems.append(problem)

    threads = [threading.Thread(target=play, args=(tries // at_once,)) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems, problems
    return sorted(times)


def report(what, times):
    """Prints the distribution, and returns its 99th percentile in seconds."""
    rank = lambda share: times[min(len(times) - 1, int(share * len(times)))]
    print(
        f"\n{what}: {len(times)} refusals, p50 {rank(0.5) * 1000:.0f} ms, p90 {rank(0.9) * 1000:.0f} ms, "
        f"p99 {rank(0.99) * 1000:.0f} ms, max {times[-1] * 1000:.0f} ms"
    )
    return rank(0.99)


def metric(gateway, sample):
    """The value of a sample on the metrics page."""
    page = send(gateway.admin_port, "GET", "/metrics").body.decode()
    return float(re.search(rf"^{re.escape(sample)} (\S+)$", page, re.MULTILINE)[1])


def is_ready(gateway):
    return send(gateway.admin_port, "GET", "/readyz").status == 200


def until_refused(gateway, held, seconds=20.0):
    """Waits until a token is refused as that of an ended session."""
    answer = eventually("the refusal", lambda: (got := me(gateway, held)).status == 401 and got, seconds)
    assert answer.json()["code"] == "token_revoked", answer
    return answer
