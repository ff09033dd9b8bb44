"""Workflows that only tests run, and a worker with the settings' interceptor."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.exceptions import ActivityError
from temporalio.exceptions import ApplicationError as Failed
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from operations.platform import Platform
    from operations.settings import load
    from workflows.interceptor import SettingsInterceptor
    from workflows.store import Store

START = timedelta(seconds=20)


class Seen:
    """What activities saw, over all workers of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.calls: Counter[str] = Counter()
        self.working = 0
        self.most = 0
        self.order: list[str] = []

    @activity.defn(name="test.fail")
    async def fail(self) -> None:
        self.calls[activity.info().workflow_id] += 1
        raise Failed("it never works")

    @activity.defn(name="test.work")
    async def work(self, seconds: float) -> None:
        self.working += 1
        self.most = max(self.most, self.working)
        self.order.append(activity.info().workflow_id)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.working -= 1

    @activity.defn(name="test.undo")
    async def undo(self) -> None:
        self.calls["undone"] += 1


@workflow.defn(name="test-failing")
class Failing:
    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity("test.fail", start_to_close_timeout=START)


@workflow.defn(name="test-working")
class Working:
    @workflow.run
    async def run(self, seconds: float) -> str:
        await workflow.execute_activity("test.work", seconds, start_to_close_timeout=START)
        return "done"


@workflow.defn(name="test-open")
class Open:
    """Works until told to end; on request it goes on as a new run."""

    def __init__(self) -> None:
        self.ended = False
        self.renewed = False

    @workflow.run
    async def run(self) -> str:
        await workflow.wait_condition(lambda: self.ended or self.renewed)
        if self.renewed:
            workflow.continue_as_new()
        return "ended"

    @workflow.signal
    def end(self) -> None:
        self.ended = True

    @workflow.signal
    def renew(self) -> None:
        self.renewed = True


@workflow.defn(name="test-slow")
class Slow:
    """Does one thing, then takes too long; takes back what it did."""

    @workflow.run
    async def run(self) -> None:
        try:
            await workflow.execute_activity("test.work", 30.0, start_to_close_timeout=timedelta(minutes=1))
        except (asyncio.CancelledError, ActivityError):
            await workflow.execute_activity("test.undo", start_to_close_timeout=START)
            raise


KINDS: tuple[type, ...] = (Failing, Working, Open, Slow)


@asynccontextmanager
async def working(
    platform: Platform, client: Client, queue: str, seen: Seen, kinds: Sequence[type] = KINDS, **more: Any
) -> AsyncIterator[SettingsInterceptor]:
    """A worker with the interceptor, its listening and its looking after places."""
    loop, wake = asyncio.get_running_loop(), asyncio.Event()
    names = [kind.__temporal_workflow_definition.name for kind in kinds]
    store = Store(platform, f"{queue}-{id(wake)}", queue, names)
    store.changed = lambda: loop.call_soon_threadsafe(wake.set)
    interceptor = SettingsInterceptor(platform, store)
    store.start()
    watching = asyncio.create_task(interceptor.places.watch(client, wake))
    try:
        async with Worker(
            client, task_queue=queue, workflows=kinds, interceptors=[interceptor],
            activities=[seen.fail, seen.work, seen.undo, *interceptor.activities], **more,
        ):  # fmt: skip
            yield interceptor
    finally:
        watching.cancel()
        await asyncio.wait({watching})
        await asyncio.to_thread(store.stop)
        interceptor.places.close()


async def _main(address: str, queue: str) -> None:
    platform = Platform(load())
    client = await Client.connect(address)
    more = {"sticky_queue_schedule_to_start_timeout": timedelta(seconds=1)}
    async with working(platform, client, queue, Seen(), **more):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:3]))
