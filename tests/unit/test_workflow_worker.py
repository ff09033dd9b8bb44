"""The worker's way to Temporal."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import SecretStr
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from adapters.temporal import Temporal, TemporalConfig
from operations.workflow_catalogue import (
    BACKUP,
    CLEAN_UP,
    CONSOLIDATION,
    MAINTENANCE,
    OWN_SCHEDULES,
    RECONCILE,
    SLEEP_CYCLE,
    USAGE_SYNC,
)
from operations.workflow_slots import Place
from workflows import worker
from workflows.places import Places


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


def test_operations_know_the_schedules_that_come_back() -> None:
    assert {planned.id for planned in worker.schedules()} == OWN_SCHEDULES


def test_a_temporal_that_hangs_is_not_waited_for() -> None:
    asked: list[str] = []

    async def hangs(*_: Any, rpc_timeout: timedelta | None = None, **__: Any) -> None:
        asked.append("asked")
        await asyncio.sleep(60 if rpc_timeout is None else 0)
        raise RPCError("too late", RPCStatusCode.DEADLINE_EXCEEDED, b"")

    client: Any = SimpleNamespace(get_workflow_handle=lambda *_: SimpleNamespace(signal=hangs, describe=hangs))
    places = Places(*[cast(Any, None)] * 2)
    run = Place("a-type", "a-run", "1")

    async def look() -> None:
        await asyncio.wait_for(places.tell(client, [run]), 5)
        assert not await asyncio.wait_for(places._ended(client, run), 5)

    try:
        asyncio.run(look())
    finally:
        places.close()
    assert len(asked) == 2


def test_what_the_worker_plans() -> None:
    planned = {one.id: (one.workflow, one.every, one.paused) for one in worker.schedules()}
    jobs = {one.id: one.input.job for one in worker.schedules() if one.workflow == MAINTENANCE}
    assert planned == {
        "pilothouse-maintenance": (MAINTENANCE, timedelta(hours=6), False),
        "pilothouse-reconcile": (MAINTENANCE, timedelta(minutes=5), False),
        "pilothouse-backup": (MAINTENANCE, "15 2 * * *", False),
        "usage-sync": (USAGE_SYNC, timedelta(minutes=5), False),
        "memory-consolidation": (CONSOLIDATION, timedelta(minutes=15), False),
        "sleep-cycle": (SLEEP_CYCLE, "0 2 * * *", True),
    }
    assert jobs == {
        "pilothouse-maintenance": CLEAN_UP, "pilothouse-reconcile": RECONCILE, "pilothouse-backup": BACKUP,
    }  # fmt: skip
    assert all(one.note for one in worker.schedules())
