"""A mongod that a test may kill, stop and start again on the same port, with options of its own."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pymongo
from pymongo.errors import PyMongoError

from .processes import eventually, free_port

TEST_COMMANDS = ("--setParameter", "enableTestCommands=1")


class Standalone:
    """One mongod without a replica set. `options` are of the program, `connection` of the client that the test uses."""

    def __init__(self, folder: Path, *options: str, **connection):
        self.program = os.environ.get("TOLLGATE_TEST_MONGOD") or shutil.which("mongod")
        assert self.program, "no mongod: set TOLLGATE_TEST_MONGOD, or use scripts/test, which brings one"
        self.folder, self.port, self.connection = folder, free_port(), connection
        (folder / "data").mkdir(parents=True)
        self.process = None
        self.start(*options)

    def start(self, *options: str):
        self.process = subprocess.Popen(
            [self.program, "--dbpath", self.folder / "data", "--logpath", self.folder / "mongod.log", "--logappend"]
            + ["--port", str(self.port), "--bind_ip", "127.0.0.1", "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"]
            + list(options),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )
        eventually("mongod to answer", self.answers, 60)

    def client(self, **options) -> pymongo.MongoClient:
        options = {"directConnection": True, "serverSelectionTimeoutMS": 2000, **self.connection, **options}
        return pymongo.MongoClient("127.0.0.1", self.port, **options)

    def answers(self) -> bool:
        assert self.process.poll() is None, (self.folder / "mongod.log").read_text()[-2000:]
        with self.client(serverSelectionTimeoutMS=200, username=None) as client:
            try:
                return bool(client.admin.command("ping")["ok"])
            except PyMongoError:
                return False

    def uri(self, database: str, options: str = "", credentials: str = "", port: int | None = None) -> str:
        return f"mongodb://{credentials}127.0.0.1:{port or self.port}/{database}{options}"

    def kill(self):
        self.process.kill()
        self.process.wait(20)

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def stop(self):
        if self.process.poll() is None:
            self.resume()
            self.kill()
