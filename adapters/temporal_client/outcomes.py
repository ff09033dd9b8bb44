"""How runs of a workflow type end: how long they took, and why the last one failed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, HistoryEventFilterType
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import (
    GetWorkflowExecutionHistoryRequest,
    ListWorkflowExecutionsRequest,
    ListWorkflowExecutionsResponse,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from adapters.core.redact import redact
from adapters.temporal_client.counts import each, of_type, patience
from adapters.temporal_client.executions import Unsearchable, left, status_name, when

SAMPLE = 500
REMEMBERED = 1000
LETTERS = 300
DEPTH = 20
ENDED = "ExecutionStatus IN ('Completed', 'Failed', 'TimedOut')"
FAILED = "ExecutionStatus IN ('Failed', 'TimedOut')"


@dataclass(frozen=True, slots=True)
class Said:
    """Why a run failed. ``message`` may hold what the workflow was given: it is for those who may see payloads."""

    kind: str
    """Type of the error, or what ended the run: "ValueError", "Timeout"."""
    message: str
    step: str = ""
    """The activity or child workflow that failed; empty where the workflow itself did."""


@dataclass(frozen=True, slots=True)
class LastFailure:
    """The run of a type that failed last."""

    workflow_id: str
    run_id: str
    at: datetime | None
    said: Said


@dataclass(frozen=True, slots=True)
class TypeOutcome:
    """Durations in seconds over the latest runs that ended by themselves, and the last failure among all."""

    sample: int = 0
    p50: float | None = None
    p95: float | None = None
    last: LastFailure | None = None


Mark = tuple[int, int, int]
"""Completed, failed and timed out runs of a type: while they stay the same, so does the outcome."""


class Memory:
    """What is known already: why runs failed, and the outcome of each type as long as nothing more has ended.

    Bounded; used on one event loop.
    """

    def __init__(self) -> None:
        self.said: OrderedDict[str, Said] = OrderedDict()
        """By run."""
        self.outcomes: OrderedDict[tuple[str, str], tuple[Mark, TypeOutcome]] = OrderedDict()
        """By span and type."""

    def trim(self) -> None:
        """Forget the oldest of what is too much."""
        while len(self.said) > REMEMBERED:
            self.said.popitem(last=False)
        while len(self.outcomes) > REMEMBERED:
            self.outcomes.popitem(last=False)


async def by_type(
    client: Client, namespace: str, marks: Mapping[str, Mark], span: str, since: datetime | None, memory: Memory
) -> dict[str, TypeOutcome]:
    """Outcome of each type's runs started at ``since`` or later; ``span`` names the time for the memory.

    Only types whose mark has changed are asked for. Where time runs out, the types not reached keep their former
    outcome, or are left out, and come next time. Raises RPCError.
    """
    changed = [name for name, mark in marks.items() if memory.outcomes.get((span, name), (None,))[0] != mark]
    # What was never known comes first, then what was asked for longest ago.
    age = {key: place for place, key in enumerate(memory.outcomes)}
    changed.sort(key=lambda name: age.get((span, name), -1))

    async def one(name: str) -> None:
        try:
            ended = await _listed(client, namespace, of_type(name, since, ENDED), SAMPLE)
            last = await _last(client, namespace, of_type(name, since, FAILED), memory)
        except Unsearchable:
            ended, last = ListWorkflowExecutionsResponse(), None
        seconds = sorted(durations(ended))
        outcome = TypeOutcome(len(seconds), quantile(seconds, 0.5), quantile(seconds, 0.95), last)
        memory.outcomes[span, name] = marks[name], outcome
        memory.outcomes.move_to_end((span, name))

    await each(changed, one, patience())
    known = {name: memory.outcomes[span, name][1] for name in marks if (span, name) in memory.outcomes}
    memory.trim()
    return known


def durations(found: ListWorkflowExecutionsResponse) -> list[float]:
    """Seconds from start to end of each execution."""
    return [
        max(0.0, (info.close_time.ToNanoseconds() - info.start_time.ToNanoseconds()) / 1e9)
        for info in found.executions
        if info.close_time.seconds and info.start_time.seconds
    ]


def quantile(ordered: list[float], q: float) -> float | None:
    """The q-quantile (0 … 1) of sorted values by nearest rank; None of no values."""
    return ordered[min(len(ordered) - 1, round(q * (len(ordered) - 1)))] if ordered else None


async def _last(client: Client, namespace: str, query: str, memory: Memory) -> LastFailure | None:
    found = (await _listed(client, namespace, query, 1)).executions
    if not found:
        return None
    info = found[0]
    run = info.execution
    said = memory.said.get(run.run_id)
    if said is None:
        said = await _why(client, namespace, run) or Said(status_name(info.status), "")
        memory.said[run.run_id] = said
    return LastFailure(run.workflow_id, run.run_id, when(info.close_time), said)


async def _why(client: Client, namespace: str, run: WorkflowExecution) -> Said | None:
    request = GetWorkflowExecutionHistoryRequest(
        namespace=namespace,
        execution=run,
        history_event_filter_type=HistoryEventFilterType.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT,
    )
    try:
        answer = await client.workflow_service.get_workflow_execution_history(request, timeout=left())
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:  # its retention ended between the list and this question
            return None
        raise
    events = answer.history.events
    return said_by(events[-1]) if events else None


def said_by(event: HistoryEvent) -> Said | None:
    """Why a run ended, from its last event; None where it did not fail."""
    if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT:
        return Said("Timeout", "It ran longer than its timeout allows.")
    if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
        return said_of(event.workflow_execution_failed_event_attributes.failure)
    return None


def said_of(failure: Failure) -> Said:
    """What failed and how: the first error in the chain that is more than "a step failed", and that step."""
    step = ""
    for _ in range(DEPTH):
        if failure.HasField("activity_failure_info"):
            step = step or failure.activity_failure_info.activity_type.name
        elif failure.HasField("child_workflow_execution_failure_info"):
            step = step or failure.child_workflow_execution_failure_info.workflow_type.name
        else:
            break
        if not failure.HasField("cause"):
            break
        failure = failure.cause
    return Said(_kind(failure)[:LETTERS], redact(failure.message)[:LETTERS], step[:LETTERS])


def _kind(failure: Failure) -> str:
    match failure.WhichOneof("failure_info"):
        case "application_failure_info":
            return failure.application_failure_info.type or "Error"
        case "timeout_failure_info":
            return "Timeout"
        case "canceled_failure_info":
            return "Canceled"
        case "terminated_failure_info":
            return "Terminated"
        case "server_failure_info":
            return "Server failure"
    return "Error"


async def _listed(client: Client, namespace: str, query: str, size: int) -> ListWorkflowExecutionsResponse:
    request = ListWorkflowExecutionsRequest(namespace=namespace, page_size=size, query=query)
    return await client.workflow_service.list_workflow_executions(request, timeout=left())
