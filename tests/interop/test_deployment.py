"""The container and the systemd unit, by what can be seen of them without an engine and without a running systemd."""

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

from support.config import base, route, upstream
from support.http import bearer, log_in, send
from support.processes import ROOT, eventually, free_port, gateway_program, tollgate

UNIT = ROOT / "contrib" / "systemd" / "tollgate.service"
DOCKERFILE = ROOT / "Dockerfile"
# systemd's own word for 2 and less is OK; the unit has 1.2.
MOST_EXPOSURE = 1.5


def test_every_line_of_the_dockerfile_is_carried_out_by_the_container_check():
    """The check reads the file itself; here its reading is held against a simpler one, line by line."""
    done = subprocess.run([ROOT / "scripts" / "container-check", "--plan"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done
    planned = [line.split(" ", 2) for line in done.stdout.splitlines()]
    steps = {(int(number), keyword): rest for number, keyword, rest in planned}
    written = DOCKERFILE.read_text().splitlines()
    begins = [(number, line.split()[0]) for number, line in enumerate(written, 1) if re.match(r"[A-Z]+ ", line)]
    assert sorted(steps) == sorted(begins)
    assert [keyword for _, keyword in begins].count("COPY") >= 5 and [keyword for _, keyword in begins].count("RUN") >= 2
    for (number, keyword), step in steps.items():
        assert step.endswith(f": do_{keyword.lower()}"), (number, keyword, step)


def test_the_dockerfile_copies_what_the_build_needs():
    """Every file that Cargo.toml names and every file that the source includes is in a COPY that .dockerignore lets through."""
    sources = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
    copied = [word for line in sources for word in line.split()]
    metadata = subprocess.run(
        ["cargo", "metadata", "--locked", "--no-deps", "--format-version=1"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (package,) = json.loads(metadata.stdout)["packages"]
    named = {str(Path(target["src_path"]).relative_to(ROOT)) for target in package["targets"] if "test" not in target["kind"]}
    for source in (ROOT / "src").rglob("*.rs"):
        if source.name != "tests.rs" and "tests" not in source.parent.parts:
            for included in re.findall(r'include_(?:str|bytes)!\("([^"]+)"\)', source.read_text()):
                named.add(str((source.parent / included).resolve().relative_to(ROOT)))
    assert len(named) >= 6, named
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for file in named:
        assert any(file == word or file.startswith(f"{word}/") for word in copied), f"no COPY brings {file}"
        assert any(re.fullmatch(line[1:].replace(".", r"\.").replace("*", "[^/]*") + "(/.*)?", file) for line in ignored if line.startswith("!")), file


def test_the_image_runs_without_root_and_says_when_it_is_ill():
    """Who it runs as, how it is asked, how it is stopped."""
    text = DOCKERFILE.read_text()
    final = text[text.rindex("\nFROM ") :]
    user = re.search(r"^USER (\d+):(\d+)$", final, re.MULTILINE)
    assert user and int(user[1]) > 0 and int(user[2]) > 0
    assert 'CMD ["/usr/local/bin/tollgate", "healthcheck"]' in final and "\nSTOPSIGNAL SIGTERM\n" in final
    # The probe gives up before the engine does.
    assert int(re.search(r"--timeout=(\d+)s", final)[1]) > 3
    assert "COPY . " not in text


def unit() -> dict[str, list[str]]:
    """The settings of the unit; a name may be there several times."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    assert shutil.which("systemd-analyze"), "no systemd-analyze: apt-get install systemd"
    return subprocess.run(["systemd-analyze", *map(str, arguments)], capture_output=True, text=True, timeout=60)


def test_systemd_takes_the_unit_and_finds_little_to_expose(tmp_path):
    """`verify` with the program at a place where it is; `security` gives the score."""
    program = tmp_path / "tollgate"
    program.symlink_to(gateway_program())
    copy = tmp_path / "tollgate.service"
    copy.write_text(UNIT.read_text().replace("/usr/local/bin/tollgate", str(program)))
    done = analyze("verify", "--man=no", copy)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done
    copy.write_text(copy.read_text().replace("ProtectHome=", "ProtectHoem="))
    assert "ProtectHoem" in analyze("verify", "--man=no", copy).stderr, "a wrong key would be found"
    done = analyze("security", "--offline=true", "--no-pager", UNIT)
    score = float(re.search(r"Overall exposure level for tollgate\.service: ([\d.]+)", done.stdout)[1])
    print(done.stdout.splitlines()[-1])
    assert score <= MOST_EXPOSURE, done.stdout


def test_the_unit_gives_a_drain_time_to_end_and_connections_their_descriptors():
    """Longer than `drain_timeout` and a little; twice `max_connections` and 128."""
    settings = unit()
    server = json.loads(tollgate("config", "show", "--json", "-c", ROOT / "config" / "minimal.toml").stdout)["server"]
    assert int(settings["TimeoutStopSec"][0]) > int(server["drain_timeout"].removesuffix("s")) + 1
    assert int(settings["LimitNOFILE"][0]) >= 2 * server["max_connections"] + 128
    assert "ExecReload" not in settings, "a changed file is not read again"


def calls_of(group: str) -> set[str]:
    """The system calls of one of systemd's groups, those of the groups in it included."""
    calls: set[str] = set()
    for line in analyze("syscall-filter", group).stdout.splitlines()[1:]:
        word = line.strip()
        if word and not word.startswith("#"):
            calls |= calls_of(word) if word.startswith("@") else {word}
    return calls


def allowed_calls() -> set[str]:
    """What the lines of `SystemCallFilter` leave, in their order."""
    allowed: set[str] = set()
    for line in unit()["SystemCallFilter"]:
        for group in line.lstrip("~").split():
            allowed = allowed - calls_of(group) if line.startswith("~") else allowed | calls_of(group)
    return allowed


def test_the_unit_allows_every_system_call_that_the_program_makes(tmp_path, echo, mongod, database):
    """Traced from start to end, through a start, logins, forwarding, health and a drain, with both stores."""
    assert shutil.which("strace"), "no strace: apt-get install strace"
    allowed = allowed_calls()
    assert {"sched_setscheduler", "setpriority"} <= allowed and "mount" not in allowed and "setuid" not in allowed
    for name, store in (("sqlite", None), ("mongodb", mongod.uri(database.name))):
        folder = tmp_path / name
        folder.mkdir()
        used, sockets, trace = traced(folder, base(folder, store) + upstream("app", echo.url) + route("/{*rest}", "app"))
        assert len(used) >= 40, used
        assert "sched_setscheduler" in used and "setpriority" in used, "the hashing threads give way"
        # SQLite gives its files to their owner only where root runs it, as the tests may.
        denied = used - allowed - ({"fchown"} if os.geteuid() == 0 else set())
        assert not denied, f"{name}: the unit denies {denied}"
        assert sockets <= {family for line in unit()["RestrictAddressFamilies"] for family in line.split()}, sockets
        # MemoryDenyWriteExecute
        assert not re.search(r"PROT_[A-Z|_]*WRITE\|PROT_EXEC", trace)


def traced(folder: Path, config: str) -> tuple[set[str], set[str], str]:
    """The system calls and the address families of a whole life of the gateway."""
    public, admin = free_port(), free_port()
    config = config.replace('"127.0.0.1:0"]', f'"127.0.0.1:{public}"]').replace('"127.0.0.1:0"', f'"127.0.0.1:{admin}"')
    file = folder / "tollgate.toml"
    file.write_text(config)
    trace = folder / "trace"
    process = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", trace, gateway_program(), "run", "-c", file],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually("the traced gateway", lambda: tollgate("healthcheck", "-c", file).returncode == 0, 60)
        tollgate("user", "add", "-c", file, "ada", "--password-stdin", stdin="correct horse battery")
        token = log_in(public, "ada", "correct horse battery")
        assert send(public, "GET", "/echo/x", bearer(token)).status == 200
        assert send(public, "POST", "/echo/x", bearer(token), body=b"x" * 100_000).status == 200
        assert send(admin, "GET", "/metrics").status == 200
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    text = trace.read_text()
    sockets = set(re.findall(r"socket\((AF_\w+)", text))
    return set(re.findall(r"^\d+ +(\w+)\(", text, re.MULTILINE)), sockets, text
