"""The folders of examples/: the lines of each README, typed as they stand, print what stands below them.

A block is marked on the line before it: `<!-- run -->` runs to its end, and a ```text block after it is what it prints, where `…`
stands for anything; `<!-- background -->` goes on in a terminal of its own.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.processes import ROOT, free_port, gateway_program

EXAMPLES = ROOT / "examples"
BLOCK = re.compile(r"<!-- (run|background) -->\n```sh\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)
CUT = "--- the next block ---"
HEAD = """
set -u
log=0
# Starts a command as in a terminal of its own, and waits until it listens.
background() {
    log=$((log + 1))
    "${@:2}" > "background-$log.log" 2>&1 &
    for _ in $(seq 600); do
        (: < "/dev/tcp/127.0.0.1/$1") 2> /dev/null && return
        kill -0 $! 2> /dev/null || break
        sleep 0.05
    done
    cat "background-$log.log" >&2
    exit 70
}
# Everything that was started ends by itself, and well; the shell of uvicorn gives a signal's number.
finish() {
    local status=$?
    for pid in $(jobs -p); do
        kill "$pid" && wait "$pid"
        case $? in 0 | 143) ;; *) status=71 ;; esac
    done
    exit $status
}
trap finish EXIT
"""


class Example:
    """A copy of one folder, on free ports, and what its README tells to type."""

    def __init__(self, name: str, folder: Path, mongod_port: int):
        self.folder = folder / name
        # Two levels down, as in the project, so that the line that names the schema stays right.
        shutil.copytree(EXAMPLES / name, self.folder)
        self.ports = {"8080": free_port(), "9001": free_port(), "9090": free_port(), "27017": mongod_port}
        for file in self.folder.rglob("*"):
            if file.is_file():
                file.write_text(self.on_free_ports(file.read_text()))
        self.blocks = BLOCK.findall((self.folder / "README.md").read_text())

    def on_free_ports(self, text: str) -> str:
        return re.sub(r"\b(8080|9001|9090|27017)\b", lambda port: str(self.ports[port[1]]), text)

    def script(self) -> str:
        """All blocks in one shell, so that variables and functions stay."""
        parts = []
        for kind, commands, _ in self.blocks:
            if kind == "background":
                port = self.ports["8080" if commands.startswith("tollgate run") else "9001"]
                parts.append(f"background {port} {commands.strip()}")
            else:
                parts.append(f"{commands}\necho; echo '{CUT}'")
        return HEAD + "\n".join(parts)

    def run(self) -> list[str]:
        """What each block that runs to its end has printed."""
        programs = self.folder.parent / "bin"
        programs.mkdir()
        (programs / "tollgate").symlink_to(gateway_program().resolve())
        path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
        environment = {**os.environ, "PATH": path, "NOTES_DATABASE": f"mongodb://127.0.0.1:{self.ports['27017']}/notes"}
        done = subprocess.run(
            ["bash", "-c", self.script()], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout.split(f"\n{CUT}\n")[:-1]


def matches(expected: str, printed: str) -> bool:
    """Line for line; `…` is anything within a line."""
    pattern = "\n".join(".*".join(map(re.escape, line.split("…"))) for line in expected.strip().splitlines())
    return re.fullmatch(pattern, printed.strip()) is not None


def check(example: Example) -> None:
    """Every block prints what its README says; one without such a text may print anything."""
    told = [expected for kind, _, expected in example.blocks if kind == "run"]
    printed = example.run()
    assert len(printed) == len(told) and sum(map(bool, told)) >= 3, (told, printed)
    for expected, text in zip(told, printed, strict=True):
        assert not expected or matches(expected, text), f"expected:\n{expected}\nprinted:\n{text}"


def test_the_fastapi_example_runs_as_its_readme_says(tmp_path, mongod):
    """Beanie's people log in, and the application is told who asks."""
    mongod.client.drop_database("notes")
    check(Example("fastapi-mongodb", tmp_path, mongod.port))
    mongod.client.drop_database("notes")


def test_the_static_files_example_runs_as_its_readme_says(tmp_path):
    """nginx serves; a download goes on where it broke off."""
    assert shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"), "no nginx: apt-get install nginx-light"
    check(Example("static-files", tmp_path, 0))


def test_the_second_issuer_example_runs_as_its_readme_says(tmp_path):
    """PyJWT signs in the name of two issuers; neither can sign in the name of the other."""
    check(Example("second-issuer", tmp_path, 0))


def test_every_example_is_listed_and_whole():
    """A folder has a README that the list names, and a configuration."""
    folders = [folder for folder in EXAMPLES.iterdir() if folder.is_dir()]
    listed = re.findall(r"^- \[[\w-]+\]\(([\w-]+)/README\.md\)", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert sorted(folder.name for folder in folders) == sorted(listed)
    for folder in folders:
        assert (folder / "tollgate.toml").is_file() and (folder / "README.md").is_file(), folder
        for link in re.findall(r"\]\(([^)#:]+)\)", (folder / "README.md").read_text()):
            assert (folder / link).exists(), (folder, link)


@pytest.mark.parametrize(("expected", "printed", "fits"), [("a …\nb", "a x y\nb\n", True), ("a …", "a x\nb", False), ("a", "b", False)])
def test_an_output_that_differs_is_found(expected, printed, fits):
    """The rule by which the tests above judge."""
    assert matches(expected, printed) == fits
