"""Child processes: a mongod, an application of this folder, the gateway. Each takes a free port and is stopped by its id."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pymongo

INTEROP = Path(__file__).resolve().parent.parent
ROOT = INTEROP.parent.parent
AUDIT = "tollgate::audit"


def eventually(what, probe, seconds=20.0):
    """The first true value of `probe()`; a failure that says `what` was waited for after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s for {what}")
        time.sleep(0.02)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Mongod:
    """A replica set of one, as the driver's transactions and write concerns want it."""

    def __init__(self, folder: Path):
        program = os.environ.get("TOLLGATE_TEST_MONGOD") or shutil.which("mongod")
        assert program, "no mongod: set TOLLGATE_TEST_MONGOD, or use scripts/test, which brings one"
        self.port = free_port()
        self.folder = folder
        (folder / "data").mkdir(parents=True)
        self.process = subprocess.Popen(
            [program, "--dbpath", folder / "data", "--logpath", folder / "mongod.log", "--port", str(self.port)]
            + ["--bind_ip", "127.0.0.1", "--replSet", "rs0", "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )
        direct = pymongo.MongoClient("127.0.0.1", self.port, directConnection=True, serverSelectionTimeoutMS=20_000)
        members = [{"_id": 0, "host": f"127.0.0.1:{self.port}"}]
        direct.admin.command("replSetInitiate", {"_id": "rs0", "members": members})
        eventually("the primary of the replica set", lambda: direct.admin.command("hello")["isWritablePrimary"])
        direct.close()
        self.client = pymongo.MongoClient(self.uri(""), uuidRepresentation="standard")

    def uri(self, database):
        return f"mongodb://127.0.0.1:{self.port}/{database}?replicaSet=rs0"

    def kill(self):
        # Closing says good-bye to the server, and waits for it half a minute when it is gone.
        self.client.close()
        self.process.kill()
        self.process.wait(20)

    def stop(self):
        self.client.close()
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)


class Application:
    """A module of support/ that serves HTTP and prints its port in its first line."""

    def __init__(self, module, *arguments):
        command = [sys.executable, "-m", f"support.{module}", *arguments]
        self.process = subprocess.Popen(command, cwd=INTEROP, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line.strip().isdigit(), f"support.{module} did not start, see its error above"
        self.port = int(line)
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self):
        self.process.terminate()
        self.process.wait(20)
        self.process.stdout.close()


def gateway_program():
    program = Path(os.environ.get("TOLLGATE_BIN") or ROOT / "target" / "debug" / "tollgate")
    assert program.is_file(), f"no program at {program}: run `cargo build`, or set TOLLGATE_BIN"
    return program


def tollgate(*arguments, stdin="", environment=None, timeout=60):
    """Runs a command of the program to its end."""
    return subprocess.run(
        [gateway_program(), *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **(environment or {})},
    )


class Gateway:
    """`tollgate run -c FILE`. Its log (stderr) and its access lines (stdout) are JSON lines in files."""

    def __init__(self, folder: Path, config: str, environment=None, wait=True):
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "tollgate.toml"
        self.config.write_text(config)
        self.log_file, self.access_file = folder / "stderr.log", folder / "stdout.log"
        with self.log_file.open("wb") as stderr, self.access_file.open("wb") as stdout:
            self.process = subprocess.Popen(
                [gateway_program(), "run", "-c", self.config],
                stdout=stdout,
                stderr=stderr,
                cwd=folder,
                env={**os.environ, **(environment or {})},
            )
        if wait:
            self.wait_until_listening()

    def wait_until_listening(self):
        addresses = {}

        def found():
            if self.process.poll() is not None:
                raise AssertionError(f"the gateway ended with {self.process.returncode}:\n{self.log_file.read_text()}")
            try:
                lines = self.log()
            except json.JSONDecodeError:
                return False  # The problems of the file, which are for people: the process is about to end.
            for line in lines:
                for name in ("listen.addr", "admin.addr"):
                    if name in line:
                        addresses[name] = int(re.search(r":(\d+)\D*$", str(line[name]))[1])
            return len(addresses) == 2

        eventually("`Listening` with listen.addr and admin.addr in the log", found)
        self.port, self.admin_port = addresses["listen.addr"], addresses["admin.addr"]
        self.url, self.admin_url = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.admin_port}"

    def log(self):
        """Complete lines of the log but those of the audit, with the fields of the event beside `message`."""
        lines = [{**line, **line.get("fields", {})} for line in json_lines(self.log_file)]
        return [line for line in lines if line["target"] != AUDIT]

    def audit(self):
        """Complete lines of the audit, where `log.audit` is "log"."""
        return [line for line in json_lines(self.log_file) if line["target"] == AUDIT]

    def access_lines(self):
        return json_lines(self.access_file)

    def access_line(self, request_id):
        """The access line of that request, which is written when its body has ended."""
        lines = lambda: [line for line in self.access_lines() if line["request.id"] == request_id]
        (line,) = eventually(f"the access line of {request_id}", lines)
        return line

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def wait(self, seconds=40):
        return self.process.wait(seconds)

    def stop(self):
        """Must end by itself and well; a test that ended it another way has waited for it already."""
        if self.process.poll() is not None:
            return
        self.signal()
        try:
            status = self.wait()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the gateway did not end after SIGTERM") from None
        assert status == 0, f"the gateway ended with {status} after SIGTERM:\n{self.log_file.read_text()[-3000:]}"


def json_lines(path: Path):
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    return [json.loads(line) for line in whole.splitlines()]
