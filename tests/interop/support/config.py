"""Configuration files for tests: what every one of them needs, and a trusted issuer whose tokens PyJWT makes."""

import time

import jwt

ISSUER = "https://sso.example.org/realms/lab"
AUDIENCE = "science"
LAB_SECRET = "sixty-four-characters-of-a-secret-that-only-this-very-test-knows"
ENVIRONMENT = {"LAB_SECRET": LAB_SECRET, "TOKEN_SECRET": LAB_SECRET[::-1] * 2}


def base(folder, store=None):
    """Free ports on loopback, a log to read back, a store of the test's own, and hashes that are quick to make."""
    return f"""
[server]
listen = ["127.0.0.1:0"]
drain_timeout = "10s"
[admin]
listen = "127.0.0.1:0"
[log]
format = "json"
[store]
url = "{store or f'sqlite://{folder}/tollgate.db'}"
[login]
hash = {{ scheme = "bcrypt", cost = 10 }}
"""


# To be put right behind `base`: for tests that fail to log in by the hundred. Failures are counted all the same.
UNTHROTTLED = "throttle = { account.free = 1_000_000, account_and_address.free = 1_000_000, address.free = 1_000_000 }\n"

# To be put right behind `base`: for tests of what an outage looks like when nobody waits for its end.
IMPATIENT = 'store_patience = "0s"\n'


TRUSTED_LAB = f"""
[issuers.lab]
issuer = "{ISSUER}"
audiences = ["{AUDIENCE}"]
algorithms = ["HS256"]
secret = {{ env = "LAB_SECRET" }}
"""


def upstream(name, *urls, more=""):
    servers = ", ".join(f'"{url}"' for url in urls)
    return f"\n[upstreams.{name}]\nservers = [{servers}]\n{more}\n"


def route(path, upstream, more=""):
    return f'\n[[routes]]\npath = "{path}"\nupstream = "{upstream}"\n{more}\n'


def lab_claims(**changes):
    """Claims that `TRUSTED_LAB` accepts; a change to `None` leaves the claim out."""
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 300}
    return {name: value for name, value in {**claims, **changes}.items() if value is not None}


def lab_token(headers=None, **changes):
    return jwt.encode(lab_claims(**changes), LAB_SECRET, "HS256", headers=headers)
