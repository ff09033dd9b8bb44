"""Task queues and workers on a real Temporal server: found, limited with effect, on record; workers by heartbeat."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity, workflow
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from adapters.temporal import Temporal, TemporalConfig
from adapters.temporal_client import workers
from operations import audit, workflow_queues
from operations.access import SYSTEM, Actor, Forbidden
from operations.change import Conflict, Invalid, NotFound
from operations.platform import Platform
from tests.support import poll

pytestmark = pytest.mark.engines

ADMIN = Actor("infra", "Ines Infra", frozenset({"infra_admin"}))
VIEWER = Actor("viewer", "Vera Viewer", frozenset({"ai_viewer"}))
_numbers = itertools.count(1)


@activity.defn
async def nothing() -> str:
    return "done"


@workflow.defn(name="OneActivity")
class OneActivity:
    @workflow.run
    async def run(self) -> str:
        return await workflow.execute_activity(nothing, start_to_close_timeout=timedelta(seconds=10))


class Working:
    """A worker of this test alone, on a loop of its own, with a heartbeat each second."""

    def __init__(self, address: str, queue: str, namespace: str = "default", beats: bool = True) -> None:
        self.queue, self.namespace = queue, namespace
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.call(self._start(address, beats))

    def call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    async def _start(self, address: str, beats: bool) -> None:
        runtime = Runtime(
            telemetry=TelemetryConfig(), worker_heartbeat_interval=timedelta(seconds=1) if beats else None
        )
        self.client = await Client.connect(address, namespace=self.namespace, runtime=runtime)
        self.worker = Worker(
            self.client, task_queue=self.queue, workflows=[OneActivity], activities=[nothing], build_id="build-7",
            identity=f"worker-of-{self.queue}", max_concurrent_activities=5,
            workflow_runner=UnsandboxedWorkflowRunner(),
        )  # fmt: skip
        self.running = asyncio.create_task(self.worker.run())

    def begin(self) -> str:
        name = f"{self.queue}-{next(_numbers)}"
        self.call(self.client.start_workflow(OneActivity.run, id=name, task_queue=self.queue))
        return name

    def result(self, name: str) -> str:
        return str(self.call(self.client.get_workflow_handle(name).result()))

    def close(self) -> None:
        self.call(self.worker.shutdown())
        self.loop.call_soon_threadsafe(self.loop.stop)


@pytest.fixture
def queue() -> str:
    return f"queue-{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def working(temporal_address: str, queue: str) -> Iterator[Working]:
    made = Working(temporal_address, queue)
    yield made
    made.close()


def test_a_worker_is_known_by_its_heartbeat(
    platform: Platform, temporal_address: str, working: Working, queue: str
) -> None:
    found = poll(
        lambda: next((one for one in workflow_queues.alive(platform, VIEWER).rows if one.task_queue == queue), None)
    )
    assert found is not None
    assert (found.identity, found.build, found.status) == (f"worker-of-{queue}", "build-7", "RUNNING")
    assert found.process == str(os.getpid())
    assert found.sdk.startswith("temporal-python ")
    assert ("Activities", 0, 5) in [(one.kind, one.used, one.free) for one in found.slots]
    assert found.seen_at is not None and found.started_at is not None
    quiet = Working(temporal_address, f"{queue}-quiet", beats=False)
    try:
        beside = poll(
            lambda: [one for one in workflow_queues.alive(platform, VIEWER, (quiet.queue,)).rows if one.polls]
        )
        assert beside[0].identity == f"worker-of-{quiet.queue}"
    finally:
        quiet.close()
    names = workflow_queues.find(platform, VIEWER).names
    assert "workers" in names[queue]
    assert names["pilothouse"][0] == "ours"


def test_a_stopped_worker_is_no_longer_reachable(platform: Platform, temporal_address: str, queue: str) -> None:
    adapter = Temporal(TemporalConfig(address=temporal_address))
    first, second = Working(temporal_address, f"{queue}-a"), Working(temporal_address, f"{queue}-b")
    try:
        poll(lambda: adapter.connection().workers >= 2)
        before = adapter.connection().workers
        second.close()
        poll(lambda: adapter.connection().workers == before - 1, 10)
    finally:
        first.close()
        adapter.close()


def test_without_heartbeats_pollers_are_shown_and_it_is_said(temporal_address: str, queue: str) -> None:
    space = f"space-{queue}"

    async def register() -> None:
        client = await Client.connect(temporal_address)
        request = RegisterNamespaceRequest(namespace=space)
        request.workflow_execution_retention_period.FromTimedelta(timedelta(days=1))
        await client.workflow_service.register_namespace(request)

    asyncio.run(register())

    def started() -> Working | None:
        try:
            return Working(temporal_address, queue, space, beats=False)
        except (RPCError, RuntimeError):
            return None

    working = poll(started, every=0.1)
    assert working is not None
    try:
        found = poll(lambda: (seen := working.call(workers.alive(working.client, space, [queue]))).rows and seen)
        assert not found.heartbeats
        assert "heartbeat" in found.why
        both = poll(
            lambda: [
                one for one in working.call(workers.alive(working.client, space, [queue])).rows if len(one.polls) == 2
            ]
        )
        assert both[0].identity == f"worker-of-{queue}"
    finally:
        working.close()


def test_zero_blocks_and_nothing_sets_free(platform: Platform, working: Working, queue: str) -> None:
    poll(lambda: workflow_queues.one(platform, ADMIN, queue).activity.pollers)
    done = workflow_queues.set_limit(platform, ADMIN, queue, 0.0, seen=0, reason="the other side is down")
    held = workflow_queues.one(platform, VIEWER, queue).activity
    assert (held.limit.rate, held.limit.reason, held.limit.by) == (
        0.0, "the other side is down", "Ines Infra (Pilothouse)",
    )  # fmt: skip
    assert (held.effective, held.source, held.limit.version) == (0.0, "API", done.version)
    name = working.begin()
    waiting = poll(lambda: (half := workflow_queues.one(platform, ADMIN, queue).activity).backlog and half)
    assert waiting.backlog == 1
    with pytest.raises(Conflict) as late:
        workflow_queues.set_limit(platform, ADMIN, queue, 50.0, seen=0, reason="me too")
    assert late.value.current["requests_per_second"] == 0.0
    workflow_queues.set_limit(platform, ADMIN, queue, None, seen=done.version, reason="up again")
    assert working.result(name) == "done"
    free = workflow_queues.one(platform, ADMIN, queue).activity
    assert (free.limit.rate, free.limit.reason, free.source) == (None, "up again", "SYSTEM")
    entries = audit.entries(platform, SYSTEM, f"temporal:queue:{queue}")
    told = [(one.action, (one.after or {}).get("requests_per_second"), one.reason) for one in entries[::2]]
    assert told == [("temporal.queue.unlimit", None, "up again"), ("temporal.queue.limit", 0, "the other side is down")]
    assert [(one.after or {})["outcome"] for one in entries] == ["done", "asked for"] * 2


def test_what_cannot_be_a_limit_is_named(platform: Platform, queue: str) -> None:
    attempts: list[tuple[Callable[[], object], str]] = [
        (lambda: workflow_queues.set_limit(platform, ADMIN, queue, -1, seen=0, reason="x"), "requests_per_second"),
        (lambda: workflow_queues.set_limit(platform, ADMIN, queue, float("nan"), seen=0, reason="x"),
         "requests_per_second"),
        (lambda: workflow_queues.set_limit(platform, ADMIN, queue, 1, seen=0, reason=""), "reason"),
        (lambda: workflow_queues.set_limit(platform, ADMIN, queue, 1, seen=0, reason="x", kind="workflow"), "kind"),
        (lambda: workflow_queues.set_limit(platform, ADMIN, " ", 1, seen=0, reason="x"), "queue"),
        (lambda: workflow_queues.set_limit(platform, ADMIN, queue, None, seen=0, reason="x"), "requests_per_second"),
        (lambda: workflow_queues.rate_of("many"), "requests per second"),
    ]  # fmt: skip
    for attempt, field in attempts:
        with pytest.raises(Invalid) as refused:
            attempt()
        assert [error.field for error in refused.value.errors] == [field]
    with pytest.raises(NotFound):
        workflow_queues.set_limit(platform, ADMIN, queue, 1, seen=0, reason="a typing error")
    with pytest.raises(Forbidden):
        workflow_queues.set_limit(platform, VIEWER, queue, 1, seen=0, reason="x")
    assert workflow_queues.rate_of(" 1,000 ") == 1000
    assert workflow_queues.rate_of("0") == 0.0
    assert workflow_queues.rate_of("") is None
