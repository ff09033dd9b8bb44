"""Small workflows on a real server, and a worker in a thread that runs them."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from adapters.temporal import Temporal, TemporalConfig
from operations.database import Database
from operations.readings import Readings
from sandbox.engines import Postgres

DONE: list[str] = []
"""Activities that ran, in order: what a reset repeats and what it does not."""
BROKEN: set[str] = set()
"""What fails at the moment."""


@activity.defn
async def work(what: str) -> str:
    """Note that it ran; fail while it is broken."""
    DONE.append(what)
    if what in BROKEN:
        raise ApplicationError(f"secret of {what}", type="Broken", non_retryable=True)
    if f"{what}:later" in BROKEN:
        raise ApplicationError(f"secret of {what}", type="Broken")
    return f"result of {what}"


@workflow.defn
class Chain:
    """Two activities, a local one before them."""

    @workflow.run
    async def run(self, name: str) -> str:
        """One after the other."""
        await workflow.execute_local_activity(work, f"{name}.local", start_to_close_timeout=timedelta(seconds=5))
        await workflow.execute_activity(
            work, f"{name}.one", start_to_close_timeout=timedelta(seconds=5), summary="The first step"
        )
        return await workflow.execute_activity(
            work, f"{name}.two", start_to_close_timeout=timedelta(seconds=5),
            retry_policy=RetryPolicy(initial_interval=timedelta(seconds=30)),
        )  # fmt: skip


@workflow.defn
class Gate:
    """Waits for a signal; cleans up when it is canceled."""

    def __init__(self) -> None:
        self._given: list[str] = []

    @workflow.signal
    def open(self, what: str) -> None:
        """Let it end with this."""
        self._given.append(what)

    @workflow.run
    async def run(self, name: str = "") -> str:
        """Until something is given."""
        await workflow.wait_condition(lambda: bool(self._given))
        return self._given[0]


@contextmanager
def console(postgres: Postgres, template: str, address: str) -> Iterator[Any]:
    """What operations on executions need of a platform, on a database of its own."""
    name = f"executions_{uuid.uuid4().hex[:8]}"
    adapter = Temporal(TemporalConfig(address=address))
    made = SimpleNamespace(
        database=Database(postgres.create_database(name, template)), adapters={"temporal": adapter}, readings=Readings()
    )
    yield made
    made.readings.close()
    adapter.close()
    made.database.close()
    postgres.drop_database(name)


@contextmanager
def worker(address: str, queue: str) -> Iterator[None]:
    """A worker of these workflows on a queue of the caller's own."""
    ready, loop, stop = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

    async def run() -> None:
        client = await Client.connect(address)
        async with Worker(
            client, task_queue=queue, workflows=[Chain, Gate], activities=[work],
            workflow_runner=UnsandboxedWorkflowRunner(), graceful_shutdown_timeout=timedelta(0),
        ):  # fmt: skip
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
    thread.start()
    try:
        assert ready.wait(10), "the worker did not start"
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()
