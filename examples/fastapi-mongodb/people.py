"""Adds a person as the application would: `printf PASSWORD | python people.py LOGIN NAME [ROLE…]`."""

import asyncio
import sys

import bcrypt

from app import Person, connect


async def main(username: str, name: str, *roles: str) -> None:
    """The password comes from standard input: arguments can be read by others on the machine."""
    await connect()
    password = bcrypt.hashpw(sys.stdin.readline().rstrip("\n").encode(), bcrypt.gensalt(rounds=12)).decode()
    await Person(username=username, name=name, password=password, roles=list(roles)).insert()
    print(f"{username} added")


asyncio.run(main(*sys.argv[1:]))
