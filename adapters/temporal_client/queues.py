"""Task queues: found, described, and given a rate limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from temporalio.api.enums.v1 import RateLimitSource, TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    DescribeTaskQueueResponse,
    ListWorkflowExecutionsRequest,
    UpdateTaskQueueConfigRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from adapters.core.errors import Rejected
from adapters.temporal_client.executions import Unsearchable, left, quoted, when
from adapters.temporal_client.schedules import AT_ONCE

RUNNING_MOST = 40
"""Queues found by asking again and again for a running workflow on none of those known."""
SEARCH_SECONDS = 1.0
POLLERS_MOST = 200
_KINDS = {
    "workflow": TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    "activity": TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
}
KINDS = tuple(_KINDS)


@dataclass(frozen=True, slots=True)
class Poller:
    """Who asks a queue for work. ``rate`` is what it takes at most, in tasks per second."""

    identity: str
    seen_at: datetime | None
    rate: float
    build: str


@dataclass(frozen=True, slots=True)
class Limit:
    """A rate limit set on a queue. ``rate`` in tasks per second: 0 lets nothing through, None is no limit.

    A limit that was taken away keeps its reason, by whom and when.
    """

    rate: float | None = None
    reason: str = ""
    by: str = ""
    at: datetime | None = None

    @property
    def version(self) -> int:
        """When it was set last, in milliseconds since 1970; 0 where it never was."""
        return int(self.at.timestamp() * 1000) if self.at else 0


@dataclass(frozen=True, slots=True)
class Half:
    """One queue's side for workflow tasks or for activities. Rates in tasks per second."""

    kind: str
    pollers: tuple[Poller, ...]
    backlog: int | None
    """Tasks that wait, about; None where the server does not tell."""
    backlog_seconds: float
    """How long the oldest waits."""
    added: float
    dispatched: float
    effective: float | None
    """The limit in force, whoever set it."""
    source: str
    """Who set the limit in force: API, WORKER, SYSTEM or empty."""
    throttled: bool
    limit: Limit


@dataclass(frozen=True, slots=True)
class Queue:
    """A task queue with both its sides."""

    name: str
    workflow: Half
    activity: Half


async def in_use(client: Client, namespace: str, known: Sequence[str]) -> tuple[list[str], bool]:
    """Queues of running workflows beyond those known, and whether there may be more. Raises RPCError.

    At most 40, and those found within about a second: each takes one search.
    """
    found: list[str] = []
    end = time.monotonic() + SEARCH_SECONDS
    named = list(dict.fromkeys(known))
    while True:
        query = "ExecutionStatus='Running'"
        try:
            listed = ", ".join(quoted(name) for name in [*named, *found])
        except Unsearchable:
            # A queue with a name the search cannot match would be found again for ever.
            return found, True
        if listed:
            query += f" AND TaskQueue NOT IN ({listed})"
        request = ListWorkflowExecutionsRequest(namespace=namespace, page_size=1, query=query)
        answer = await client.workflow_service.list_workflow_executions(request, timeout=left())
        fresh = [one.task_queue for one in answer.executions if one.task_queue not in found]
        if not fresh:
            return found, False
        if len(found) >= RUNNING_MOST or time.monotonic() > end:
            return found, True
        found += fresh


async def describe(client: Client, namespace: str, names: Sequence[str]) -> tuple[Queue, ...]:
    """Both sides of each queue, in the order of the names. Raises RPCError."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def half(name: str, kind: str) -> Half:
        async with gate:
            return _half(kind, await raw(client, namespace, name, kind))

    halves = await asyncio.gather(*(half(name, kind) for name in names for kind in KINDS))
    return tuple(Queue(name, halves[2 * at], halves[2 * at + 1]) for at, name in enumerate(names))


async def raw(client: Client, namespace: str, name: str, kind: str) -> DescribeTaskQueueResponse:
    """What the server says of one side of a queue. Raises RPCError."""
    request = DescribeTaskQueueRequest(
        namespace=namespace,
        task_queue=TaskQueue(name=name),
        task_queue_type=_KINDS[kind],
        report_stats=True,
        report_config=True,
    )
    return await client.workflow_service.describe_task_queue(request, timeout=left())


async def set_limit(client: Client, namespace: str, name: str, rate: float | None, reason: str, identity: str) -> Limit:
    """Set or take away (None) the rate limit of a queue's activities, and return it as read back.

    Raises RPCError; Rejected where the server knows no such limits; TimedOut where it does not take effect.
    """
    request = UpdateTaskQueueConfigRequest(
        namespace=namespace, identity=identity, task_queue=name, task_queue_type=_KINDS["activity"]
    )
    request.update_queue_rate_limit.reason = reason
    if rate is not None:
        request.update_queue_rate_limit.rate_limit.requests_per_second = rate
    try:
        await client.workflow_service.update_task_queue_config(request, timeout=left())
    except RPCError as error:
        if error.status is RPCStatusCode.UNIMPLEMENTED:
            raise Rejected(
                "This Temporal server cannot limit the rate of a task queue.",
                detail=error.message,
                advice="Limit it in the worker (max_task_queue_activities_per_second), or upgrade the server.",
            ) from error
        raise
    while True:
        limit = _limit(await raw(client, namespace, name, "activity"))
        if same(limit.rate, rate) and limit.reason == reason:
            return limit
        await asyncio.sleep(0.05)


def same(one: float | None, other: float | None) -> bool:
    """Whether two limits are equal; the server keeps them in single precision."""
    if one is None or other is None:
        return one is other
    return abs(one - other) <= 1e-6 * max(1.0, abs(one), abs(other))


def _half(kind: str, answer: DescribeTaskQueueResponse) -> Half:
    stats = answer.stats if answer.HasField("stats") else None
    effective = answer.effective_rate_limit
    source = RateLimitSource.Name(effective.rate_limit_source).removeprefix("RATE_LIMIT_SOURCE_")
    pollers = sorted(answer.pollers, key=lambda one: one.identity)[:POLLERS_MOST]
    return Half(
        kind,
        tuple(
            Poller(
                one.identity[:255],
                when(one.last_access_time),
                one.rate_per_second,
                one.deployment_options.build_id or one.worker_version_capabilities.build_id,
            )
            for one in pollers
        ),
        None if stats is None else stats.approximate_backlog_count,
        0.0 if stats is None else stats.approximate_backlog_age.ToTimedelta().total_seconds(),
        0.0 if stats is None else stats.tasks_add_rate,
        0.0 if stats is None else stats.tasks_dispatch_rate,
        effective.requests_per_second if answer.HasField("effective_rate_limit") else None,
        "" if source == "UNSPECIFIED" else source,
        stats is not None and stats.rate_limiting_active,
        _limit(answer),
    )


def _limit(answer: DescribeTaskQueueResponse) -> Limit:
    held = answer.config.queue_rate_limit
    rate = held.rate_limit.requests_per_second if held.HasField("rate_limit") else None
    return Limit(
        rate, held.metadata.reason[:1000], held.metadata.update_identity[:255], when(held.metadata.update_time)
    )
