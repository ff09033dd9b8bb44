"""Fixtures: real engines (one of each per test process, started when first wanted), stand-ins, a platform."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.engines import Postgres, Temporal, Valkey
from tests import support


@pytest.fixture(scope="session")
def engine_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this test process keeps its engines' data."""
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="session")
def postgres(engine_folder: Path) -> Iterator[Postgres]:
    """A running PostgreSQL 18; every local client is trusted."""
    engine = support.start_engine(lambda port: Postgres(engine_folder / f"postgresql-{port}", port, durable=False))
    yield engine
    engine.kill()


@pytest.fixture(scope="session")
def postgres_url(postgres: Postgres) -> str:
    """DSN of the server's maintenance database (superuser)."""
    return postgres.url


_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def template_database(postgres: Postgres) -> str:
    """Name of a database migrated to the newest schema. Copy it; never connect to it."""
    from operations import database

    database.migrate(postgres.create_database("template_pilothouse"))
    return "template_pilothouse"


@pytest.fixture
def database_url(postgres: Postgres, template_database: str) -> Iterator[str]:
    """DSN of a fresh, migrated database of this test alone."""
    name = f"test_{next(_numbers)}"
    yield postgres.create_database(name, template_database)
    postgres.drop_database(name)


@pytest.fixture
def empty_database_url(postgres: Postgres) -> Iterator[str]:
    """DSN of a fresh database without any table."""
    name = f"empty_{next(_numbers)}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def valkey(engine_folder: Path) -> Iterator[Valkey]:
    """A running Valkey without a password."""
    engine = support.start_engine(lambda port: Valkey(engine_folder / f"valkey-{port}", port, durable=False))
    yield engine
    engine.kill()


@pytest.fixture
def redis_url(valkey: Valkey) -> Iterator[str]:
    """URL of an empty database 0; everything is flushed, and settings restored, after the test."""
    import redis

    client = redis.Redis.from_url(valkey.url)
    client.flushall()
    before = client.config_get("*")
    yield valkey.url
    now = client.config_get("*")
    for key, value in before.items():
        if now.get(key) != value:
            client.config_set(key, value)
    client.flushall()
    client.config_resetstat()
    client.close()


@pytest.fixture(scope="session")
def temporal(engine_folder: Path) -> Iterator[Temporal]:
    """A running Temporal server, in memory. Shared by all tests of a process: use task queues of your own."""
    engine = support.start_engine(lambda port: Temporal(engine_folder / f"temporal-{port}", port, durable=False))
    yield engine
    engine.kill()


@pytest.fixture(scope="session")
def temporal_address(temporal: Temporal) -> str:
    """host:port of the Temporal frontend."""
    return temporal.url


@pytest.fixture
def poll() -> Callable[..., object]:
    """``tests.support.poll``, for tests that prefer a fixture."""
    return support.poll
