"""One execution in detail: what the server says of it, and its history, the ends of a long one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, PendingActivityState
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    DescribeWorkflowExecutionResponse,
    GetWorkflowExecutionHistoryRequest,
    GetWorkflowExecutionHistoryReverseRequest,
)
from temporalio.client import Client

from adapters.temporal_client import steps as stepping
from adapters.temporal_client.executions import Execution, execution, left, named, when
from adapters.temporal_client.steps import Point, Step
from adapters.temporal_client.values import Failure, Value, failure, values

FIRST = 400
LAST = 400
E = EventType


@dataclass(frozen=True, slots=True)
class Pending:
    """An activity that has not ended."""

    id: str
    type: str
    state: str
    """waiting, running, being canceled or paused."""
    attempt: int
    most: int
    """How many attempts it gets; 0 is no limit."""
    scheduled_at: datetime | None
    started_at: datetime | None
    next_at: datetime | None
    """When it is tried again."""
    heartbeat_at: datetime | None
    worker: str
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class Detail:
    """One execution with its steps. ``skipped`` events in the middle of a long history were not read."""

    execution: Execution
    parent_id: str
    parent_run_id: str
    build_id: str
    attempt: int
    events: int
    skipped: int
    size_bytes: int
    expires_at: datetime | None
    """When its execution timeout ends it."""
    started_by: str
    input: tuple[Value, ...]
    result: tuple[Value, ...]
    failure: Failure | None
    ended: str
    """Who ended it and why, for those terminated."""
    continued_as: str
    """The run that carries on, by continue-as-new, retry or reset."""
    task_attempt: int
    """How often the worker was given the present decision; more than 1 says that its code fails or is away."""
    pending: tuple[Pending, ...]
    steps: tuple[Step, ...]
    points: tuple[Point, ...]


async def detail(client: Client, namespace: str, workflow_id: str, run_id: str = "") -> Detail:
    """The execution; the latest run where none is named. Raises NoExecution, RPCError."""
    asked = WorkflowExecution(workflow_id=workflow_id, run_id=run_id)
    with named(workflow_id, run_id):
        told = await client.workflow_service.describe_workflow_execution(
            DescribeWorkflowExecutionRequest(namespace=namespace, execution=asked), timeout=left()
        )
        events, skipped = await history(client, namespace, told.workflow_execution_info.execution)
    return made(told, events, skipped)


async def history(client: Client, namespace: str, of: WorkflowExecution) -> tuple[list[HistoryEvent], int]:
    """The first and last events of a history, oldest first, and how many between were left out. Raises RPCError."""
    service = client.workflow_service
    head: list[HistoryEvent] = []
    token = b""
    while len(head) < FIRST + LAST:
        page = await service.get_workflow_execution_history(
            GetWorkflowExecutionHistoryRequest(
                namespace=namespace, execution=of, maximum_page_size=FIRST, next_page_token=token
            ),
            timeout=left(),
        )
        head += page.history.events
        token = page.next_page_token
        if not token:
            return head, 0
    head = head[:FIRST]
    tail: list[HistoryEvent] = []
    token = b""
    while len(tail) < LAST:
        back = await service.get_workflow_execution_history_reverse(
            GetWorkflowExecutionHistoryReverseRequest(
                namespace=namespace, execution=of, maximum_page_size=LAST, next_page_token=token
            ),
            timeout=left(),
        )
        tail += back.history.events
        token = back.next_page_token
        if not token:
            break
    kept = sorted((one for one in tail[:LAST] if one.event_id > head[-1].event_id), key=lambda one: one.event_id)
    return head + kept, max(0, kept[0].event_id - head[-1].event_id - 1) if kept else 0


def made(told: DescribeWorkflowExecutionResponse, events: Sequence[HistoryEvent], skipped: int) -> Detail:
    """The detail from the server's two answers."""
    info = told.workflow_execution_info
    pending = tuple(_pending(one) for one in told.pending_activities[:200])
    steps = _present(stepping.build(events), pending, skipped, when(info.close_time))
    first: Any = stepping.attributes(events[0]) if events else None
    last = events[-1] if events else None
    end: Any = stepping.attributes(last) if last is not None else None
    kind = last.event_type if last is not None else 0
    who = f" by {end.identity}" if kind == E.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED and end.identity else ""
    stamp = info.most_recent_worker_version_stamp.build_id or info.assigned_build_id
    return Detail(
        execution=execution(info),
        parent_id=info.parent_execution.workflow_id,
        parent_run_id=info.parent_execution.run_id,
        build_id=(info.versioning_info.deployment_version.build_id or stamp)[:255],
        attempt=max(1, int(getattr(first, "attempt", 1) or 1)),
        events=int(info.history_length) or len(events) + skipped,
        skipped=skipped,
        size_bytes=int(info.history_size_bytes),
        expires_at=when(told.workflow_extended_info.execution_expiration_time),
        started_by=str(getattr(first, "identity", ""))[:255],
        input=values(first.input) if first is not None and hasattr(first, "input") else (),
        result=values(end.result) if kind == E.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED else (),
        failure=failure(end.failure) if kind == E.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED else None,
        ended=f"{end.reason or 'No reason given'}{who}" if kind == E.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED else "",
        continued_as=str(getattr(end, "new_execution_run_id", "") or told.workflow_extended_info.reset_run_id),
        task_attempt=int(told.pending_workflow_task.attempt) if told.HasField("pending_workflow_task") else 0,
        pending=pending,
        steps=tuple(steps),
        points=tuple(stepping.points(events, steps)),
    )


def _present(steps: list[Step], pending: Sequence[Pending], skipped: int, closed: datetime | None) -> list[Step]:
    """Steps with what the server knows of those under way: their attempt and last failure are not in the history."""
    open_now = {one.id: one for one in pending}

    def now(step: Step) -> Step:
        if step.state not in stepping.OPEN:
            return step
        if step.kind == "activity":
            found = open_now.get(step.ident)
            if found is not None:
                state = stepping.RUNNING if found.state in ("running", "being canceled") else stepping.WAITING
                return replace(step, state=state, attempts=max(1, found.attempt), failure=found.failure)
        if closed is not None and not skipped:
            return replace(step, state=stepping.CANCELED, ended_at=closed)  # it ended with its execution
        # Its end may stand in the part that was not read: better unknown than "running".
        return replace(step, state=stepping.UNKNOWN) if skipped else step

    return [now(step) for step in steps]


def _pending(info: PendingActivityInfo) -> Pending:
    states: dict[Any, str] = {
        PendingActivityState.PENDING_ACTIVITY_STATE_STARTED: "running",
        PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED: "being canceled",
        PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED: "paused",
        PendingActivityState.PENDING_ACTIVITY_STATE_PAUSE_REQUESTED: "running",
    }
    state = states.get(info.state, "waiting")
    following = when(info.next_attempt_schedule_time) or (when(info.scheduled_time) if info.attempt > 1 else None)
    return Pending(
        info.activity_id[:255],
        info.activity_type.name[:255],
        state,
        int(info.attempt),
        int(info.maximum_attempts),
        when(info.scheduled_time),
        when(info.last_started_time),
        following if state == "waiting" else None,
        when(info.last_heartbeat_time),
        info.last_worker_identity[:255],
        failure(info.last_failure) if info.HasField("last_failure") else None,
    )
