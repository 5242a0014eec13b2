"""A FastAPI application that answers nobody but the holder of one key: each request needs a token that PyJWT verifies with its
public half, or with the secret.

    python -m support.guarded_app KEY_FILE ALGORITHM ISSUER AUDIENCE
"""

import socket
import sys
from pathlib import Path
from typing import Annotated

import jwt
import uvicorn
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

KEY, ALGORITHM, ISSUER, AUDIENCE = Path(sys.argv[1]).read_text().strip(), *sys.argv[2:]


def caller(given: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> dict:
    needed = {"require": ["exp", "iat", "iss", "aud", "sub"]}
    try:
        return jwt.decode(given.credentials, KEY, [ALGORITHM], issuer=ISSUER, audience=AUDIENCE, options=needed)
    except jwt.InvalidTokenError as error:
        raise HTTPException(401, f"not through the gateway: {type(error).__name__}") from error


app = FastAPI()


@app.get("/guarded/{rest:path}")
async def guarded(rest: str, claims: Annotated[dict, Depends(caller)]):
    return {"rest": rest, "sub": claims["sub"]}


def main():
    # asyncio sends small pieces at once only on sockets that name the protocol, as those do that uvicorn opens itself.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    main()
