"""A FastAPI application as many projects began: Beanie documents, bcrypt by passlib, tokens by PyJWT, admins and students.

It keeps the contract of a well-known starter, with its oddities: a token has `user_id` and `expires` and nothing else, a token that
PyJWT refuses is an error 500, and a wrong password is 403. Nothing in here knows of a gateway.

    python -m support.students_app DATABASE_URL SECRET_KEY
"""

import logging
import socket
import sys
import time
from contextlib import asynccontextmanager

import jwt
import uvicorn
from beanie import Document, PydanticObjectId, init_beanie
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.security import HTTPBearer
from motor.motor_asyncio import AsyncIOMotorClient
from passlib.context import CryptContext
from pydantic import BaseModel, EmailStr

DATABASE_URL, SECRET_KEY = sys.argv[1:]
TOKEN_LIFE = 2400

logging.getLogger("passlib").setLevel(logging.ERROR)
# The cost is less than the library's default, so that a test takes less than a second; it changes nothing else.
passwords = CryptContext(schemes=["bcrypt"], bcrypt__rounds=10)


class Admin(Document):
    """Somebody who logs in."""

    fullname: str
    email: EmailStr
    password: str

    class Settings:
        name = "admin"


class Student(Document):
    """What admins keep."""

    fullname: str
    email: EmailStr
    course_of_study: str
    year: int
    gpa: float

    class Settings:
        name = "student"


class Credentials(BaseModel):
    """A login: the user name is the e-mail address."""

    username: str
    password: str


class AdminData(BaseModel):
    """What is told of an admin."""

    fullname: str
    email: EmailStr


class StudentUpdate(BaseModel):
    """All members are needed; null leaves a value as it is."""

    fullname: str | None
    email: EmailStr | None
    course_of_study: str | None
    year: int | None
    gpa: float | None


def sign(user: str) -> dict[str, str]:
    payload = {"user_id": user, "expires": time.time() + TOKEN_LIFE}
    return {"access_token": jwt.encode(payload, SECRET_KEY, algorithm="HS256")}


def decode(token: str) -> dict:
    # What PyJWT raises is caught by nobody.
    payload = jwt.decode(token, SECRET_KEY, algorithms=["HS256"])
    return payload if payload["expires"] >= time.time() else {}


class JWTBearer(HTTPBearer):
    """`Authorization: Bearer <token>`, to the letter."""

    async def __call__(self, request: Request) -> str:
        given = await super().__call__(request)
        if given is None:
            raise HTTPException(403, "Invalid authorization token")
        if given.scheme != "Bearer":
            raise HTTPException(403, "Invalid authentication token")
        if not decode(given.credentials):
            raise HTTPException(403, "Invalid token or expired token")
        return given.credentials


def envelope(description: str, data: object, code: int = 200) -> dict:
    return {"status_code": code, "response_type": "success", "description": description, "data": data}


admins = APIRouter(prefix="/admin")
students = APIRouter(prefix="/student", dependencies=[Depends(JWTBearer())])


@admins.post("/login")
async def log_in(credentials: Credentials):
    admin = await Admin.find_one(Admin.email == credentials.username)
    if admin and passwords.verify(credentials.password, admin.password):
        return sign(admin.email)
    raise HTTPException(403, "Incorrect email or password")


@admins.post("", response_model=AdminData)
async def sign_up(admin: Admin):
    if await Admin.find_one(Admin.email == admin.email):
        raise HTTPException(409, "Admin with email supplied already exists")
    admin.password = passwords.hash(admin.password)
    return await admin.create()


@students.get("/")
async def all_students():
    return envelope("Students data retrieved successfully", await Student.find_all().to_list())


@students.get("/{id}")
async def one_student(id: PydanticObjectId):
    student = await Student.get(id)
    if student is None:
        raise RuntimeError("nothing was made for this")
    return envelope("Student data retrieved successfully", student)


@students.post("/")
async def add_student(student: Student):
    return envelope("Student created successfully", await student.create())


@students.put("/{id}")
async def update_student(id: PydanticObjectId, changes: StudentUpdate):
    student = await Student.get(id)
    if student is None:
        return envelope("An error occurred", False, 404)
    await student.set({name: value for name, value in changes.model_dump().items() if value is not None})
    return envelope(f"Student with ID: {id} updated", student)


@students.delete("/{id}")
async def remove_student(id: PydanticObjectId):
    student = await Student.get(id)
    if student is None:
        return envelope("An error occurred", False, 404)
    await student.delete()
    return envelope(f"Student with ID: {id} removed", True)


@asynccontextmanager
async def lifespan(_: FastAPI):
    client = AsyncIOMotorClient(DATABASE_URL)
    await init_beanie(client.get_default_database(), document_models=[Admin, Student])
    yield
    client.close()


app = FastAPI(lifespan=lifespan)
app.include_router(admins)
app.include_router(students)


@app.get("/")
async def welcome():
    return {"message": "Welcome to this fantastic app."}


def main():
    # asyncio sends small pieces at once only on sockets that name the protocol, as those do that uvicorn opens itself.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    print(listener.getsockname()[1], flush=True)
    # Its errors 500 are what some tests want to see, and nobody their stack traces.
    uvicorn.Server(uvicorn.Config(app, log_level="critical")).run(sockets=[listener])


if __name__ == "__main__":
    main()
