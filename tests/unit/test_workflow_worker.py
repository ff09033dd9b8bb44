"""The worker's connection."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr
from temporalio.client import Client

from adapters.temporal import Temporal, TemporalConfig
from workflows import worker


def test_it_reaches_temporal_as_the_console_does(monkeypatch: pytest.MonkeyPatch) -> None:
    config = TemporalConfig(
        address="temporal.test:7233", namespace="platform", tls=True, api_key=SecretStr("only for the server")
    )
    told: dict[str, Any] = {}

    async def connect(address: str, **how: Any) -> None:
        told.update(how, address=address)

    monkeypatch.setattr(Client, "connect", connect)
    asyncio.run(worker._connect(config))
    assert (told["address"], told["namespace"], told["tls"]) == ("temporal.test:7233", "platform", True)
    assert told["api_key"] == "only for the server"


def test_it_follows_when_temporal_is_configured_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "MOVED_SECONDS", 0.01)
    first, second = TemporalConfig(address="one.test:7233"), TemporalConfig(address="two.test:7233")
    platform: Any = SimpleNamespace(adapters={"temporal": Temporal(first)})

    async def run() -> None:
        moved = asyncio.create_task(worker._moved(platform, first))
        await asyncio.wait({moved}, timeout=0.05)
        assert not moved.done()
        platform.adapters = {"temporal": Temporal(second)}
        await asyncio.wait_for(moved, 5)

    asyncio.run(run())
