"""Hashes of every kind that Tollgate reads, made by passlib, argon2-cffi and Django with little work, so that hundreds take seconds."""

import random
from collections.abc import Callable

import argon2 as argon2_cffi
from django.conf import settings
from passlib import hash as passlib

if not settings.configured:
    settings.configure()

from django.contrib.auth import hashers as django  # noqa: E402  (needs the settings)

# passlib's variants of it fail unless it was loaded before they are made.
passlib.argon2.set_backend("argon2_cffi")

CHEAP_ARGON2 = {"memory_cost": 256, "rounds": 2, "parallelism": 2}
# Seven letters that need one byte, and what needs two, three and four, and spaces, which nobody may trim.
LETTERS = "aZ0.$+%" + "é\N{COMBINING ACUTE ACCENT}☂漢𝄞" + " \t"


def some_password(chance: random.Random, most_bytes: int = 72) -> str:
    password = "".join(chance.choice(LETTERS) for _ in range(chance.randint(1, 40)))
    while len(password.encode()) > most_bytes:
        password = password[1:]
    return password


def argon2_version_16(password: str) -> str:
    """What libraries wrote before the version stood in the text."""
    salt = random.randbytes(16)
    text = argon2_cffi.low_level.hash_secret(password.encode(), salt, 2, 256, 1, 32, argon2_cffi.Type.I, version=16)
    return text.decode().replace("$v=16", "")


def of_django(hasher: django.BasePasswordHasher, **changes: int) -> Callable[[str], str]:
    """A hasher of Django's with another cost, which Django keeps in attributes."""
    for name, value in changes.items():
        setattr(hasher, name, value)
    return lambda password: hasher.encode(password, hasher.salt())


def spare_bits_set(stored: str) -> str:
    """Sets the bits of salt and checksum that bcrypt does not read, as old versions of jBCrypt and passlib did."""
    letters = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    salt_end, checksum_end = letters.index(stored[28]) | 0b1111, letters.index(stored[59]) | 0b11
    return stored[:28] + letters[salt_end] + stored[29:59] + letters[checksum_end]


BCRYPT = passlib.bcrypt.using(rounds=4)
# Those that read the first 72 bytes only.
SHORT: dict[str, Callable[[str], str]] = {
    "bcrypt 2a": passlib.bcrypt.using(rounds=4, ident="2a").hash,
    "bcrypt 2b": BCRYPT.hash,
    "bcrypt 2y": passlib.bcrypt.using(rounds=4, ident="2y").hash,
    "bcrypt with spare bits": lambda password: spare_bits_set(BCRYPT.hash(password)),
    "django bcrypt": of_django(django.BCryptPasswordHasher(), rounds=4),
    "passlib's django_bcrypt": passlib.django_bcrypt.using(rounds=4).hash,
}
WHOLE: dict[str, Callable[[str], str]] = {
    "bcrypt_sha256 version 1": passlib.bcrypt_sha256.using(rounds=4, version=1).hash,
    "bcrypt_sha256 version 2": passlib.bcrypt_sha256.using(rounds=4).hash,
    "argon2i": passlib.argon2.using(type="i", **CHEAP_ARGON2).hash,
    "argon2d": passlib.argon2.using(type="d", **CHEAP_ARGON2).hash,
    "argon2id": passlib.argon2.using(type="id", **CHEAP_ARGON2).hash,
    "argon2i version 16": argon2_version_16,
    "scrypt": passlib.scrypt.using(rounds=6, block_size=8).hash,
    "pbkdf2_sha1": passlib.pbkdf2_sha1.using(rounds=1003).hash,
    "pbkdf2_sha256": passlib.pbkdf2_sha256.using(rounds=1002).hash,
    "pbkdf2_sha512": passlib.pbkdf2_sha512.using(rounds=1001).hash,
    "sha256_crypt": passlib.sha256_crypt.using(rounds=1007).hash,
    "sha256_crypt without rounds": passlib.sha256_crypt.using(rounds=5000).hash,
    "sha512_crypt": passlib.sha512_crypt.using(rounds=1042).hash,
    "sha512_crypt with a short salt": passlib.sha512_crypt.using(rounds=1000, salt_size=3).hash,
    "django pbkdf2_sha256": of_django(django.PBKDF2PasswordHasher(), iterations=1000),
    "django pbkdf2_sha1": of_django(django.PBKDF2SHA1PasswordHasher(), iterations=1000),
    "django argon2": of_django(django.Argon2PasswordHasher(), memory_cost=256, parallelism=2),
    "django bcrypt_sha256": of_django(django.BCryptSHA256PasswordHasher(), rounds=4),
    "django scrypt": of_django(django.ScryptPasswordHasher(), work_factor=64),
    "passlib's django_argon2": passlib.django_argon2.using(**CHEAP_ARGON2).hash,
    "passlib's django_bcrypt_sha256": passlib.django_bcrypt_sha256.using(rounds=4).hash,
    "passlib's django_pbkdf2_sha256": passlib.django_pbkdf2_sha256.using(rounds=1000).hash,
}
EVERY = SHORT | WHOLE


def reads(stored: str, password: str) -> bool:
    """Whether the library that such hashes come from takes the password."""
    if not stored.startswith("$"):
        django_names = {hasher.algorithm: hasher for hasher in DJANGO}
        return django_names[stored.split("$", 1)[0]].verify(password, stored)
    handlers = [handler for handler in PASSLIB if handler.identify(stored)]
    return handlers[0].verify(password, stored)


DJANGO = [
    django.PBKDF2PasswordHasher(),
    django.PBKDF2SHA1PasswordHasher(),
    django.Argon2PasswordHasher(),
    django.BCryptPasswordHasher(),
    django.BCryptSHA256PasswordHasher(),
    django.ScryptPasswordHasher(),
]
PASSLIB = [
    passlib.bcrypt_sha256,
    passlib.bcrypt,
    passlib.argon2,
    passlib.scrypt,
    passlib.pbkdf2_sha1,
    passlib.pbkdf2_sha256,
    passlib.pbkdf2_sha512,
    passlib.sha256_crypt,
    passlib.sha512_crypt,
]
