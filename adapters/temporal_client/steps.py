"""The steps of an execution, made from its history's events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.api.enums.v1 import EventType, TimeoutType, WorkflowTaskFailedCause
from temporalio.api.history.v1 import HistoryEvent

from adapters.temporal_client.executions import when
from adapters.temporal_client.values import Failure, Value, failure, values

STEP_LETTERS = 4000
WAITING, RUNNING, DONE, FAILED, TIMED_OUT, CANCELED, UNKNOWN = (
    "waiting", "running", "done", "failed", "timed out", "canceled", "unknown",
)  # fmt: skip
OPEN = (WAITING, RUNNING)


@dataclass(frozen=True, slots=True)
class Step:
    """Something the execution did, waited for or was told."""

    event: int
    """Number of the event it began with."""
    kind: str
    """activity, local activity, timer, child workflow, nexus, update, signal, signal sent, cancel, task, reset,
    marker."""
    name: str
    ident: str
    state: str
    began_at: datetime | None
    ended_at: datetime | None = None
    decided_by: int = 0
    """Number of the workflow task's completion that began it; 0 where none did."""
    attempts: int = 1
    note: str = ""
    """What its author wrote about it, or what it waited for."""
    failure: Failure | None = None
    given: tuple[Value, ...] = ()
    gave: tuple[Value, ...] = ()
    run_id: str = ""
    """Of a child workflow."""

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it has not ended."""
        if self.began_at is None or self.ended_at is None:
            return None
        return max(0.0, (self.ended_at - self.began_at).total_seconds())


@dataclass(frozen=True, slots=True)
class Point:
    """A moment an execution can be reset to: what was decided there is decided again."""

    event: int
    at: datetime | None
    before: str
    """The first thing that was decided there, in words."""


E = EventType
_CLOSERS: dict[int, tuple[str, str]] = {
    E.EVENT_TYPE_ACTIVITY_TASK_STARTED: ("scheduled_event_id", RUNNING),
    E.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: ("scheduled_event_id", DONE),
    E.EVENT_TYPE_ACTIVITY_TASK_FAILED: ("scheduled_event_id", FAILED),
    E.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: ("scheduled_event_id", TIMED_OUT),
    E.EVENT_TYPE_ACTIVITY_TASK_CANCELED: ("scheduled_event_id", CANCELED),
    E.EVENT_TYPE_TIMER_FIRED: ("started_event_id", DONE),
    E.EVENT_TYPE_TIMER_CANCELED: ("started_event_id", CANCELED),
    E.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED: ("initiated_event_id", RUNNING),
    E.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED: ("initiated_event_id", FAILED),
    E.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED: ("initiated_event_id", DONE),
    E.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED: ("initiated_event_id", FAILED),
    E.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED: ("initiated_event_id", CANCELED),
    E.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT: ("initiated_event_id", TIMED_OUT),
    E.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED: ("initiated_event_id", CANCELED),
    E.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED: ("initiated_event_id", DONE),
    E.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED: ("initiated_event_id", FAILED),
    E.EVENT_TYPE_NEXUS_OPERATION_STARTED: ("scheduled_event_id", RUNNING),
    E.EVENT_TYPE_NEXUS_OPERATION_COMPLETED: ("scheduled_event_id", DONE),
    E.EVENT_TYPE_NEXUS_OPERATION_FAILED: ("scheduled_event_id", FAILED),
    E.EVENT_TYPE_NEXUS_OPERATION_CANCELED: ("scheduled_event_id", CANCELED),
    E.EVENT_TYPE_NEXUS_OPERATION_TIMED_OUT: ("scheduled_event_id", TIMED_OUT),
    E.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED: ("accepted_event_id", DONE),
}
"""Events that carry a step on: the field that names its first event, and the state after."""


def attributes(event: HistoryEvent) -> Any:
    """What an event holds besides its number and time."""
    return getattr(event, event.WhichOneof("attributes") or "", None)


def build(events: Iterable[HistoryEvent]) -> list[Step]:
    """The steps in the order they began. An event whose beginning is not among ``events`` is left out."""
    found: dict[int, Step] = {}
    for event in events:
        closer = _CLOSERS.get(event.event_type)
        if closer is not None:
            held = attributes(event)
            begun = found.get(int(getattr(held, closer[0])))
            if begun is not None:
                found[begun.event] = _carried(begun, event, held, closer[1])
            continue
        begun = _opened(event)
        if begun is not None:
            found[begun.event] = begun
    return sorted(found.values(), key=lambda step: step.event)


def _opened(event: HistoryEvent) -> Step | None:
    a = attributes(event)
    at = when(event.event_time)

    def step(kind: str, name: str, ident: str = "", state: str = WAITING, **more: Any) -> Step:
        decided = int(getattr(a, "workflow_task_completed_event_id", 0))
        ended = at if state not in OPEN else None
        told = _summary(event) or more.pop("note", "")
        more.pop("note", None)
        return Step(event.event_id, kind, name[:255], ident[:1000], state, at, ended, decided, note=told, **more)

    match event.event_type:
        case E.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            return step("activity", a.activity_type.name, a.activity_id, given=values(a.input, STEP_LETTERS))
        case E.EVENT_TYPE_TIMER_STARTED:
            return step("timer", f"Wait {_span(a.start_to_fire_timeout.ToTimedelta())}", a.timer_id, RUNNING)
        case E.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
            return step("child workflow", a.workflow_type.name, a.workflow_id, given=values(a.input, STEP_LETTERS))
        case E.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED:
            return step("signal sent", a.signal_name, a.workflow_execution.workflow_id)
        case E.EVENT_TYPE_NEXUS_OPERATION_SCHEDULED:
            return step("nexus", f"{a.service}.{a.operation}", a.endpoint)
        case E.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
            return step("update", a.accepted_request.input.name, a.protocol_instance_id, RUNNING)
        case E.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
            return step("signal", a.signal_name, "", DONE, given=values(a.input, STEP_LETTERS), note=f"by {a.identity}")
        case E.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED:
            return step("cancel", "Cancellation asked for", "", DONE, note=a.cause or f"by {a.identity}")
        case E.EVENT_TYPE_WORKFLOW_TASK_FAILED:
            reset = a.cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW
            if reset:
                return step("reset", "Reset to here", "", DONE, note=a.failure.message)
            return step("task", "The worker's code failed", "", FAILED, failure=failure(a.failure))
        case E.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT:
            kind = TimeoutType.Name(a.timeout_type).removeprefix("TIMEOUT_TYPE_").replace("_", " ").lower()
            return step("task", "The worker did not answer", "", TIMED_OUT, note=kind)
        case E.EVENT_TYPE_MARKER_RECORDED:
            return _marker(event, a, at)
    return None


def _marker(event: HistoryEvent, a: Any, at: datetime | None) -> Step | None:
    """Local activities and what an author noted; the SDKs' own book-keeping of versions is none of the steps."""
    name = a.marker_name
    if name in ("core_patch", "Version", "MutableSideEffect"):
        return None
    decided = int(a.workflow_task_completed_event_id)
    if "local" not in name.lower():
        return Step(event.event_id, "marker", name[:255], "", DONE, at, at, decided, note=_summary(event))
    told: dict[str, Any] = {}
    data = a.details.get("data")
    if data is not None and data.payloads:
        try:
            read = json.loads(data.payloads[0].data)
            told = read if isinstance(read, dict) else {}
        except ValueError:
            told = {}
    title = told.get("activity_type") or told.get("ActivityType") or "local activity"
    began = _told_moment(told.get("original_schedule_time")) or at
    ended = _told_moment(told.get("complete_time")) or at
    failed = a.HasField("failure")
    attempts = told.get("attempt") or told.get("Attempt") or 1
    result = a.details.get("result")
    return Step(
        event.event_id, "local activity", str(title)[:255], str(told.get("activity_id") or "")[:255],
        FAILED if failed else DONE, began, max(began, ended) if began and ended else ended, decided,
        int(attempts) if str(attempts).isdigit() else 1, _summary(event),
        failure(a.failure) if failed else None, (), values(result, STEP_LETTERS) if result is not None else (),
    )  # fmt: skip


def _carried(step: Step, event: HistoryEvent, a: Any, state: str) -> Step:
    at = when(event.event_time)
    attempts = int(getattr(a, "attempt", 0)) or step.attempts
    run_id = a.workflow_execution.run_id if step.kind == "child workflow" and hasattr(a, "workflow_execution") else ""
    held = {field.name for field in a.DESCRIPTOR.fields}
    failed = step.failure
    for name in ("last_failure", "failure"):
        if name in held and a.HasField(name):
            failed = failure(getattr(a, name))
    if state == DONE:
        failed = None if step.attempts == 1 else failed
    gave = step.gave
    if "result" in held:
        result = a.result
        gave = values(result, STEP_LETTERS) if hasattr(result, "payloads") else values([result], STEP_LETTERS)
    return replace(
        step,
        state=state,
        ended_at=None if state in OPEN else at,
        attempts=attempts,
        failure=failed,
        gave=gave,
        run_id=run_id or step.run_id,
    )


def points(events: Iterable[HistoryEvent], steps: Sequence[Step]) -> list[Point]:
    """Where the execution can be reset to, in words: before the first step that was decided there.

    Decisions that began nothing visible are left out, but for the last one.
    """
    first: dict[int, Step] = {}
    for step in steps:
        if step.decided_by:
            first.setdefault(step.decided_by, step)
    decided = [one for one in events if one.event_type == E.EVENT_TYPE_WORKFLOW_TASK_COMPLETED]
    return [
        Point(one.event_id, when(one.event_time), _words(first.get(one.event_id)))
        for one in decided
        if one.event_id in first or one is decided[-1]
    ]


def _words(step: Step | None) -> str:
    if step is None:
        return "its last decision"
    return step.name[:1].lower() + step.name[1:] if step.kind == "timer" else f"{step.kind} {step.note or step.name}"


def _summary(event: HistoryEvent) -> str:
    if not event.HasField("user_metadata") or not event.user_metadata.HasField("summary"):
        return ""
    found = values([event.user_metadata.summary], 200)[0]
    return found.text.strip('"') if found.readable else ""


def _span(length: timedelta) -> str:
    seconds = length.total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _told_moment(told: Any) -> datetime | None:
    if isinstance(told, dict) and isinstance(told.get("seconds"), int):
        return datetime.fromtimestamp(told["seconds"] + int(told.get("nanos") or 0) / 1e9, UTC)
    if isinstance(told, str):
        try:
            at = datetime.fromisoformat(told)
        except ValueError:
            return None
        return at if at.tzinfo else at.replace(tzinfo=UTC)
    return None
