"""What the README and the demo tell a newcomer to type does what they say."""

import re
import signal
import subprocess

import pytest

from support.processes import ROOT, eventually, gateway_program, tollgate

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
    # The README's demo listens on the default port, and `PASSWORD` stands there for the one that is printed.
    url = re.search(r"^gateway +(\S+)$", demo.text(), re.MULTILINE)[1]
    password = re.search(r"^user .* password (\S+)$", demo.text(), re.MULTILINE)[1]
    script = "\n".join(blocks).replace("http://127.0.0.1:8080", url).replace("PASSWORD", password)
    done, statuses = run(script, tmp_path)
    assert done.returncode == 0 and statuses, done
    assert set(statuses) <= {200, 206, 401, 403} and 200 in statuses, (script, statuses, done)


def test_the_readme_names_the_two_commands():
    text = README.read_text()
    assert "cargo run --release -- demo" in text
    assert "scripts/test" in text


def test_every_configuration_in_the_readme_is_accepted(tmp_path):
    """A ```toml block that the README marks with `<!-- a whole configuration -->`. A variable of the environment that it names
    holds a database's address if it is called so, and a secret otherwise."""
    configurations = re.findall(r"<!-- a whole configuration -->\n+```toml\n(.*?)```", README.read_text(), re.DOTALL)
    assert configurations, "README.md marks no ```toml block with `<!-- a whole configuration -->`"
    for configuration in configurations:
        file = tmp_path / "readme.toml"
        file.write_text(configuration)
        named = re.findall(r'env = "(\w+)"', configuration)
        uri = "mongodb://127.0.0.1:27017/app"
        environment = {name: uri if "URL" in name or "URI" in name else "a-secret-of-the-readme-" * 3 for name in named}
        done = tollgate("check", "-c", file, environment=environment)
        assert done.returncode == 0, done
