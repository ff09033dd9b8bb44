"""Workflow types: how many executions of each, how they end, how long they take. What the page and the API show."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

from sqlalchemy import func, select

from adapters.core import AdapterError, utcnow
from adapters.temporal_client.connection import Connection
from adapters.temporal_client.counts import TypeCounts
from adapters.temporal_client.outcomes import LastFailure, Mark, TypeOutcome
from models import WorkflowSlot
from operations.access import Actor, Permission, require
from operations.platform import Platform
from operations.readings import Reading
from operations.workflow_catalogue import CATALOGUE
from operations.workflow_executions import adapter_of

LOOK_S = 5.0
EVERY_S = 10.0
SLOWEST_S = 120.0
SHARE = 12.0
"""A question is asked again after twelve times as long as its answer took: the server is not kept busy by it."""
API_WAIT_S = 9.0
_NO_OUTCOME = TypeOutcome()


@dataclass(frozen=True, slots=True)
class Counted:
    """Counts of every type that has executions in the span or is one of the platform's own."""

    types: dict[str, TypeCounts]
    waiting: dict[str, int]
    """Runs that wait for one of their type's places."""
    places_known: bool
    """False while the console's own database cannot tell who waits."""
    idle: int
    """Types the namespace knows without an execution in the span, left out."""
    more: bool
    """Whether there are more types than are counted."""
    late: frozenset[str] = frozenset()
    """Types whose numbers are older than the rest: the server was too slow to count all."""
    unknown: int = 0
    """Types that could not be counted at all so far."""
    took_s: float = 0.0
    """How long the server took to tell."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How runs of each type ended, of the types that had ended runs when it was asked."""

    types: dict[str, TypeOutcome]
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """One type over the span."""

    type: str
    own: bool
    """Whether the platform's own worker runs it."""
    counts: TypeCounts
    pending: int | None
    """Of the running: not begun by any worker, or waiting for a place. None where nobody can tell."""
    outcome: TypeOutcome | None
    """None while it is not known yet."""

    @property
    def bad(self) -> int:
        """Runs that failed or ran out of time."""
        return self.counts.failed + self.counts.timed_out

    @property
    def failure_rate(self) -> float | None:
        """Percent of the runs that ended by themselves which failed or ran out of time; None where none ended."""
        ended = self.counts.completed + self.bad
        return 100 * self.bad / ended if ended else None


T = TypeVar("T", Counted, Ended)


def since_of(hours: float | None, now: datetime | None = None) -> datetime | None:
    """Where a span begins, to the minute: everybody who looks within one asks the same question."""
    if hours is None:
        return None
    return (now or utcnow()).replace(second=0, microsecond=0) - timedelta(hours=hours)


def connection(platform: Platform, *, wait: float = 0.25) -> Reading[Connection]:
    """The connection as last seen."""
    return platform.readings.get("temporal:connection", lambda: adapter_of(platform).connection(), LOOK_S, wait)


def counted(platform: Platform, hours: float | None, *, wait: float = 0.25) -> Reading[Counted]:
    """Counts of executions started within so many hours (None: all kept), shared by all who look."""
    return _paced(platform, f"temporal:types:{hours or 'all'}", lambda: _count(platform, hours), wait)


def outcomes(platform: Platform, hours: float | None, found: Counted, *, wait: float = 0.0) -> Reading[Ended]:
    """Durations and last failures of the types counted."""
    marks = {
        name: (one.completed, one.failed, one.timed_out)
        for name, one in found.types.items()
        if one.completed or one.failed or one.timed_out
    }
    return _paced(platform, f"temporal:outcomes:{hours or 'all'}", lambda: _end(platform, hours, marks), wait)


def rows(found: Counted, ended: Ended | None) -> list[Row]:
    """One row per type, those that failed most first, then the busiest."""
    known = ended.types if ended else {}
    made = [
        Row(
            name,
            name in CATALOGUE,
            counts,
            _pending(counts, found.waiting.get(name, 0)),
            known.get(name, None if counts.completed or counts.failed or counts.timed_out else _NO_OUTCOME),
        )
        for name, counts in found.types.items()
    ]
    return sorted(made, key=lambda row: (-row.bad, -row.counts.total, row.type.casefold()))


def total(listed: Iterable[Row]) -> Row:
    """All rows together, without durations."""
    listed = list(listed)
    fields = ("running", "completed", "failed", "timed_out", "canceled", "terminated", "continued")
    summed = {field: sum(getattr(row.counts, field) for row in listed) for field in fields}
    pending = [row.pending for row in listed]
    known = None if None in pending else sum(one or 0 for one in pending)
    return Row("All types", False, TypeCounts(**summed, untaken=None), known, _NO_OUTCOME)


def listing(platform: Platform, actor: Actor, hours: float | None) -> tuple[list[Row], datetime, Counted]:
    """Rows, when they were read, and what they stand on; for programs, which wait for them.

    Failures come without their message for who may not read payloads.
    Raises Forbidden, and AdapterError where nothing is known.
    """
    require(actor, Permission.INFRA_VIEW)
    found = counted(platform, hours, wait=API_WAIT_S)
    if found.value is None or found.fetched_at is None:
        raise found.error or AdapterError("Temporal's executions are still being counted.", advice="Ask again shortly.")
    ended = outcomes(platform, hours, found.value, wait=API_WAIT_S)
    made = rows(found.value, ended.value)
    return [readable(row, actor) for row in made], found.fetched_at, found.value


def readable(row: Row, actor: Actor) -> Row:
    """The row as the person may see it: a failure's message may repeat what a workflow was given."""
    last = row.outcome.last if row.outcome else None
    if row.outcome is None or last is None or actor.may(Permission.PAYLOADS_READ):
        return row
    hidden = LastFailure(last.workflow_id, last.run_id, last.at, replace(last.said, message=""))
    return replace(row, outcome=replace(row.outcome, last=hidden))


def _paced(platform: Platform, key: str, fetch: Callable[[], T], wait: float) -> Reading[T]:
    """A reading asked for again the later the longer it took."""
    found = platform.readings.get(key, fetch, EVERY_S, wait)
    value = found.value
    behind = isinstance(value, Counted) and (value.late or value.unknown)
    every = 0.0 if value is None else value.took_s * (2 if behind else SHARE)
    if every > EVERY_S:
        found = platform.readings.get(key, fetch, min(SLOWEST_S, every), 0.0)
    return found


def _end(platform: Platform, hours: float | None, marks: dict[str, Mark]) -> Ended:
    begun = time.monotonic()
    found = adapter_of(platform).type_outcomes(marks, str(hours or "all"), since_of(hours))
    return Ended(found, time.monotonic() - begun)


def _pending(counts: TypeCounts, waiting: int) -> int | None:
    return waiting or None if counts.untaken is None else counts.untaken + waiting


def _count(platform: Platform, hours: float | None) -> Counted:
    adapter = adapter_of(platform)
    since = since_of(hours)
    begun = time.monotonic()
    known = adapter.workflow_types()
    names = [*known.names, *(name for name in CATALOGUE if name not in known.names)]
    tally = adapter.type_counts(names, str(hours or "all"), since)
    took = time.monotonic() - begun
    gone = [name for name in known.names if name in tally.types and not tally.types[name].total]
    if hours is None:
        adapter.forget_types([name for name in gone if name not in tally.late])
    kept = {name: one for name, one in tally.types.items() if one.total or name in CATALOGUE}
    waiting, places_known = _waiting(platform, since)
    return Counted(
        kept,
        waiting,
        places_known,
        idle=0 if hours is None else sum(1 for name in gone if name not in CATALOGUE),
        more=known.more,
        late=frozenset(tally.late.intersection(kept)),
        unknown=len(names) - len(tally.types),
        took_s=took,
    )


def _waiting(platform: Platform, since: datetime | None) -> tuple[dict[str, int], bool]:
    """Runs by type that asked for a place and have none yet, and whether that is known."""
    asked = select(WorkflowSlot.type, func.count()).where(WorkflowSlot.state == "waiting").group_by(WorkflowSlot.type)
    if since is not None:
        asked = asked.where(WorkflowSlot.asked_at >= since)
    try:
        with platform.database.session(seconds=2.0) as session:
            return {str(kind): int(count) for kind, count in session.execute(asked)}, True
    except AdapterError:
        return {}, False
