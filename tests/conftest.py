"""Fixtures: real engines (one of each per test process, started when first wanted), stand-ins, a platform."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from operations.platform import Platform, install
from operations.settings import Settings
from sandbox import config
from sandbox.engines import Postgres, Temporal, Valkey, postgres_tools
from sandbox.inprocess import Services
from tests import support

_MAIN = sys.modules["__main__"]


def pytest_runtest_setup() -> None:
    """Streamlit makes the page it runs ``__main__``, which multiprocessing would run again in every child."""
    sys.modules["__main__"] = _MAIN


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


@pytest.fixture(scope="module")
def temporal(engine_folder: Path) -> Iterator[Temporal]:
    """A running Temporal server, in memory. Shared by the tests of one file: use task queues of your own.

    Executions cannot be flushed as Redis can, and what one file leaves fills the first page of another's lists.
    """
    engine = support.start_engine(lambda port: Temporal(engine_folder / f"temporal-{port}", port, durable=False))
    yield engine
    engine.kill()


@pytest.fixture(scope="module")
def temporal_address(temporal: Temporal) -> str:
    """host:port of the Temporal frontend."""
    return temporal.url


@pytest.fixture
def poll() -> Callable[..., object]:
    """``tests.support.poll``, for tests that prefer a fixture."""
    return support.poll


@pytest.fixture(scope="session")
def services(engine_folder: Path) -> Iterator[Services]:
    """The session's stand-ins, MCP servers, mail and S3; tests use ``standins``, which resets them."""
    running = Services(engine_folder / "services")
    yield running
    running.close()


@pytest.fixture
def standins(services: Services) -> Iterator[Services]:
    """Everything that is no engine, in its first state: ``standins.url("lago")``, ``standins.fault("lago", "hang")``.

    Each service starts when first asked for; every fault is mended and every state reset after the test.
    """
    yield services
    services.reset()


@pytest.fixture
def engine_proxies(services: Services, postgres: Postgres, valkey: Valkey, temporal: Temporal) -> dict[str, int]:
    """Ports of fault proxies in front of the engines, by slug; break them by ``standins.fault(slug, …)``."""
    wanted = {"postgresql": (postgres, "postgresql"), "redis": (valkey, "redis"), "temporal": (temporal, "grpc")}
    return {slug: services.front(slug, engine.port, protocol) for slug, (engine, protocol) in wanted.items()}


@pytest.fixture
def platform_settings(
    standins: Services,
    engine_proxies: dict[str, int],
    database_url: str,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Settings:
    """Settings of a console on this test's own database, through the fault proxies; PILOTHOUSE_CONFIG is set."""
    names = ("keycloak", "lago", "qdrant", "somabrain", "whisper", "kokoro", "mcp-calendar", "mcp-files", "s3", "smtp")
    ports = {**engine_proxies, **{name: standins.port(name) for name in names}}
    values = config.configuration(
        ports=ports,
        secrets=standins.secrets,
        database=f"postgresql://postgres@127.0.0.1:{ports['postgresql']}/{database_url.rsplit('/', 1)[1]}",
        redis=f"redis://127.0.0.1:{ports['redis']}/0",
        console_url="http://127.0.0.1:8501",
        control_url=standins.control_url(),
        postgresql_tools=str(postgres_tools()),
    )
    path = tmp_path / "pilothouse.toml"
    config.write_private(path, config.toml(values))
    monkeypatch.setenv("PILOTHOUSE_CONFIG", str(path))
    return Settings()


@pytest.fixture
def platform(platform_settings: Settings) -> Iterator[Platform]:
    """An assembled Platform on engines and stand-ins, installed as the current one; no background threads."""
    made = Platform(platform_settings)
    install(made)
    yield made
    install(None)
    made.close()
