"""The worker process's work: when Temporal goes and comes, its schedules, and what people changed about them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, ScheduleUpdate, ScheduleUpdateInput
from temporalio.exceptions import ApplicationError

from adapters.temporal import TemporalConfig
from operations import maintenance, workflow_held
from operations.access import SYSTEM
from operations.maintenance import CleanUp
from operations.platform import Platform
from operations.workflow_catalogue import CATALOGUE, MAINTENANCE, Maintained, MaintenanceInput
from sandbox.engines import Temporal
from sandbox.inprocess import Services
from tests.support import start_engine
from workflows import worker
from workflows.maintenance import Maintenance
from workflows.planned import Planned

pytestmark = pytest.mark.engines


@asynccontextmanager
async def working(platform: Platform) -> AsyncIterator[asyncio.Task[None]]:
    """The worker, stopped at the end."""
    stop = asyncio.Event()
    work = asyncio.create_task(worker.run(platform, stop))
    try:
        yield work
    finally:
        stop.set()
        await asyncio.wait_for(work, 15)


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> str:
    """A task queue and a schedule of this test alone."""
    name = f"worker-{uuid.uuid4().hex[:8]}"
    planned = Planned(name, MAINTENANCE, MaintenanceInput(), timedelta(hours=6), "for the test")
    monkeypatch.setattr(worker, "TASK_QUEUE", name)
    monkeypatch.setattr(worker, "RETRY_SECONDS", 0.2)
    monkeypatch.setattr(worker, "schedules", lambda: (planned,))
    return name


async def clean(client: Client, queue: str, name: str) -> Maintained:
    handle = await client.start_workflow(Maintenance.run, id=f"{queue}-{name}", task_queue=queue)
    return await asyncio.wait_for(handle.result(), 30)


def test_it_waits_for_temporal_and_leaves_alone_what_people_changed(
    platform: Platform, standins: Services, temporal_address: str, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    standins.fault("temporal", "refuse")

    def paused(found: ScheduleUpdateInput) -> ScheduleUpdate:
        schedule = found.description.schedule
        schedule.state.paused = True
        schedule.spec.intervals[0].every = timedelta(hours=1)
        return ScheduleUpdate(schedule=schedule)

    async def run() -> None:
        tried = asyncio.Event()
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(worker.log, "warning", lambda *_: loop.call_soon(tried.set))
        client = await Client.connect(temporal_address)
        schedule = client.get_schedule_handle(queue)
        async with working(platform) as work:
            await asyncio.wait_for(tried.wait(), 30)
            assert not work.done()
            await asyncio.to_thread(standins.fault, "temporal", None)
            assert (await clean(client, queue, "own")).job == "clean-up"
            assert (await schedule.describe()).schedule.spec.intervals[0].every == timedelta(hours=6)
            held = await asyncio.to_thread(workflow_held.held, platform, SYSTEM)
            assert set(CATALOGUE) <= set(held[0].settings)
            await schedule.update(paused)
        assert await asyncio.to_thread(workflow_held.held, platform, SYSTEM) == []
        async with working(platform):
            await clean(client, queue, "again")
            assert (await schedule.describe()).schedule.state.paused
        await schedule.delete()

    asyncio.run(run())


def test_it_goes_on_after_temporal_was_killed_in_the_middle_of_a_run(
    platform: Platform, queue: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start_engine(lambda port: Temporal(tmp_path / f"temporal-{port}", port))
    monkeypatch.setattr(worker, "_configured", lambda _: TemporalConfig(address=engine.url))
    begun: list[Any] = []

    def fails_once(_: Platform) -> CleanUp:
        begun.append(1)
        if len(begun) == 1:
            raise ApplicationError("not yet")
        return CleanUp()

    monkeypatch.setattr(maintenance, "clean_up", fails_once)

    async def run() -> None:
        client = await Client.connect(engine.url)
        async with working(platform):
            handle = await client.start_workflow(Maintenance.run, id=f"{queue}-killed", task_queue=queue)
            while not begun:
                await asyncio.sleep(0.02)
            await asyncio.to_thread(engine.kill)
            await asyncio.to_thread(engine.start)
            fresh = await Client.connect(engine.url)
            result: Maintained = await asyncio.wait_for(
                fresh.get_workflow_handle_for(Maintenance.run, handle.id).result(), 30
            )
            assert result.job == "clean-up"
            assert len(begun) == 2

    try:
        asyncio.run(run())
    finally:
        engine.kill()
