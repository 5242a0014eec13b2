"""Three gateways on one MongoDB are one gateway."""

from concurrent.futures import ThreadPoolExecutor

import jwt

from support.config import base
from support.http import bearer, log_in, send
from support.people import PASSWORD, hashes


def test_gateways_that_start_together_on_an_empty_database_accept_each_others_tokens(mongod, database, gateway):
    config = base("{folder}", mongod.uri(database.name))
    fleet = [gateway(config, wait=False) for _ in range(3)]
    for server in fleet:
        server.wait_until_listening()
    database.users.insert_one({"username": "alice", "password": hashes.hash(PASSWORD)})

    with ThreadPoolExecutor(3) as pool:
        tokens = list(pool.map(lambda server: log_in(server.port, "alice", PASSWORD), fleet))
    assert len({jwt.get_unverified_header(token)["kid"] for token in tokens}) == 1
    for server in fleet:
        for token in tokens:
            answer = send(server.port, "GET", "/auth/me", bearer(token))
            assert answer.status == 200, answer

    published = [send(server.port, "GET", "/.well-known/jwks.json").json() for server in fleet]
    assert published[0] == published[1] == published[2]
    assert len(published[0]["keys"]) == 1


def test_a_token_outlives_a_restart(mongod, database, gateway):
    config = base("{folder}", mongod.uri(database.name))
    first = gateway(config)
    database.users.insert_one({"username": "alice", "password": hashes.hash(PASSWORD)})
    token = log_in(first.port, "alice", PASSWORD)
    first.stop()
    assert send(gateway(config).port, "GET", "/auth/me", bearer(token)).status == 200
