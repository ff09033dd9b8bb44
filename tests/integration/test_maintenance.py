"""Housekeeping: what is removed and what never is; as a workflow; and the worker when Temporal goes and comes."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from temporalio.client import Client
from temporalio.worker import Replayer, Worker

from operations import maintenance
from operations.maintenance import CleanUp, clean_up
from operations.platform import Platform
from sandbox.inprocess import Services
from tests.support_operations import make
from workflows import worker
from workflows.maintenance import Activities, Maintenance, Result

pytestmark = pytest.mark.engines


@pytest.fixture
def store(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Platform]:
    platform = make(database_url, redis_url, monkeypatch, tmp_path)
    yield platform
    platform.close()


def fill(platform: Platform, old: int) -> None:
    """``old`` rows of each kind past their time, and one of each that stays."""
    with platform.database.session() as session:
        for number in range(old + 1):
            past = number < old
            session.execute(
                text("INSERT INTO outbox (topic, key, payload, delivered_at) VALUES ('t', :n, '{}', now() - :ago)"),
                {"n": str(number), "ago": timedelta(days=8 if past else 6)},
            )
            session.execute(
                text("INSERT INTO sessions (id_hash, subject, name, expires_at) VALUES (:n, 's', 'n', now() - :ago)"),
                {"n": str(number), "ago": timedelta(days=31 if past else 29)},
            )
            session.execute(
                text(
                    "INSERT INTO state_changes (service, at, from_state, to_state) "
                    "VALUES ('redis', now() - :ago - :n * interval '1 second', 'healthy', 'down')"
                ),
                {"n": number, "ago": timedelta(days=401 if past else 399)},
            )
        session.execute(
            text(
                "INSERT INTO outbox (topic, key, payload, created_at) "
                "VALUES ('t', 'w', '{}', now() - interval '1 year')"
            )
        )


def counts(platform: Platform) -> tuple[int, ...]:
    with platform.database.session() as session:
        return tuple(
            session.scalar(text(f"SELECT count(*) FROM {table}")) for table in ("outbox", "sessions", "state_changes")
        )


def test_only_what_is_past_its_time_goes_and_what_waits_never(store: Platform) -> None:
    fill(store, 3)
    assert clean_up(store) == CleanUp(3, 3, 3)
    assert counts(store) == (2, 1, 1)
    assert clean_up(store) == CleanUp()


def test_a_batch_is_bounded_and_says_that_there_is_more(store: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "BATCH", 2)
    fill(store, 3)
    first = clean_up(store)
    assert first == CleanUp(2, 2, 2)
    assert first.more
    assert not clean_up(store).more


def test_the_workflow_runs_in_batches_until_nothing_is_left_and_replays(
    store: Platform, temporal_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "BATCH", 2)
    fill(store, 5)
    queue = f"maintenance-{uuid.uuid4()}"

    async def run() -> Result:
        client = await Client.connect(temporal_address)
        activities = Activities(store)
        async with Worker(client, task_queue=queue, workflows=[Maintenance], activities=[activities.clean_up]):
            handle = await client.start_workflow(Maintenance.run, id=queue, task_queue=queue)
            result = await asyncio.wait_for(handle.result(), 60)
            assert await handle.query(Maintenance.progress) == result
        await Replayer(workflows=[Maintenance]).replay_workflow(await handle.fetch_history())
        return result

    assert asyncio.run(run()) == Result(5, 5, 5, batches=3)
    assert counts(store) == (2, 1, 1)


def test_the_worker_waits_for_temporal_and_works_when_it_comes(
    platform: Platform, standins: Services, temporal_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = f"worker-{uuid.uuid4()}"
    monkeypatch.setattr(worker, "TASK_QUEUE", queue)
    monkeypatch.setattr(worker, "SCHEDULE_ID", queue)
    monkeypatch.setattr(worker, "RETRY_SECONDS", 0.2)
    standins.fault("temporal", "refuse")

    async def run() -> Result:
        stop = asyncio.Event()
        tried = asyncio.Event()
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(worker.log, "warning", lambda *_: loop.call_soon(tried.set))
        work = asyncio.create_task(worker.run(platform, stop))
        await asyncio.wait_for(tried.wait(), 30)
        assert not work.done()
        await asyncio.to_thread(standins.fault, "temporal", None)
        client = await Client.connect(temporal_address)
        handle = await client.start_workflow(Maintenance.run, id=f"{queue}-own", task_queue=queue)
        result = await asyncio.wait_for(handle.result(), 60)
        described = await client.get_schedule_handle(queue).describe()
        assert described.schedule.spec.intervals[0].every == worker.EVERY
        stop.set()
        await asyncio.wait_for(work, 10)
        await client.get_schedule_handle(queue).delete()
        return result

    assert asyncio.run(run()).batches == 1
