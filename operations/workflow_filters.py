"""Which executions are looked for, and how that is asked of the server: what people typed is quoted, never pasted."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from adapters.core import utcnow
from adapters.temporal_client import executions as visible
from adapters.temporal_client.executions import Unsearchable
from operations import change
from operations.change import FieldError

STATUSES = ("Running", "Completed", "Failed", "Canceled", "Terminated", "TimedOut", "ContinuedAsNew")
PENDING = "Pending"
"""Running ones that no worker has begun, or that wait for one of their type's places."""
FILTERED = (*STATUSES, PENDING)
LONGEST_HOURS = 24 * 366
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_SYSTEM = frozenset({"RunId", "TaskQueue", "ParentWorkflowId", "RootWorkflowId", "ParentRunId", "RootRunId"})
"""What the server itself attaches to every execution and an equality makes sense for."""
_KEYWORD, _INT, _DOUBLE, _BOOL, _DATETIME = 2, 3, 4, 5, 6
"""The server's numbers of the types of search attributes."""
CHARACTERS = f"at most {visible.LETTERS} letters, no backslash, double quote or line break: Temporal's search cannot"


@dataclass(frozen=True, slots=True)
class Filters:
    """Which executions. Empty texts and None leave everything in."""

    type: str = ""
    status: str = ""
    id: str = ""
    """What the workflow id begins with."""
    hours: float | None = None
    """Started within so many hours; None is all the namespace keeps."""
    attribute: str = ""
    """One search attribute as written: ``TenantId=acme``."""
    started_by: datetime | None = None
    """Started at this moment or before: what was previewed stays what was previewed."""

    @property
    def any(self) -> bool:
        """Whether anything is filtered at all."""
        return bool(self.type or self.status or self.id or self.hours or self.attribute)


def filters_of(given: Mapping[str, str]) -> Filters:
    """Filters from what an address or a request holds: type, status, id, hours, attribute.

    Raises Invalid naming each bad field.
    """
    errors: list[FieldError] = []
    kind, status, prefix, hours, attribute = (
        given.get(name, "").strip() for name in ("type", "status", "id", "hours", "attribute")
    )
    for field, text in (("type", kind), ("id", prefix)):
        try:
            visible.quoted(text)
        except Unsearchable:
            errors.append(FieldError(field, "cannot be searched for", CHARACTERS))
    if status and status not in FILTERED:
        errors.append(FieldError("status", "is not a status", ", ".join(FILTERED)))
    span: float | None = None
    if hours:
        try:
            span = float(hours)
        except ValueError:
            span = -1.0
        if not 0 < span <= LONGEST_HOURS:
            errors.append(FieldError("hours", "is not a span", f"more than 0, at most {LONGEST_HOURS}"))
    if attribute:
        try:
            _attribute(attribute, None)
        except change.Invalid as error:
            errors.extend(error.errors)
    if errors:
        raise change.Invalid(errors)
    return Filters(kind, status, prefix, span, attribute)


def query_of(
    filters: Filters,
    kinds: dict[str, int] | None = None,
    now: datetime | None = None,
    places: Sequence[tuple[str, str]] = (),
) -> str:
    """The filters in the server's query language; what people typed is quoted, never pasted.

    ``kinds`` are the namespace's search attributes with their type, None where they are not known: a name is
    then left to the server to judge. ``places`` are the runs (id, run id) known to wait for a place. Raises Invalid.
    """
    parts: list[str] = []
    try:
        if filters.type:
            parts.append(f"WorkflowType = {visible.quoted(filters.type)}")
        if filters.status == PENDING:
            parts.append(_pending(places))
        elif filters.status:
            parts.append(f"ExecutionStatus = {visible.quoted(filters.status)}")
        if filters.id:
            parts.append(f"WorkflowId STARTS_WITH {visible.quoted(filters.id)}")
    except Unsearchable as error:
        raise change.Invalid([FieldError("id", "cannot be searched for", CHARACTERS)]) from error
    if filters.hours:
        # Whole minutes, so that everybody who looks within one asks the same question.
        since = (now or utcnow()).replace(second=0, microsecond=0) - timedelta(hours=filters.hours)
        parts.append(f"StartTime >= {visible.moment(since)}")
    if filters.started_by:
        parts.append(f"StartTime <= '{filters.started_by.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}'")
    if filters.attribute:
        parts.append(_attribute(filters.attribute, kinds))
    return " AND ".join(parts)


def _pending(places: Sequence[tuple[str, str]]) -> str:
    waiting = []
    for workflow_id, _ in places:
        try:
            waiting.append(visible.quoted(workflow_id))
        except Unsearchable:
            continue
    either = f"BuildIds IS NULL OR WorkflowId IN ({', '.join(waiting)})" if waiting else "BuildIds IS NULL"
    return f"ExecutionStatus = 'Running' AND ({either})"


def _attribute(written: str, known: dict[str, int] | None) -> str:
    """``Name=value`` in the query language, its value by the type of the attribute. Raises Invalid."""

    def bad(message: str, allowed: str = "") -> change.Invalid:
        return change.Invalid([FieldError("attribute", message, allowed)])

    name, equals, value = (part.strip() for part in written.partition("="))
    if not equals or not name or not value:
        raise bad("is not a name and a value", "Name=value, such as TenantId=acme")
    if not _NAME.fullmatch(name):
        raise bad(f"{name[:64]!r} is no name of a search attribute", "letters, digits, _ . -")
    kind = _KEYWORD
    if known is not None and name not in _SYSTEM:
        if name not in known:
            raise bad(f"{name} is no search attribute of this namespace", ", ".join(known) or "it has none")
        kind = known[name]
    return f"`{name}` = {_literal(name, value, kind, bad)}"


def _literal(name: str, value: str, kind: int, bad: Callable[..., change.Invalid]) -> str:
    if kind in (_INT, _DOUBLE):
        try:
            number = float(value) if kind == _DOUBLE else int(value)
        except ValueError as error:
            raise bad(f"{name} is a number", "a whole number" if kind == _INT else "a number") from error
        if number != number or number in (float("inf"), float("-inf")):
            raise bad(f"{name} is a number", "a number")
        return repr(number)
    if kind == _BOOL:
        if value.lower() not in ("true", "false"):
            raise bad(f"{name} is true or false", "true, false")
        return value.lower()
    if kind == _DATETIME:
        try:
            at = datetime.fromisoformat(value)
        except ValueError as error:
            raise bad(f"{name} is a moment", "such as 2026-01-31T12:00:00Z") from error
        return f"'{(at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC).isoformat()}'"
    try:
        return visible.quoted(value)
    except Unsearchable as error:
        raise bad(f"{name}: this value cannot be searched for", CHARACTERS) from error
