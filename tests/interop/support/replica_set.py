"""A replica set of three mongods, whose members a test may kill, pause and start again."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pymongo
from pymongo.errors import PyMongoError

from .databases import TEST_COMMANDS, Standalone
from .processes import eventually

OPTIONS = ("--replSet", "rs0", *TEST_COMMANDS)
PRIMARY, SECONDARY = 1, 2


class ReplicaSet:
    """Elects another primary about three seconds after one is gone, instead of the eleven that MongoDB takes by itself."""

    def __init__(self, folder: Path):
        with ThreadPoolExecutor(3) as pool:
            self.members = list(pool.map(lambda number: Standalone(folder / f"member{number}", *OPTIONS), range(3)))
        hosts = [{"_id": number, "host": f"127.0.0.1:{member.port}"} for number, member in enumerate(self.members)]
        # Members that ask each other no more often than they time out depose one another.
        settings = {"electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500}
        configuration = {"_id": "rs0", "members": hosts, "settings": settings}
        with self.members[0].client() as client:
            client.admin.command("replSetInitiate", configuration)
        self.client = pymongo.MongoClient(self.uri(""), serverSelectionTimeoutMS=30_000, w="majority")
        self.wait_until_whole()

    def uri(self, database: str) -> str:
        hosts = ",".join(f"127.0.0.1:{member.port}" for member in self.members)
        return f"mongodb://{hosts}/{database}?replicaSet=rs0"

    def primary(self) -> Standalone | None:
        """Who takes writes; of two that believe it, the one that was elected later."""
        found = []
        for member in self.members:
            hello = self._ask(member, "hello")
            if hello and hello["isWritablePrimary"]:
                found.append((hello["electionId"], member.port, member))
        return max(found)[2] if found else None

    def secondaries(self) -> list[Standalone]:
        primary = self.primary()
        return [member for member in self.members if member is not primary]

    def other_primary(self, than: Standalone, seconds: float = 60) -> float:
        """Waits until another one is primary, and returns for how long."""
        began = time.monotonic()
        eventually("another primary", lambda: self.primary() not in (None, than), seconds)
        return time.monotonic() - began

    def wait_until_whole(self):
        """Until there is a primary with two secondaries that have caught up."""

        def is_whole():
            primary = self.primary()
            status = primary and self._ask(primary, "replSetGetStatus")
            states = sorted(member["state"] for member in status["members"]) if status else None
            if states != [PRIMARY, SECONDARY, SECONDARY]:
                return False
            try:
                with primary.client(socketTimeoutMS=3000) as client:
                    concern = pymongo.WriteConcern(w=3, wtimeout=2000)
                    client.watched.get_collection("whole", write_concern=concern).insert_one({})
                return True
            except PyMongoError:
                return False

        eventually("a primary and two secondaries", is_whole, 90)

    def restart(self, member: Standalone):
        member.start(*OPTIONS)

    def hold_back_replication(self, held: bool):
        """Whether the secondaries stop reading what the primary writes; they vote for it all the same, so it stays primary."""
        for member in self.secondaries():
            mode = "alwaysOn" if held else "off"
            with member.client() as client:
                client.admin.command({"configureFailPoint": "stopReplProducer", "mode": mode})

    def stop(self):
        self.client.close()
        for member in self.members:
            member.stop()

    def _ask(self, member: Standalone, command: str) -> dict | None:
        if member.process.poll() is not None or is_stopped(member.process.pid):
            return None
        try:
            with member.client(serverSelectionTimeoutMS=500, socketTimeoutMS=1000) as client:
                return client.admin.command(command)
        except PyMongoError:
            return None


def is_stopped(process: int) -> bool:
    """By SIGSTOP: nobody would answer, and the question would take as long as its time limit."""
    return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"
