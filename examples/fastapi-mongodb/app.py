"""Notes of people who log in at Tollgate."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import jwt
from beanie import Document, init_beanie
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from motor.motor_asyncio import AsyncIOMotorClient
from pydantic import BaseModel

DATABASE = os.environ.get("NOTES_DATABASE", "mongodb://127.0.0.1:27017/notes")
# Tollgate and this application have it, and nobody else.
SECRET = os.environ["NOTES_SECRET"]


class Person(Document):
    """Somebody who logs in. Tollgate reads these documents, and `tollgate user` changes them."""

    username: str
    name: str
    password: str
    roles: list[str] = []

    class Settings:
        name = "people"


class Note(Document):
    """A text of one person."""

    owner: str
    by: str
    text: str

    class Settings:
        name = "notes"


class NewNote(BaseModel):
    """What a client sends."""

    text: str


class Caller:
    """Who asks, as the token says that Tollgate makes for this application. Whoever comes past it has none."""

    def __init__(self, given: HTTPAuthorizationCredentials = Depends(HTTPBearer())):
        try:
            claims = jwt.decode(given.credentials, SECRET, ["HS256"], audience="notes", options={"require": ["exp", "sub"]})
        except jwt.InvalidTokenError as error:
            raise HTTPException(401, "this request did not come through the gateway") from error
        self.subject = claims["sub"]
        self.name = claims.get("name", "")


async def connect() -> None:
    """Binds the documents to the database."""
    client = AsyncIOMotorClient(DATABASE)
    await init_beanie(client.get_default_database(), document_models=[Person, Note])


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    await connect()
    yield


app = FastAPI(title="Notes", lifespan=lifespan)


@app.get("/notes")
async def notes(caller: Caller = Depends()) -> list[dict[str, str]]:
    """The caller's own notes, and nobody else's."""
    return [{"text": note.text, "by": note.by} async for note in Note.find(Note.owner == caller.subject)]


@app.post("/notes", status_code=201)
async def add_note(note: NewNote, caller: Caller = Depends()) -> dict[str, str]:
    """Keeps a note under the caller's subject, which is the `_id` of the person."""
    await Note(owner=caller.subject, by=caller.name, text=note.text).insert()
    return {"text": note.text, "by": caller.name}


@app.get("/people", dependencies=[Depends(Caller)])
async def people() -> list[str]:
    """Everybody's login. That only staff asks for it is the gateway's business."""
    return [person.username async for person in Person.find_all().sort("username")]
