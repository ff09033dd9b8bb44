"""How many executions there are, type by type and status by status: what the server does not group by itself."""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from temporalio.api.workflowservice.v1 import CountWorkflowExecutionsRequest, ListWorkflowExecutionsRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from adapters.core.deadline import remaining
from adapters.core.errors import TimedOut
from adapters.core.redact import redact
from adapters.temporal_client.executions import Unsearchable, left, moment, quoted

AT_ONCE = 8
TYPES_MOST = 200
FIRST_LOOK = 500
REMEMBERED = 1000
SPARE_SECONDS = 1.0
DISCOVER_SECONDS = 4.0
"""For finding types, so that time is left to count them: what is not found comes the next time."""


@dataclass(frozen=True, slots=True)
class Types:
    """Names of workflow types in the order they were found; ``more`` when some were left out."""

    names: tuple[str, ...]
    more: bool = False


@dataclass(frozen=True, slots=True)
class TypeCounts:
    """Executions of one type by status."""

    running: int = 0
    untaken: int | None = 0
    """Of the running ones, those whose first step no worker has done; None where the server cannot tell."""
    completed: int = 0
    failed: int = 0
    timed_out: int = 0
    canceled: int = 0
    terminated: int = 0
    continued: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return (
            self.running + self.completed + self.failed + self.timed_out + self.canceled + self.terminated
            + self.continued
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts by type; of the types that are ``late``, former ones, or none yet: the server was too slow."""

    types: dict[str, TypeCounts]
    late: frozenset[str] = frozenset()


Memory = OrderedDict[tuple[str, str], TypeCounts]
"""Former counts by span and type, those counted longest ago first. Used on one event loop."""

_FIELDS = {
    "Running": "running", "Completed": "completed", "Failed": "failed", "TimedOut": "timed_out",
    "Canceled": "canceled", "Terminated": "terminated", "ContinuedAsNew": "continued",
}  # fmt: skip
UNTAKEN = "ExecutionStatus = 'Running' AND BuildIds IS NULL"
"""The server notes the worker's build at the first workflow task a worker completes, versioned or not."""


def of_type(name: str, since: datetime | None, *more: str) -> str:
    """The query of one type's executions started at ``since`` or later. Raises Unsearchable."""
    return _since(f"WorkflowType = {quoted(name)}", *more, since=since)


def _since(*parts: str, since: datetime | None) -> str:
    return " AND ".join((*parts, *([f"StartTime >= {moment(since)}"] if since is not None else [])))


async def discover(client: Client, namespace: str, known: Sequence[str] = (), most: int = TYPES_MOST) -> Types:
    """Types of the executions the namespace keeps, beginning with those ``known``; at most ``most``.

    The server cannot list types: the newest executions tell most of them, and one question after the other
    for an execution of none of the types so far tells the rest. Where the server is too slow for that, what was found
    is returned with ``more``, to go on from the next time. Raises RPCError, and TimedOut where nothing is known.
    """
    found: dict[str, None] = dict.fromkeys(known)
    odd = False  # a name that cannot be left out of a query hides the types behind it
    begun = time.monotonic()
    last = begun + patience()  # where nothing is known, all there is for the first answer
    end = min(last, begun + DISCOVER_SECONDS)
    try:
        for name in [] if found else await _types(client, namespace, "", FIRST_LOOK, last):
            found[name] = None
        while len(found) < most:
            usable = _searchable(found)
            query = f"WorkflowType NOT IN ({', '.join(usable)})" if usable else ""
            new = [name for name in await _types(client, namespace, query, 1, end) if name not in found]
            if not new:
                odd = len(usable) < len(found)
                break
            found[new[0]] = None
    except TimedOut:
        if not found:
            raise
        odd = True
    return Types(tuple(found)[:most], odd or len(found) >= most)


async def by_type(
    client: Client, namespace: str, names: Sequence[str], span: str, since: datetime | None, memory: Memory
) -> Tally:
    """Counts of each type's executions started at ``since`` or later; ``span`` names the time for the memory.

    Where time runs out, the types not reached keep their former counts, or have none, and come first next time.
    Raises RPCError, and TimedOut where not one was reached.
    """
    untaken = await _untaken(client, namespace, _since(UNTAKEN, since=since))
    age = {key: place for place, key in enumerate(memory)}
    order = sorted(names, key=lambda name: age.get((span, name), -1))

    async def one(name: str) -> None:
        try:
            groups = await _grouped(client, namespace, of_type(name, since) + " GROUP BY ExecutionStatus")
            waits: int | None = 0
            if untaken is None:
                waits = None
            elif untaken and groups.get("running"):
                waits = await _untaken(client, namespace, of_type(name, since, UNTAKEN))
            counted = TypeCounts(**groups, untaken=waits)
        except Unsearchable:
            counted = TypeCounts(untaken=None)
        memory[span, name] = counted
        memory.move_to_end((span, name))

    reached = await each(order, one, patience=patience())
    known = {name: memory[span, name] for name in names if (span, name) in memory}
    while len(memory) > REMEMBERED:
        memory.popitem(last=False)
    return Tally(known, frozenset(names) - frozenset(reached))


async def each(names: Iterable[str], work: Callable[[str], Awaitable[object]], patience: float) -> list[str]:
    """``work`` for every name, at most eight at a time; the names it was done for.

    What has not ended after ``patience`` seconds is given up. The first failure ends the others and is raised.
    Raises TimedOut where nothing was done in time.
    """
    gate = asyncio.Semaphore(AT_ONCE)

    async def gated(name: str) -> None:
        async with gate:
            await work(name)

    tasks = {name: asyncio.ensure_future(gated(name)) for name in names}
    if not tasks:
        return []
    try:
        await asyncio.wait(tasks.values(), timeout=patience, return_when=asyncio.FIRST_EXCEPTION)
        done = [name for name, task in tasks.items() if task.done()]
        for name in done:
            tasks[name].result()
        if not done:
            raise TimedOut("Temporal did not answer in time.", detail="none of the workflow types was reached")
        return done
    finally:
        for task in tasks.values():
            if not task.cancel() and not task.cancelled():
                task.exception()  # looked at, so that a second failure is not reported as forgotten


async def _types(client: Client, namespace: str, query: str, size: int, end: float) -> list[str]:
    """Types of executions that match; waits until ``end``. Raises TimedOut, RPCError."""
    rest = end - time.monotonic()
    if rest <= 0:
        raise TimedOut("Temporal did not answer in time.")
    request = ListWorkflowExecutionsRequest(namespace=namespace, page_size=size, query=query)
    try:
        found = await client.workflow_service.list_workflow_executions(request, timeout=timedelta(seconds=rest))
    except RPCError as error:
        if error.status in (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED):
            raise TimedOut("Temporal did not answer in time.", detail=redact(error.message)) from error
        raise
    return [info.type.name for info in found.executions]


async def _grouped(client: Client, namespace: str, query: str) -> dict[str, int]:
    request = CountWorkflowExecutionsRequest(namespace=namespace, query=query)
    answer = await client.workflow_service.count_workflow_executions(request, timeout=left())
    found: dict[str, int] = {}
    for group in answer.groups:
        field = _FIELDS.get(json.loads(group.group_values[0].data)) if group.group_values else None
        if field is not None:
            found[field] = found.get(field, 0) + int(group.count)
    return found


async def _untaken(client: Client, namespace: str, query: str) -> int | None:
    request = CountWorkflowExecutionsRequest(namespace=namespace, query=query)
    try:
        return int((await client.workflow_service.count_workflow_executions(request, timeout=left())).count)
    except RPCError as error:
        if error.status is RPCStatusCode.INVALID_ARGUMENT:
            return None
        raise


def _searchable(names: Iterable[str]) -> list[str]:
    found = []
    for name in names:
        try:
            found.append(quoted(name))
        except Unsearchable:
            continue
    return found


def patience() -> float:
    """Seconds to wait for many answers, with a little kept back for what is done with them."""
    return max(0.1, remaining() - SPARE_SECONDS)
