"""Schedules of a namespace: listed, and described with the outcome of their runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from temporalio.api.schedule.v1 import ScheduleListEntry
from temporalio.api.workflowservice.v1 import (
    DescribeScheduleRequest,
    DescribeScheduleResponse,
    ListScheduleMatchingTimesRequest,
    ListSchedulesRequest,
    ListWorkflowExecutionsRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from adapters.temporal_client import payloads
from adapters.temporal_client.executions import left, status_name, when
from adapters.temporal_client.schedule_spec import Spec, read

MOST = 1000
"""Schedules listed; matching times the server gives at once."""
PAGE = 100
AT_ONCE = 16
RECENT = 10
OVERLAPS = ("Skip", "BufferOne", "BufferAll", "CancelOther", "TerminateOther", "AllowAll")


@dataclass(frozen=True, slots=True)
class Named:
    """A schedule as the list has it, a moment behind."""

    id: str
    type: str
    paused: bool
    note: str


@dataclass(frozen=True, slots=True)
class Ran:
    """One run a schedule started. ``status`` as in the query language ("Completed"); "Unknown" once it is not kept."""

    workflow_id: str
    run_id: str
    scheduled_at: datetime | None
    started_at: datetime | None
    status: str
    closed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """One schedule with its runs. ``version`` is what conflicts are told by."""

    id: str
    type: str
    workflow_id: str
    task_queue: str
    spec: Spec
    paused: bool
    note: str
    overlap: str
    catchup_seconds: float
    pause_on_failure: bool
    left: int | None
    """Runs still allowed; None without a bound."""
    next: tuple[datetime, ...]
    recent: tuple[Ran, ...]
    """Newest first, at most 10."""
    running: tuple[tuple[str, str], ...]
    """Workflow id and run id of those that run now."""
    started: int
    missed: int
    skipped: int
    created_at: datetime | None
    updated_at: datetime | None
    error: str
    input: payloads.Shown
    version: int


@dataclass(frozen=True, slots=True)
class Names:
    """Schedules by id, and whether there are more than were read."""

    rows: tuple[Named, ...]
    cut: bool


async def names(client: Client, namespace: str) -> Names:
    """At most 1,000 schedules, by id. Raises RPCError."""
    rows: list[ScheduleListEntry] = []
    token = b""
    while True:
        request = ListSchedulesRequest(namespace=namespace, maximum_page_size=PAGE, next_page_token=token)
        found = await client.workflow_service.list_schedules(request, timeout=left())
        rows += found.schedules
        token = found.next_page_token
        if not token or len(rows) >= MOST:
            break
    named = (
        Named(row.schedule_id, row.info.workflow_type.name, row.info.paused, row.info.notes) for row in rows[:MOST]
    )
    return Names(tuple(sorted(named, key=lambda one: one.id)), bool(token) or len(rows) > MOST)


async def describe(client: Client, namespace: str, ids: Sequence[str]) -> tuple[Schedule, ...]:
    """The schedules that exist among ``ids``, in their order, with the outcome of their runs. Raises RPCError."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(schedule_id: str) -> DescribeScheduleResponse | None:
        async with gate:
            return await raw(client, namespace, schedule_id)

    found = await asyncio.gather(*(one(schedule_id) for schedule_id in ids))
    known = [(schedule_id, answer) for schedule_id, answer in zip(ids, found, strict=True) if answer is not None]
    runs = [
        action.start_workflow_result.workflow_id
        for _, answer in known
        for action in list(answer.info.recent_actions)[-RECENT:]
    ]
    ended = await _outcomes(client, namespace, runs)
    return tuple(_schedule(schedule_id, answer, ended) for schedule_id, answer in known)


async def raw(client: Client, namespace: str, schedule_id: str) -> DescribeScheduleResponse | None:
    """What the server says of one schedule; None where there is none. Raises RPCError."""
    request = DescribeScheduleRequest(namespace=namespace, schedule_id=schedule_id)
    try:
        return await client.workflow_service.describe_schedule(request, timeout=left())
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND and "namespace" not in error.message.lower():
            return None
        raise


async def matching(client: Client, namespace: str, schedule_id: str, start: datetime, end: datetime) -> list[datetime]:
    """Times of the schedule from ``start`` to ``end``, both included; at most 1,000. Raises RPCError."""
    request = ListScheduleMatchingTimesRequest(namespace=namespace, schedule_id=schedule_id)
    # The server leaves the first moment out here and takes it in when it backfills.
    request.start_time.FromDatetime(start - timedelta(milliseconds=1))
    request.end_time.FromDatetime(end)
    found = await client.workflow_service.list_schedule_matching_times(request, timeout=left())
    return [at for at in map(when, found.start_time) if at is not None]


def version(token: bytes) -> int:
    """A conflict token as a number, to be compared and nothing else."""
    return int.from_bytes(token, "big")


async def _outcomes(
    client: Client, namespace: str, ids: Sequence[str]
) -> dict[tuple[str, str], tuple[str, datetime | None]]:
    """Status and end of runs by workflow id and run id, as visibility has them; those not kept are missing."""
    wanted = [one for one in dict.fromkeys(ids) if one and "'" not in one and "\\" not in one]
    found: dict[tuple[str, str], tuple[str, datetime | None]] = {}
    for start in range(0, len(wanted), PAGE):
        listed = ", ".join(f"'{one}'" for one in wanted[start : start + PAGE])
        request = ListWorkflowExecutionsRequest(
            namespace=namespace, page_size=2 * PAGE, query=f"WorkflowId IN ({listed})"
        )
        answer = await client.workflow_service.list_workflow_executions(request, timeout=left())
        for run in answer.executions:
            key = (run.execution.workflow_id, run.execution.run_id)
            found[key] = (status_name(run.status), when(run.close_time) if run.HasField("close_time") else None)
    return found


def _schedule(
    schedule_id: str, answer: DescribeScheduleResponse, ended: dict[tuple[str, str], tuple[str, datetime | None]]
) -> Schedule:
    made, info = answer.schedule, answer.info
    start = made.action.start_workflow
    recent = []
    for action in reversed(list(info.recent_actions)[-RECENT:]):
        run = action.start_workflow_result
        status, closed = ended.get((run.workflow_id, run.run_id), (status_name(action.start_workflow_status), None))
        recent.append(
            Ran(run.workflow_id, run.run_id, when(action.schedule_time), when(action.actual_time), status, closed)
        )
    policies, state = made.policies, made.state
    return Schedule(
        schedule_id,
        start.workflow_type.name,
        start.workflow_id,
        start.task_queue.name,
        read(made.spec),
        state.paused,
        state.notes,
        OVERLAPS[max(0, policies.overlap_policy - 1)] if policies.overlap_policy <= len(OVERLAPS) else "Skip",
        policies.catchup_window.ToTimedelta().total_seconds(),
        policies.pause_on_failure,
        state.remaining_actions if state.limited_actions else None,
        tuple(at for at in map(when, info.future_action_times) if at is not None),
        tuple(recent),
        tuple((run.workflow_id, run.run_id) for run in info.running_workflows),
        info.action_count,
        info.missed_catchup_window,
        info.overlap_skipped,
        when(info.create_time),
        when(info.update_time),
        info.invalid_schedule_error[:500],
        payloads.shown(start.input.payloads),
        version(answer.conflict_token),
    )
