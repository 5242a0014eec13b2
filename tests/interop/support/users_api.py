"""The API behind an admin page: people in pages of ten, with their number in `X-Total-Count`. It knows nothing of CORS or logins."""

import socket

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response

app = FastAPI()
PEOPLE = [{"id": number, "name": f"Person {number}", "email": f"person{number}@example.org"} for number in range(1, 26)]


@app.get("/api/users")
async def users(request: Request, response: Response):
    # ra-data-json-server's names begin with an underscore, which FastAPI's parameters may not.
    start, end = (int(request.query_params.get(name, default)) for name, default in (("_start", 0), ("_end", 10)))
    response.headers["X-Total-Count"] = str(len(PEOPLE))
    # What only the gateway can have said.
    response.headers["X-Asked-By"] = request.headers.get("x-forwarded-user", "nobody")
    return PEOPLE[start:end]


@app.get("/api/users/{number}")
async def user(number: int):
    found = [person for person in PEOPLE if person["id"] == number]
    if not found:
        raise HTTPException(404, "no such person")
    return found[0]


def main():
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    main()
