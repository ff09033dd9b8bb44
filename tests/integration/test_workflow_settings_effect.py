"""Workflow settings in effect: retries, timeout, places; with a real Temporal, PostgreSQL and Valkey."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import text
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.worker import Replayer

from operations import outbox, workflow_held, workflow_settings, workflow_slots
from operations.access import SYSTEM
from operations.platform import Platform
from operations.workflow_settings import Edit
from sandbox.inprocess import Services
from tests.support import ROOT
from tests.support_workflows import KINDS, Failing, Open, Seen, Slow, Working, working
from workflows.interceptor import SettingsInterceptor

pytestmark = pytest.mark.engines


def put(platform: Platform, type_: str, **values: Any) -> None:
    """Save settings of a type."""
    saved = workflow_settings.save(platform, SYSTEM, [Edit(type_, values)], reason="for the test")
    assert saved.outcome.delivered


async def until(predicate: Callable[[], Any], seconds: float = 10) -> None:
    """Wait without holding up the workers on this loop."""
    end = time.monotonic() + seconds
    while not await asyncio.to_thread(predicate):
        assert time.monotonic() < end, "did not come true"
        await asyncio.sleep(0.02)


def places(platform: Platform, type_: str) -> tuple[int, int]:
    """Working and waiting runs of a type."""
    now = workflow_slots.occupancy(platform, SYSTEM).get(type_)
    return (now.working, now.waiting) if now else (0, 0)


def on(address: str, work: Callable[[Client, str], Awaitable[None]]) -> None:
    """Run a test's own coroutine with a client and a task queue of its own."""

    async def run() -> None:
        await asyncio.wait_for(work(await Client.connect(address), f"settings-{uuid.uuid4().hex[:8]}"), 60)

    asyncio.run(run())


async def start(client: Client, queue: str, kind: Any, name: str, *args: Any) -> WorkflowHandle[Any, Any]:
    return await client.start_workflow(kind.run, *args, id=f"{queue}-{name}", task_queue=queue)


def test_attempts_follow_the_settings_without_a_restart(platform: Platform, temporal_address: str) -> None:
    put(platform, "default", backoff_multiplier=1.0)

    async def work(client: Client, queue: str) -> None:
        seen = Seen()
        async with working(platform, client, queue, seen):
            for attempts in (1, 2):
                await asyncio.to_thread(put, platform, "test-failing", retry_attempts=attempts)
                handle = await start(client, queue, Failing, f"attempts-{attempts}")
                with pytest.raises(WorkflowFailureError):
                    await handle.result()
                assert seen.calls[handle.id] == attempts
        history = await handle.fetch_history()
        await Replayer(workflows=KINDS, interceptors=[SettingsInterceptor(platform)]).replay_workflow(history)

    on(temporal_address, work)


def test_a_timeout_cancels_the_body_which_takes_back_what_it_did(platform: Platform, temporal_address: str) -> None:
    put(platform, "test-slow", timeout_seconds=1)

    async def work(client: Client, queue: str) -> None:
        seen = Seen()
        async with working(platform, client, queue, seen):
            handle = await start(client, queue, Slow, "slow")
            with pytest.raises(WorkflowFailureError) as caught:
                await handle.result()
            cause = caught.value.cause
            assert isinstance(cause, ApplicationError)
            assert cause.type == "Timeout" and "1 s" in cause.message
            assert seen.calls["undone"] == 1
            await until(lambda: places(platform, "test-slow") == (0, 0))

    on(temporal_address, work)


def test_ten_at_once_hold_under_two_hundred_starts_on_two_workers(platform: Platform, temporal_address: str) -> None:
    put(platform, "test-working", max_concurrent=10)

    async def work(client: Client, queue: str) -> None:
        seen = Seen()
        second = await Client.connect(temporal_address)
        async with working(platform, client, queue, seen), working(platform, second, queue, seen):
            handles = await asyncio.gather(
                *(start(client, queue, Working, f"{number:03d}", 0.05) for number in range(200))
            )
            assert set(await asyncio.gather(*(handle.result() for handle in handles))) == {"done"}
        assert len(seen.order) == 200
        assert seen.most <= 10
        assert seen.most > 1
        assert places(platform, "test-working") == (0, 0)

    on(temporal_address, work)


def test_places_are_held_given_in_order_and_never_taken_away(platform: Platform, temporal_address: str) -> None:
    put(platform, "test-open", max_concurrent=0)

    async def work(client: Client, queue: str) -> None:
        async with working(platform, client, queue, Seen()):
            runs = [await start(client, queue, Open, str(number)) for number in range(4)]
            await until(lambda: places(platform, "test-open") == (0, 4))
            await asyncio.to_thread(put, platform, "test-open", max_concurrent=2)
            raised = time.monotonic()
            await until(lambda: places(platform, "test-open") == (2, 2))
            assert time.monotonic() - raised < 4  # two seconds, with room for a busy machine
            await asyncio.to_thread(put, platform, "test-open", max_concurrent=1)
            await runs[0].signal(Open.end)
            assert await runs[0].result() == "ended"
            assert places(platform, "test-open") == (1, 2)  # one above the new maximum has gone, nobody was stopped
            await runs[1].signal(Open.end)
            await until(lambda: places(platform, "test-open") == (1, 1))  # the third came, the fourth waits
            await runs[3].signal(Open.end)
            await runs[2].terminate("without a word")
            assert await runs[3].result() == "ended"  # the place of one that was terminated is found free

    on(temporal_address, work)


def test_runs_that_wait_can_be_canceled_or_terminated(platform: Platform, temporal_address: str) -> None:
    put(platform, "test-open", max_concurrent=1)

    async def work(client: Client, queue: str) -> None:
        async with working(platform, client, queue, Seen()):
            runs = [await start(client, queue, Open, "0")]
            await until(lambda: places(platform, "test-open") == (1, 0))
            runs += [await start(client, queue, Open, str(number)) for number in range(1, 4)]
            await until(lambda: places(platform, "test-open") == (1, 3))
            await runs[1].cancel()
            with pytest.raises(WorkflowFailureError):
                await runs[1].result()
            assert places(platform, "test-open") == (1, 2)
            await runs[2].terminate()
            await runs[0].signal(Open.end)
            await runs[3].signal(Open.end)
            assert await runs[3].result() == "ended"
            assert places(platform, "test-open") == (0, 0)

    on(temporal_address, work)


def test_a_run_that_goes_on_or_is_reset_keeps_its_place(platform: Platform, temporal_address: str) -> None:
    put(platform, "test-open", max_concurrent=1)

    async def work(client: Client, queue: str) -> None:
        async with working(platform, client, queue, Seen()):
            first = await start(client, queue, Open, "first")
            await until(lambda: places(platform, "test-open") == (1, 0))
            second = await start(client, queue, Open, "second")
            await until(lambda: places(platform, "test-open") == (1, 1))
            await first.signal(Open.renew)
            again = client.get_workflow_handle(first.id)
            while (await again.describe()).run_id == first.first_execution_run_id:
                await asyncio.sleep(0.02)
            renewed = (await again.describe()).run_id
            await until(lambda: holder(platform) == renewed)
            tasks: list[int] = []
            while not tasks:
                events = (await again.fetch_history()).events
                tasks = [one.event_id for one in events if one.HasField("workflow_task_completed_event_attributes")]
            await client.workflow_service.reset_workflow_execution(
                ResetWorkflowExecutionRequest(
                    namespace=client.namespace, workflow_execution=WorkflowExecution(workflow_id=first.id),
                    reason="for the test", request_id=str(uuid.uuid4()),
                    workflow_task_finish_event_id=tasks[0],
                )
            )  # fmt: skip
            assert (await again.describe()).run_id != renewed
            with platform.database.session() as session:
                session.execute(text("UPDATE workflow_slots SET seen_at = now() - interval '1 hour'"))
            await until(lambda: looked_after(platform))
            assert places(platform, "test-open") == (1, 1)
            await again.signal(Open.end)
            await second.signal(Open.end)
            assert await second.result() == "ended"

    on(temporal_address, work)


def test_redis_away_runs_go_on_with_what_is_known_and_a_change_arrives_later(
    platform: Platform, standins: Services, temporal_address: str
) -> None:
    put(platform, "default", backoff_multiplier=1.0, retry_attempts=1)

    async def work(client: Client, queue: str) -> None:
        seen = Seen()
        async with working(platform, client, queue, seen) as interceptor:
            assert (await asyncio.to_thread(interceptor.store.effective, "test-failing"))[1] == "Redis"
            await asyncio.to_thread(standins.fault, "redis", "refuse")
            saved = await asyncio.to_thread(
                workflow_settings.save, platform, SYSTEM, [Edit("test-failing", {"retry_attempts": 2})], reason="away"
            )
            assert saved.outcome.waiting_for == "Redis"
            handle = await start(client, queue, Failing, "away")
            with pytest.raises(WorkflowFailureError):
                await handle.result()
            assert seen.calls[handle.id] == 1
            await asyncio.to_thread(standins.fault, "redis", None)
            assert await asyncio.to_thread(outbox.deliver, platform, "workflow.settings", "test-failing")
            await until(lambda: interceptor.store.effective("test-failing")[0].retry_attempts == 2)
            await until(lambda: told(platform, queue) == (2, "Redis"))

    on(temporal_address, work)


def test_a_worker_that_is_killed_loses_nothing_and_its_places_are_freed(
    platform: Platform, temporal_address: str
) -> None:
    put(platform, "test-open", max_concurrent=2)

    async def work(client: Client, queue: str) -> None:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support_workflows", temporal_address, queue, cwd=ROOT
        )
        try:
            runs = [await start(client, queue, Open, str(number)) for number in range(3)]
            await until(lambda: places(platform, "test-open") == (2, 1), 20)
        finally:
            child.kill()
            await child.wait()
        dead, alive = sorted(runs, key=lambda run: run.id not in working_ids(platform))[:2]
        (waiting,) = (run for run in runs if run not in (dead, alive))
        await dead.terminate()
        async with working(platform, client, queue, Seen()):
            for run in (waiting, alive):  # the first gets the place of the dead
                await run.signal(Open.end)
                assert await run.result() == "ended"
            await until(lambda: places(platform, "test-open") == (0, 0))

    on(temporal_address, work)


def holder(platform: Platform) -> str:
    """The run that has the place."""
    with platform.database.session() as session:
        return str(session.scalar(text("SELECT run_id FROM workflow_slots WHERE state = 'running'")) or "")


def working_ids(platform: Platform) -> list[str]:
    """Workflows that have a place."""
    with platform.database.session() as session:
        return list(session.scalars(text("SELECT workflow_id FROM workflow_slots WHERE state = 'running'")))


def looked_after(platform: Platform) -> bool:
    with platform.database.session() as session:
        return not session.scalar(text("SELECT count(*) FROM workflow_slots WHERE seen_at < now() - interval '1 min'"))


def told(platform: Platform, queue: str) -> tuple[int, str]:
    """Attempts a worker of the queue says it would give, and from where."""
    held = [one for one in workflow_held.held(platform, SYSTEM) if one.task_queue == queue]
    return (held[0].settings["test-failing"].retry_attempts, held[0].source) if held else (0, "")
