"""A storm of logins in a process of its own: `python -m support.storm PORT CLIENTS SECONDS` prints what was answered, as JSON."""

import asyncio
import collections
import json
import sys
import time

BODY = json.dumps({"username": "alice", "password": "a wrong one"}).encode()
REQUEST = (
    b"POST /auth/login HTTP/1.1\r\nHost: science.example.org\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)


async def client(port: int, end: float, seen: collections.Counter[str]) -> None:
    """Logs in over and over; who is told to come back later does so after a second."""
    while time.monotonic() < end:
        # A refusal closes the connection of a request that had a body.
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        await reader.readexactly(int(headers["content-length"]))
        writer.close()
        status = head.split(" ")[1]
        seen[status] += 1
        if status == "503":
            seen["503 with Retry-After"] += int(headers.get("retry-after", "0")) >= 1
            await asyncio.sleep(1)


async def storm(port: int, clients: int, seconds: float) -> None:
    seen: collections.Counter[str] = collections.Counter()
    end = time.monotonic() + seconds
    await asyncio.gather(*(client(port, end, seen) for _ in range(clients)))
    print(json.dumps(seen))


if __name__ == "__main__":
    asyncio.run(storm(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
