"""Fixtures: a mongod and a FastAPI application for the whole run, gateways for a module or a test."""

import itertools
import uuid

import pytest

from support.config import ENVIRONMENT
from support.processes import Application, Gateway, Mongod


@pytest.fixture(scope="session")
def mongod(tmp_path_factory):
    server = Mongod(tmp_path_factory.mktemp("mongod"))
    yield server
    server.stop()


@pytest.fixture
def database(mongod):
    """An empty database of the test's own."""
    database = mongod.client[f"test_{uuid.uuid4().hex[:12]}"]
    yield database
    mongod.client.drop_database(database.name)


@pytest.fixture(scope="session")
def echo():
    """The FastAPI application of support/echo_app.py behind uvicorn."""
    application = Application("echo_app")
    yield application
    application.stop()


def gateways(tmp_path_factory):
    started = []
    numbers = itertools.count()

    def start(config, environment=None, wait=True):
        """Starts a gateway; `{folder}` in the configuration is a folder of its own."""
        folder = tmp_path_factory.mktemp(f"gateway{next(numbers)}")
        gateway = Gateway(folder, config.replace("{folder}", str(folder)), {**ENVIRONMENT, **(environment or {})}, wait)
        started.append(gateway)
        return gateway

    yield start
    problems = []
    for gateway in started:
        try:
            gateway.stop()
        except AssertionError as problem:
            problems.append(str(problem))
    assert not problems, "\n".join(problems)


@pytest.fixture
def gateway(tmp_path_factory):
    """Starts gateways that are stopped after the test, and must then end with status 0."""
    yield from gateways(tmp_path_factory)


@pytest.fixture(scope="module")
def module_gateway(tmp_path_factory):
    """As `gateway`, for all tests of a module."""
    yield from gateways(tmp_path_factory)
