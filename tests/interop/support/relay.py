"""A relay in front of a database: counts who connects, and turns into a dead network, a silent one, or another server."""

import socket
import threading
import time


class Relay:
    """Listens on a port of its own and hands every connection on to `target`, a port. `None`: nobody is there."""

    def __init__(self, target: int | None):
        self.target = target
        self.silent = False
        self.accepted: list[float] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def accepted_since(self, moment: float) -> int:
        """How many connections came after `moment`, by `time.monotonic()`."""
        return sum(accepted > moment for accepted in list(self.accepted))

    def cut(self):
        """Closes every connection, as a restart of the server does."""
        with self._lock:
            connections, self._open = self._open, set()
        for connection in connections:
            close(connection)

    def switch(self, target: int | None):
        """From now on another server is behind the port."""
        self.target = target
        self.cut()

    def fall_silent(self):
        """No byte passes any more, on open connections for ever; nobody is told, as when a cable is pulled."""
        self.silent = True

    def speak(self):
        """New connections pass again; those of the silent time stay dead."""
        self.silent = False

    def stop(self):
        close(self._listener)
        self._thread.join(5)
        self.cut()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted.append(time.monotonic())
            if self.silent:
                self._keep(client)
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target), 5) if self.target else None
            except OSError:
                server = None
            if server is None:
                close(client)
                continue
            server.settimeout(None)
            self._keep(client, server)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    def _keep(self, *connections: socket.socket):
        with self._lock:
            self._open.update(connections)

    def _copy(self, source: socket.socket, sink: socket.socket):
        try:
            while data := source.recv(65_536):
                if self.silent:
                    return
                sink.sendall(data)
        except OSError:
            pass
        if not self.silent:
            close(source)
            close(sink)


def close(connection: socket.socket):
    """Closes a socket that another thread may be reading."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    connection.close()
