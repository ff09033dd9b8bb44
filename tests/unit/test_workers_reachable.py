"""Which workers count as reachable: a server lists those that were stopped or killed for a long time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from temporalio.api.enums.v1 import WorkerStatus
from temporalio.api.taskqueue.v1 import PollerInfo
from temporalio.api.worker.v1 import WorkerHeartbeat, WorkerInfo
from temporalio.api.workflowservice.v1 import DescribeTaskQueueResponse, ListWorkersResponse
from temporalio.service import RPCError, RPCStatusCode

from adapters.core.deadline import deadline
from adapters.temporal_client import workers
from pages.temporal_parts.workers import _state

RUNNING, STOPPING = WorkerStatus.WORKER_STATUS_RUNNING, WorkerStatus.WORKER_STATUS_SHUTTING_DOWN


def beat(name: str, status: Any, ago: float, every: float = 10) -> WorkerHeartbeat:
    made = WorkerHeartbeat(worker_identity=name, worker_instance_key=name, status=status)
    made.heartbeat_time.FromDatetime(datetime.now(UTC) - timedelta(seconds=ago))
    made.elapsed_since_last_heartbeat.FromTimedelta(timedelta(seconds=every))
    return made


def counted(beats: list[WorkerHeartbeat] | None, polled: dict[str, float]) -> int:
    """Workers counted where the server lists these, and these polled so many seconds ago."""

    class Service:
        async def list_workers(self, *_: Any, **__: Any) -> ListWorkersResponse:
            if beats is None:
                raise RPCError("unknown method", RPCStatusCode.UNIMPLEMENTED, b"")
            return ListWorkersResponse(workers_info=[WorkerInfo(worker_heartbeat=one) for one in beats])

        async def describe_task_queue(self, *_: Any, **__: Any) -> DescribeTaskQueueResponse:
            answer = DescribeTaskQueueResponse()
            for name, ago in polled.items():
                one = PollerInfo(identity=name)
                one.last_access_time.FromDatetime(datetime.now(UTC) - timedelta(seconds=ago))
                answer.pollers.append(one)
            return answer

    client: Any = SimpleNamespace(workflow_service=Service())
    with deadline(5):
        return asyncio.run(workers.reachable(client, "default", "ours"))


def test_only_those_that_run_and_are_heard_of_count() -> None:
    alive, killed = beat("alive", RUNNING, 4), beat("killed", RUNNING, 53)
    assert counted([alive, killed, beat("stopped", STOPPING, 5)], {"killed": 5}) == 1
    assert counted([killed, beat("stopped", STOPPING, 50)], {"killed": 20, "stopped": 20}) == 0
    assert counted([beat("slow", RUNNING, 53, every=60)], {}) == 1, "its next heartbeat is not due yet"


def test_without_heartbeats_those_that_poll_count() -> None:
    assert counted([], {"one": 5, "two": 60, "gone": 200}) == 2
    assert counted(None, {"one": 5}) == 1
    assert counted([beat("killed", RUNNING, 53)], {"killed": 40, "quiet": 5}) == 1


def test_a_stopped_one_does_not_shut_down_for_ever() -> None:
    now = datetime.now(UTC)

    def said(status: Any, ago: float) -> str:
        return _state(workers._worker(beat("one", status, ago)), now)

    assert "Alive" in said(RUNNING, 5)
    assert "Silent" in said(RUNNING, 53)
    assert "Shutting down" in said(STOPPING, 5)
    assert "Stopped" in said(STOPPING, 53)
    assert "Stopped" in said(STOPPING, 120)
    now -= timedelta(seconds=100)
    assert "Alive" in said(RUNNING, 120), "as it was when it was read"
    now += timedelta(seconds=100)
    assert "Stopped" in said(WorkerStatus.WORKER_STATUS_SHUTDOWN, 5)
