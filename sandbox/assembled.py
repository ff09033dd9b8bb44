"""Engines and stand-ins in one folder, with the settings of a console on them: for benchmarks and recordings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sandbox import config
from sandbox.engines import Engine, Postgres, Temporal, Valkey, postgres_tools
from sandbox.inprocess import Services
from sandbox.processes import free_port

NAMES = ("keycloak", "lago", "qdrant", "somabrain", "whisper", "kokoro", "mcp-calendar", "mcp-files", "s3", "smtp")


@contextmanager
def assembled(folder: Path, *, durable: bool = False) -> Iterator[Path]:
    """Everything but the console and its worker, on an empty database; yields the path of its pilothouse.toml.

    Without ``durable`` the engines trade crash safety for speed. All of it ends with the block.
    """
    with ExitStack() as stack:
        postgres = Postgres(folder / "postgresql", free_port(), durable=durable)
        valkey = Valkey(folder / "valkey", free_port(), durable=durable)
        temporal = Temporal(folder / "temporal", free_port(), durable=durable)
        engines: tuple[Engine, ...] = (postgres, valkey, temporal)
        for engine in engines:
            stack.callback(engine.kill)
            engine.start()
        services = Services(folder / "services")
        stack.callback(services.close)
        ports = {name: services.port(name) for name in NAMES}
        ports |= {"postgresql": postgres.port, "redis": valkey.port, "temporal": temporal.port}
        values = config.configuration(
            ports=ports,
            secrets=services.secrets,
            database=postgres.create_database("pilothouse"),
            redis=valkey.url,
            console_url="http://127.0.0.1:8501",
            postgresql_tools=str(postgres_tools()),
        )
        path = folder / "pilothouse.toml"
        config.write_private(path, config.toml(values))
        yield path
