"""What the README and the demo tell a newcomer to type does what they say."""

import re
import signal
import subprocess

import pytest

from support.processes import ROOT, eventually, gateway_program

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
        """What a person would copy: lines that are commands once the indentation and a `$` prompt are off, with their
        continuations after a backslash."""
        commands, continued = [], False
        for line in self.text().splitlines():
            line = line.strip().removeprefix("$ ")
            if continued:
                commands[-1] += "\n" + line
            elif re.match(r"(curl |[A-Za-z_]+=)", line):
                commands.append(line)
            else:
                continue
            continued = line.endswith("\\")
        return commands

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
    done, statuses = run("\n".join(commands), tmp_path)
    curls = sum(len(re.findall(r"\bcurl ", command)) for command in commands)
    assert len(statuses) == curls >= 4, (commands, statuses, done)
    assert statuses[0] == 200, "the first line logs in"
    assert {200, 401, 403} <= set(statuses) <= {200, 206, 401, 403}, list(zip(commands, statuses, strict=False))
    for code in ("token_missing", "scope_missing"):
        assert code in done.stdout, done


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
    url = re.search(r"http://127\.0\.0\.1:\d+", "\n".join(demo.commands()))[0]
    # The README's demo listens on the default port, and `PASSWORD` stands there for the one that is printed.
    password = re.search(r"""password["'=:\s]+([^"'&\s}]+)""", "\n".join(demo.commands()))[1]
    script = "\n".join(blocks).replace("http://127.0.0.1:8080", url).replace("PASSWORD", password)
    done, statuses = run(script, tmp_path)
    assert done.returncode == 0 and statuses, done
    assert set(statuses) <= {200, 206, 401, 403} and 200 in statuses, (script, statuses, done)


def test_the_readme_names_the_two_commands():
    text = README.read_text()
    assert "cargo run --release -- demo" in text
    assert "scripts/test" in text


def test_every_configuration_in_the_readme_is_accepted(tmp_path):
    """A ```toml block that the README marks with `<!-- a whole configuration -->`."""
    configurations = re.findall(r"<!-- a whole configuration -->\n+```toml\n(.*?)```", README.read_text(), re.DOTALL)
    assert configurations, "README.md marks no ```toml block with `<!-- a whole configuration -->`"
    for configuration in configurations:
        file = tmp_path / "readme.toml"
        file.write_text(configuration)
        done = subprocess.run([gateway_program(), "check", "-c", file], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done
