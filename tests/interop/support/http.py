"""HTTP as it stands on the wire: the target, the header spellings and the framing are the test's own."""

import dataclasses
import http.client
import json


@dataclasses.dataclass
class Answer:
    """A response, its headers as a list in their order, because some occur twice."""

    status: int
    reason: str
    headers: list
    body: bytes

    def header(self, name):
        """The one header of that name. `None`: absent."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} occurs {len(values)} times: {values}"
        return values[0] if values else None

    def all(self, name):
        return [value for found, value in self.headers if found.lower() == name.lower()]

    def json(self):
        return json.loads(self.body)


def send(port, method, target, headers=(), body=None, host="science.example.org", timeout=120):
    """Sends exactly these bytes as the target and the headers; only Host and the framing are added where missing."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        headers = list(headers.items()) if isinstance(headers, dict) else list(headers)
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        names = {name.lower() for name, _ in headers}
        if host is not None and "host" not in names:
            connection.putheader("Host", host)
        chunked = body is not None and not isinstance(body, bytes)
        if chunked:
            connection.putheader("Transfer-Encoding", "chunked")
        elif (body is not None or method in ("POST", "PUT", "PATCH")) and "content-length" not in names:
            connection.putheader("Content-Length", str(len(body or b"")))
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders(body, encode_chunked=chunked)
        response = connection.getresponse()
        return Answer(response.status, response.reason, response.getheaders(), response.read())
    finally:
        connection.close()


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def send_json(port, target, value, headers=None, method="POST"):
    body = json.dumps(value).encode()
    return send(port, method, target, {"Content-Type": "application/json", **(headers or {})}, body)


def log_in(port, username, password):
    """An access token, by the native login."""
    answer = send_json(port, "/auth/login", {"username": username, "password": password})
    assert answer.status == 200, answer
    return answer.json()["access_token"]


def assert_refused(answer, status, code):
    """A refusal as interface.md describes it: problem+json with the members that clients of all kinds read."""
    assert (answer.status, answer.json().get("code")) == (status, code), answer
    problem = answer.json()
    assert answer.header("Content-Type") == "application/problem+json"
    assert problem["type"] == f"urn:tollgate:refusal:{code}"
    assert problem["status"] == status
    assert problem["title"] and problem["detail"] == problem["message"]
    assert problem["request_id"] == answer.header("X-Request-Id")
    return problem
