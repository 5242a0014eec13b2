"""What the README and the demo tell a newcomer to type does what they say."""

import json
import os
import re
import signal
import socket
import subprocess
import sys

import jwt
import pytest

from support.http import assert_refused, bearer, send
from support.people import hashes
from support.processes import ROOT, eventually, free_port, gateway_program, tollgate

CUT = "--- the next line of the demo ---"
README = ROOT / "README.md"


class Demo:
    """`tollgate demo --port 0`: what it prints, until it is stopped."""

    def __init__(self, folder):
        self.output = folder / "demo.out"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [gateway_program(), "demo", "--port", "0"], stdout=output, stderr=subprocess.STDOUT, cwd=folder
            )
        eventually("the demo to print curl lines and to answer", self.ready, 60)

    def ready(self):
        assert self.process.poll() is None, self.output.read_text()
        return any(line.startswith("Press") or "Ctrl-C" in line for line in self.text().splitlines()) and self.commands()

    def text(self):
        return self.output.read_text()

    def commands(self):
        """What a person would copy, each with the comment above it."""
        return re.findall(r"^# (.*)\n((?:curl |\w+=).*)$", self.text(), re.MULTILINE)

    def fill_in(self, text):
        """The README's demo listens on the default port, and `PASSWORD` stands there for the one that is printed."""
        url = re.search(r"^gateway +(\S+)$", self.text(), re.MULTILINE)[1]
        password = re.search(r"^user .* password (\S+)$", self.text(), re.MULTILINE)[1]
        return text.replace("http://127.0.0.1:8080", url).replace("PASSWORD", password)

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(20) == 0


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """One demo for the tests of this module."""
    demo = Demo(tmp_path_factory.mktemp("demo"))
    yield demo
    demo.stop()


def run(script, folder):
    """Runs a script as a person's shell would, with the status of each curl beside what it printed."""
    # curl is the real one; the function only asks it to also write down the status.
    head = 'curl() { command curl --max-time 60 -w "%{stderr}status=%{http_code}\\n" "$@" 2>> statuses; }\n'
    done = subprocess.run(["bash", "-c", head + script], cwd=folder, capture_output=True, text=True, timeout=300)
    statuses = re.findall(r"status=(\d+)", (folder / "statuses").read_text())
    return done, [int(status) for status in statuses]


def test_the_lines_of_the_demo_run_as_printed(demo, tmp_path):
    commands = demo.commands()
    # In one shell, as a person pastes them; a line between them keeps their output apart.
    done, statuses = run(f"\necho; echo {CUT}\n".join(command for _, command in commands), tmp_path)
    outputs = done.stdout.split(f"\n{CUT}\n")
    assert len(statuses) == len(outputs) == len(commands) >= 6, (commands, statuses, done)
    for (purpose, command), status, output in zip(commands, statuses, outputs, strict=True):
        told = re.search(r": (\d{3})$", purpose)
        assert status in ([int(told[1])] if told else [200, 206]), (purpose, command, status, output)
        assert output.strip() or command.startswith("TOKEN="), (purpose, command, "printed nothing")
    assert set(statuses) == {200, 206, 401, 403}
    for told in ("token_missing", "scope_missing"):
        assert f'"code":"{told}"' in done.stdout, done
    assert re.search(r'"(subject|user)": ?"', done.stdout), "a service or `me` says who asks"


def test_the_demo_says_what_it_is_and_stays_on_loopback(demo):
    assert "demo" in demo.text().lower()
    addresses = re.findall(r"https?://([\w.\[\]:]+?):\d+", demo.text())
    assert addresses and set(addresses) <= {"127.0.0.1", "localhost"}, addresses


def blocks_of_the_demo():
    """The fenced `sh` blocks that the README marks as lines to type while the demo runs:
    `<!-- runs against the demo -->` stands on the line before the fence."""
    return re.findall(r"<!-- runs against the demo -->\n+```sh\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_commands_of_the_readme_run_as_printed(demo, tmp_path):
    blocks = blocks_of_the_demo()
    assert blocks, "README.md marks no ```sh block with `<!-- runs against the demo -->`"
    script = demo.fill_in("\n".join(blocks))
    done, statuses = run(script, tmp_path)
    assert done.returncode == 0 and statuses, done
    assert set(statuses) <= {200, 206, 401, 403} and 200 in statuses, (script, statuses, done)


def test_the_readme_names_the_two_commands():
    text = README.read_text()
    assert "cargo run --release -- demo" in text
    assert "scripts/test" in text


def configurations_of_the_readme():
    """The ```toml blocks that the README marks with `<!-- a whole configuration -->`."""
    found = re.findall(r"<!-- a whole configuration -->\n+```toml\n(.*?)```", README.read_text(), re.DOTALL)
    assert found, "README.md marks no ```toml block with `<!-- a whole configuration -->`"
    return found


def python_of_the_readme(part):
    """The one ```python block that has this part."""
    (block,) = (text for text in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if part in text)
    return block


def test_every_configuration_in_the_readme_is_accepted(tmp_path):
    """A variable of the environment that one names holds a database's address if it is called so, and a secret otherwise."""
    for configuration in configurations_of_the_readme():
        file = tmp_path / "readme.toml"
        file.write_text(configuration)
        named = re.findall(r'env = "(\w+)"', configuration)
        uri = "mongodb://127.0.0.1:27017/app"
        environment = {name: uri if "URL" in name or "URI" in name else "a-secret-of-the-readme-" * 3 for name in named}
        done = tollgate("check", "-c", file, environment=environment)
        assert done.returncode == 0, done


@pytest.fixture
def readme_application(tmp_path):
    """The FastAPI application of the README's five minutes, behind uvicorn as a person starts it; its address."""
    (tmp_path / "readme_app.py").write_text(python_of_the_readme("class Caller"))
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "readme_app:app", "--port", str(port), "--log-level", "warning"]
    process = subprocess.Popen(command, cwd=tmp_path)
    try:
        eventually("uvicorn to listen", lambda: process.poll() is not None or listens(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_five_minutes_of_the_readme_protect_its_application(readme_application, mongod, database, gateway):
    names = {"mongodb://127.0.0.1:27017/science": mongod.uri(database.name), "http://127.0.0.1:9001": readme_application}
    config = configurations_of_the_readme()[0]
    for name, instead in names.items():
        assert name in config, f"the first configuration of the README names {name}"
        config = config.replace(name, instead)
    server = gateway(config + '\n[server]\nlisten = ["127.0.0.1:0"]\n[admin]\nlisten = "127.0.0.1:0"\n')
    ada = database.users.insert_one({"username": "ada", "name": "Ádá", "password": hashes.hash("correct horse")}).inserted_id

    login = "curl -s http://127.0.0.1:8080/auth/login -d username=ada -d password='correct horse'"
    assert login in README.read_text(), "the README tells how to log in"
    done = subprocess.run(login.replace("http://127.0.0.1:8080", server.url), shell=True, capture_output=True, timeout=120)
    token = json.loads(done.stdout)["access_token"]
    assert send(server.port, "GET", "/measurements", bearer(token)).json() == {"asked_by": str(ada), "name": "Ádá"}
    assert_refused(send(server.port, "GET", "/measurements"), 401, "token_missing")
    for public in ["/docs", "/openapi.json"]:
        assert send(server.port, "GET", public).status == 200
    directly = send(int(readme_application.rsplit(":", 1)[1]), "GET", "/measurements")
    assert directly.status == 401, "not through the gateway"


REPLAYED = r"<!-- a decision, replayed -->\n+```sh\n(.*?)```\n+```text\n(.*?)```"
# The names of its keys and the moments differ from run to run.
VARYING = r"\d{4}-\d\d-\d\dT[\d:]+Z|`[\w-]{43}`"


def test_the_decision_that_the_readme_shows_is_explained_so(tmp_path):
    (command, expected) = re.search(REPLAYED, README.read_text(), re.DOTALL).groups()
    key = tmp_path / "signing.pem"
    assert tollgate("key", "generate", "--out", key).returncode == 0
    file = tmp_path / "tollgate.toml"
    file.write_text(EXPLAINED)
    path = f"{gateway_program().parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=tmp_path,
        env={"PATH": path, "TOLLGATE_CONFIG": "tollgate.toml"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done
    assert re.sub(VARYING, "…", done.stdout) == re.sub(VARYING, "…", expected)


EXPLAINED = """
[tokens]
key = { file = "signing.pem" }

[upstreams.app]
servers = ["http://127.0.0.1:9001"]

[[routes]]
path = "/{*rest}"
upstream = "app"

[[routes]]
name = "datasets"
path = "/datasets/{id}"
methods = ["GET"]
upstream = "app"
scopes = ["read:datasets"]
"""


# As if the access token had expired: the gateway answers 401, and the client has to refresh by its cookie, without that token.
NEXT_TOKEN = """
gateway.headers["Authorization"] = "Bearer a.b.c"
print(gateway.get("/datasets/co2").json()["title"])
"""
OVER = """
assert gateway.post("/auth/logout", json={}).json() == {"sessions_ended": 1}
print("ended")
gateway.get("/datasets/co2")
"""


def test_the_python_clients_of_the_readme_work(demo, tmp_path):
    client = demo.fill_in(python_of_the_readme("import requests"))
    (tmp_path / "client.py").write_text(client + NEXT_TOKEN + OVER)
    done = subprocess.run([sys.executable, "client.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    title, refreshed, *told = done.stdout.splitlines()
    assert title and refreshed == title, done
    assert done.returncode == 1 and told == ["ended"] and "PermissionError: refresh_invalid" in done.stderr, done

    login = demo.fill_in("username=ada&password=PASSWORD").encode()
    port = int(demo.fill_in("http://127.0.0.1:8080").rsplit(":", 1)[1])
    answer = send(port, "POST", "/auth/login", {"Content-Type": "application/x-www-form-urlencoded"}, login)
    token = answer.json()["access_token"]
    known = {}
    exec(demo.fill_in(python_of_the_readme("def claims_of")), known)
    assert known["claims_of"](token)["name"]
    with pytest.raises(jwt.InvalidSignatureError):
        known["claims_of"](token.rsplit(".", 1)[0] + "." + "A" * 86)
