"""People in a MongoDB, written by the libraries that FastAPI applications use: passlib with pymongo, and Beanie."""

import asyncio
import uuid

from beanie import Document, init_beanie
from motor.motor_asyncio import AsyncIOMotorClient
from passlib.context import CryptContext
from pydantic import Field

PASSWORD = "correct horse battery staple"

# The cost is less than the libraries' default, so that a test takes less than a second; it changes nothing else.
hashes = CryptContext(
    schemes=["bcrypt", "argon2", "pbkdf2_sha256", "bcrypt_sha256"],
    bcrypt__rounds=10,
    bcrypt_sha256__rounds=10,
    pbkdf2_sha256__rounds=29_000,
    argon2__memory_cost=8192,
    argon2__time_cost=2,
)


class Customer(Document):
    """No `Settings.name`: the collection is called `Customer`."""

    username: str
    email: str
    password: str
    roles: list[str] = []
    scopes: str = ""
    disabled: bool = False


class Scientist(Document):
    """An id of another type, and a revision that Beanie guards."""

    id: uuid.UUID = Field(default_factory=uuid.uuid4)
    username: str
    hashed_password: str
    profile: dict = {}
    groups: str = ""
    is_active: bool = True

    class Settings:
        name = "scientists"
        use_revision = True


class Admin(Document):
    """The document of the FastAPI + Beanie starter that many projects began with."""

    fullname: str
    email: str
    password: str

    class Settings:
        name = "admin"


def write(uri, make):
    """Inserts the documents of `make()` by Beanie, as an application would, and returns them with their ids. Documents can
    be made only while Beanie is connected."""

    async def insert():
        client = AsyncIOMotorClient(uri)
        try:
            await init_beanie(client.get_default_database(), document_models=[Customer, Scientist, Admin])
            return [await document.insert() for document in make()]
        finally:
            client.close()

    return asyncio.run(insert())
