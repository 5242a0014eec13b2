"""An upstream that keeps every byte it received, connection by connection, and answers each request that h11 finds in them."""

import socket
import threading
import time
from collections.abc import Callable

import h11


class Recorded:
    """One connection: its bytes, and whether what has come so far are whole requests."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.method = b""
        self.closed = False
        # Nobody connects without sending, so what has only been accepted is waited for.
        self.idle = False


class Recorder:
    """Listens on a free port until it is stopped."""

    def __init__(self) -> None:
        self.connections: list[Recorded] = []
        self.latest: tuple[str, int] | None = None
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, peer = self.listener.accept()
            except OSError:
                return
            recorded = Recorded()
            self.connections.append(recorded)
            self.latest = peer
            threading.Thread(target=self._serve, args=(connection, recorded), daemon=True).start()

    def _serve(self, connection: socket.socket, recorded: Recorded) -> None:
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        with connection:
            connection.settimeout(60)
            try:
                while block := connection.recv(65_536):
                    recorded.idle = False
                    recorded.data += block
                    parser.receive_data(block)
                    self._answer(parser, connection, recorded)
                    recorded.idle = parser.their_state is h11.IDLE and not parser.trailing_data[0]
            except (OSError, h11.ProtocolError):
                pass  # What arrived is kept, and judged by the test.
            recorded.closed = True

    @staticmethod
    def _answer(parser: h11.Connection, connection: socket.socket, recorded: Recorded) -> None:
        while (event := parser.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.Request):
                recorded.method = event.method
            if isinstance(event, h11.EndOfMessage):
                answer = parser.send(h11.Response(status_code=200, headers=[("Content-Length", "2")])) or b""
                if recorded.method != b"HEAD":
                    answer += parser.send(h11.Data(data=b"ok")) or b""
                connection.sendall(answer + (parser.send(h11.EndOfMessage()) or b""))
                parser.start_next_cycle()

    def mark(self) -> list[int]:
        return [len(recorded.data) for recorded in self.connections]

    def since(self, mark: list[int]) -> list[bytes]:
        """What each connection received since the mark, without those that received nothing."""
        starts = mark + [0] * (len(self.connections) - len(mark))
        new = [bytes(recorded.data[start:]) for recorded, start in zip(self.connections, starts)]
        return [data for data in new if data]

    def wait_until_quiet(self, after: str) -> None:
        """Waits until no connection is in the middle of a request, once all that were made before this call are accepted."""
        with socket.create_connection(self.listener.getsockname(), timeout=10) as last:
            own = last.getsockname()
            self._wait(lambda: self.latest == own, f"to accept what waits, after {after}")
        self._wait(lambda: all(recorded.closed or recorded.idle for recorded in self.connections), f"to have whole requests, after {after}")

    @staticmethod
    def _wait(probe: Callable[[], bool], what: str) -> None:
        """As `eventually`, for what takes less than a millisecond and is asked for thousands of times."""
        deadline = time.monotonic() + 20
        while not probe():
            assert time.monotonic() < deadline, f"the upstream waited 20 s {what}"
            time.sleep(0.0005)

    def stop(self) -> None:
        self.listener.close()
