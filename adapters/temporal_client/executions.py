"""Executions of workflows as the server's visibility knows them: filtered, paged and counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import CountWorkflowExecutionsRequest, ListWorkflowExecutionsRequest
from temporalio.client import Client
from temporalio.converter import default as default_converter
from temporalio.service import RPCError, RPCStatusCode

from adapters.core.deadline import remaining
from adapters.core.errors import Rejected
from adapters.core.redact import redact

PAGE_SIZE = 50
MOST = 1000
LETTERS = 255
_OWN = frozenset({"BuildIds", "TemporalChangeVersion", "TemporalScheduledStartTime", "TemporalScheduledById"})
"""Attributes that the server or the SDK writes for itself."""
_FORBIDDEN = set('\\"\x7f') | {chr(code) for code in range(32)}


class Unsearchable(ValueError):
    """A text that the server's search cannot match: it holds a backslash, a double quote or a control character.

    The server writes such letters escaped and then compares the escaped text, so a query with one
    either finds nothing or, unescaped, becomes another query.
    """


class NoExecution(Rejected):
    """There is no such execution, or it has ended and what was asked needs a running one."""

    advice = "Look it up among the executions; closed ones are kept as long as the namespace's retention says."


@contextmanager
def named(workflow_id: str, run_id: str = "") -> Iterator[None]:
    """Tell an execution that is not there from a namespace that is not. Raises NoExecution."""
    try:
        yield
    except RPCError as error:
        said = error.message.lower()
        which = f"{workflow_id} with the run {run_id}" if run_id else workflow_id
        if error.status is RPCStatusCode.NOT_FOUND and not said.startswith("namespace"):
            ended = "already completed" in said
            what = f"The execution {which} has ended." if ended else f"There is no execution {which}."
            raise NoExecution(what, detail=redact(error.message)) from error
        if error.status is RPCStatusCode.INVALID_ARGUMENT and ("runid" in said or "run id" in said):
            raise NoExecution(f"There is no execution {which}.", detail=redact(error.message)) from error
        raise


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution, without what it was given or returned."""

    id: str
    run_id: str
    type: str
    status: str
    """Running, Completed, Failed, Canceled, Terminated, TimedOut, ContinuedAsNew or Unknown."""
    task_queue: str
    started_at: datetime | None
    closed_at: datetime | None
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Search attributes of the namespace's own, as text."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some executions, newest first, and the token of those after them (empty at the end)."""

    rows: tuple[Execution, ...]
    next_token: bytes


def quoted(text: str) -> str:
    """A text as a literal of the query language. Raises Unsearchable."""
    if len(text) > LETTERS or not _FORBIDDEN.isdisjoint(text):
        raise Unsearchable(text[:LETTERS])
    return "'" + text.replace("'", "''") + "'"


def moment(at: datetime) -> str:
    """A moment as a literal of the query language, to the second."""
    return f"'{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}'"


def status_name(status: int) -> str:
    """The server's number of a status as a name in the query language."""
    try:
        name = WorkflowExecutionStatus.Name(WorkflowExecutionStatus.ValueType(status))
    except ValueError:
        return "Unknown"
    words = name.removeprefix("WORKFLOW_EXECUTION_STATUS_").split("_")
    return "".join(word.capitalize() for word in words).replace("Unspecified", "Unknown")


def when(stamp: Timestamp) -> datetime | None:
    """A protobuf moment in UTC; None where it is not set, which servers write as nothing or as the year 1."""
    return stamp.ToDatetime(tzinfo=UTC) if stamp.seconds > 0 else None


async def page(client: Client, namespace: str, query: str, token: bytes = b"", size: int = PAGE_SIZE) -> Page:
    """At most ``size`` (1,000) executions that match, from where ``token`` says. Raises RPCError."""
    request = ListWorkflowExecutionsRequest(
        namespace=namespace, page_size=max(1, min(size, MOST)), next_page_token=token, query=query
    )
    found = await client.workflow_service.list_workflow_executions(request, timeout=left())
    return Page(tuple(execution(info) for info in found.executions), found.next_page_token)


async def count(client: Client, namespace: str, query: str) -> int:
    """How many match. Raises RPCError."""
    request = CountWorkflowExecutionsRequest(namespace=namespace, query=query)
    return int((await client.workflow_service.count_workflow_executions(request, timeout=left())).count)


async def attributes(client: Client, namespace: str) -> dict[str, int]:
    """Search attributes registered for the namespace, by name, with the number of their type. Raises RPCError."""
    request = ListSearchAttributesRequest(namespace=namespace)
    found = await client.operator_service.list_search_attributes(request, timeout=left())
    return {name: int(kind) for name, kind in sorted(found.custom_attributes.items())}


def execution(info: WorkflowExecutionInfo) -> Execution:
    """What visibility says of one execution."""
    return Execution(
        info.execution.workflow_id[:1000],
        info.execution.run_id,
        info.type.name[:LETTERS],
        status_name(info.status),
        info.task_queue[:LETTERS],
        when(info.start_time),
        when(info.close_time),
        {
            name: written(payload)
            for name, payload in sorted(info.search_attributes.indexed_fields.items())
            if name not in _OWN
        },
    )


def written(payload: Payload) -> str:
    """A search attribute's value as text."""
    value: Any
    try:
        value = default_converter().payload_converter.from_payload(payload)
    except (ValueError, RuntimeError, TypeError, KeyError):
        return "not readable"
    if isinstance(value, list):
        value = ", ".join(str(one) for one in value[:20])
    return redact(str(value))[:LETTERS]


def left() -> timedelta:
    """What one request may take: the rest of the present deadline. Raises TimedOut."""
    # Slightly less than the deadline, so that the server's own time-out comes back as an answer.
    return timedelta(seconds=max(0.05, remaining() - 0.05))
