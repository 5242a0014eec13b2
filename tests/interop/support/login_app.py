"""Logins as FastAPI applications have them: the tutorial's form, and the starter's JSON. Everybody is refused."""

import socket

import uvicorn
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import OAuth2PasswordRequestForm
from pydantic import BaseModel

app = FastAPI()


class SignIn(BaseModel):
    username: str
    password: str


@app.post("/token")
async def token(form: OAuth2PasswordRequestForm = Depends()):
    raise HTTPException(401, "Incorrect username or password", {"WWW-Authenticate": "Bearer"})


@app.post("/admin/login")
async def admin_login(credentials: SignIn):
    raise HTTPException(403, "Incorrect email or password")


def main():
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    main()
