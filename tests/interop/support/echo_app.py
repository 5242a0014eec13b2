"""A FastAPI application that tells what it received, and answers in every way that a proxy could spoil."""

import asyncio
import hashlib
import socket
import tempfile
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel

app = FastAPI()
files = Path(tempfile.mkdtemp(prefix="echo-app-"))
(files / "table.csv").write_bytes(b"".join(b"%d,%d\n" % (n, n * n) for n in range(60_000)))
received = {}


@app.api_route("/echo/{rest:path}", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
async def echo(request: Request, rest: str):
    """What arrived, byte for byte where ASGI allows it."""
    body = await request.body()
    return {
        "method": request.method,
        "raw_path": request.scope["raw_path"].decode("latin-1"),
        "query": request.scope["query_string"].decode("latin-1"),
        "rest": rest,
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers.raw],
        "length": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }


class Item(BaseModel):
    """A body that FastAPI validates."""

    name: str
    price: float


@app.get("/items/")
async def items(tag: list[str] | None = None, limit: int = 10):
    return {"limit": limit, "tag": tag}


@app.get("/items/{item}")
async def item(item: int):
    return {"item": item}


@app.put("/items/{item}")
async def put_item(item: int, value: Item):
    return {"item": item, "value": value}


@app.get("/status/{code}")
async def status(code: int):
    return Response(b"" if code in (204, 304) else b"as asked", code, {"X-Answer": "yes", "ETag": '"one"'})


@app.get("/cookies")
async def cookies():
    response = Response("two")
    response.set_cookie("first", "1", httponly=True)
    response.set_cookie("second", "2")
    return response


@app.get("/large")
async def large(bytes: int):
    async def blocks():
        for start in range(0, bytes, 65_536):
            yield b"x" * min(65_536, bytes - start)

    return StreamingResponse(blocks(), media_type="application/octet-stream")


@app.get("/ticks")
async def ticks(count: int, pause: float):
    """A line, a pause, a line …"""

    async def lines():
        for number in range(count):
            yield b"tick %d\n" % number
            await asyncio.sleep(pause)

    return StreamingResponse(lines(), media_type="text/plain")


@app.post("/upload/{name}")
async def upload(request: Request, name: str, pause: float = 0):
    """Counts while it receives, so that `/received` shows whether the bytes come as they are sent; begins after a pause."""
    await asyncio.sleep(pause)
    digest = hashlib.sha256()
    received[name] = 0
    async for block in request.stream():
        digest.update(block)
        received[name] += len(block)
    return {"length": received[name], "sha256": digest.hexdigest()}


@app.get("/received/{name}")
async def received_so_far(name: str):
    return received.get(name, 0)


app.mount("/static", StaticFiles(directory=files))


def main():
    # asyncio sends small pieces at once only on sockets that name the protocol, as those do that uvicorn opens itself.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    main()
