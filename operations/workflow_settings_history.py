"""What was changed about workflow settings, and taking it back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from models import AuditEntry, WorkflowSettings
from operations import access, change
from operations.access import Actor, Permission
from operations.change import FieldError, Invalid, NotFound
from operations.platform import Platform
from operations.workflow_rules import FIELDS
from operations.workflow_settings import SUBJECT, Edit, Saved, save

LISTED = 200


@dataclass(frozen=True, slots=True)
class Change:
    """One recorded change of a type's own values; None is "had no values of its own"."""

    id: int
    at: datetime
    actor: str
    action: str
    type: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    reason: str


def history(
    platform: Platform, actor: Actor, *, type_: str = "", limit: int = 50, before: int | None = None
) -> list[Change]:
    """Changes, newest first, at most ``limit`` (200), older than entry ``before``.

    Raises access.Forbidden, StoreUnavailable.
    """
    access.require(actor, Permission.INFRA_VIEW)
    query = select(AuditEntry.__table__)
    if type_:
        query = query.where(AuditEntry.subject == SUBJECT + change.clean(type_))
    else:
        query = query.where(AuditEntry.subject.startswith(SUBJECT, autoescape=True))
    if before is not None:
        query = query.where(AuditEntry.id < before)
    with platform.database.reading() as connection:
        rows = connection.execute(query.order_by(AuditEntry.id.desc()).limit(max(1, min(limit, LISTED))))
        return [
            Change(
                r.id, r.at, r.actor_name, r.action, r.subject.removeprefix(SUBJECT), r.before, r.after, r.reason
            )
            for r in rows
        ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reverting:
    """What taking a change back would do: a type's own values now and then, None where it has nothing of its own."""

    change: int
    type: str
    now: dict[str, Any] | None
    then: dict[str, Any] | None
    version: int
    """Of what is there now; 0 where there is nothing."""


def reverting(platform: Platform, actor: Actor, entry: int) -> Reverting:
    """What :func:`revert` would do now.

    Raises access.Forbidden, NotFound, Invalid (it is so already), StoreUnavailable.
    """
    access.require(actor, Permission.WORKFLOWS_CONFIGURE)
    with platform.database.session() as session:
        row = session.get(AuditEntry, entry)
        if row is None or not row.subject.startswith(SUBJECT):
            raise NotFound(f"There is no change {entry} of workflow settings.")
        type_, before = row.subject.removeprefix(SUBJECT), row.before
        present = session.get(WorkflowSettings, type_)
        now = None if present is None else {name: getattr(present, name) for name in FIELDS}
        version = 0 if present is None else present.version
    then = None if before is None else {name: before.get(name) for name in FIELDS}
    if now == then:
        raise Invalid([FieldError("entry", f"{type_} is already as it was before change {entry}")])
    return Reverting(entry, type_, now, then, version)


def revert(
    platform: Platform, actor: Actor, entry: int, *, seen: int | None = None, request_id: str | None = None
) -> Saved:
    """Bring a type back to what it was before a change; itself a new change. ``seen`` is the version looked at.

    Raises access.Forbidden, NotFound, Invalid (it is so already), Conflict, StoreUnavailable.
    """
    found = reverting(platform, actor, entry)
    type_, values = found.type, found.then
    return save(
        platform, actor, [Edit(type_, values, seen)], reason=f"Reverted change {entry}",
        action="workflow_settings.revert", request_id=request_id,
    )  # fmt: skip
