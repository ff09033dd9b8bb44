"""A Platform on the engines alone, for tests of operations: no stand-ins, services answered by fakes at one seam."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from adapters.core import AdapterError, Health, Metric, Service, Setting, State, Unreachable
from adapters.core.adapter import Adapter, ServiceConfig, services
from operations.platform import Platform
from operations.settings import Settings

KEY = Fernet.generate_key().decode()


class FakeConfig(ServiceConfig):
    """None."""


class Fake(Adapter[FakeConfig]):
    """A service that is as the test says."""

    def __init__(self, service: Service) -> None:
        super().__init__(FakeConfig())
        self.service = service  # type: ignore[misc]
        self.state: State | None = State.HEALTHY
        self.visits = 0

    def health(self) -> Health:
        self.visits += 1
        if self.state is State.DOWN:
            raise Unreachable(f"No connection to {self.service.title}.")
        assert self.state is not None
        return Health(self.state, "Answers.")

    def metrics(self) -> Sequence[Metric]:
        return [Metric("things", "Things", float(self.visits), headline=True)]

    def settings(self) -> Sequence[Setting]:
        return []


def make(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Platform:
    """A Platform whose environment names nothing but these two engines."""
    config = tmp_path / "pilothouse.toml"
    config.write_text("")
    monkeypatch.setenv("PILOTHOUSE_CONFIG", str(config))
    return Platform(
        Settings(
            database_url=database_url,
            redis_url=redis_url,
            encryption_keys=KEY,
            oidc_issuer="http://127.0.0.1:1/realms/none",
        )
    )


def fake_adapters(platform: Platform) -> dict[str, Fake]:
    """Put a fake in the place of every adapter."""
    fakes = {slug: Fake(service) for slug, service in services().items()}
    platform._adapters = dict(fakes)
    return fakes


def dumped(value: object) -> str:
    """Anything as text, to look for secrets in."""
    return json.dumps(value, default=str)


__all__ = ["KEY", "AdapterError", "Fake", "dumped", "fake_adapters", "make"]
