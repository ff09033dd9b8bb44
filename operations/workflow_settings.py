"""Workflow settings: what each type runs with, changed all or nothing through the one door."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy
from sqlalchemy import select, text

from adapters.core import utcnow
from models import WorkflowSettings
from operations import access, change, workflow_rules
from operations.access import Actor, Permission
from operations.change import Conflict, FieldError, Invalid, NotFound, Outcome
from operations.database import take_turns
from operations.platform import Platform
from operations.workflow_catalogue import CATALOGUE
from operations.workflow_rules import DEFAULT, FIELDS, Settings, resolve
from operations.workflow_wire import TOPIC, document, stored

__all__ = ["DEFAULT", "Done", "Edit", "Row", "Saved", "Settings", "blank", "effective", "get", "listing", "save"]

SUBJECT = "workflow-settings/"
EDITS_LIMIT = 1000
LISTED = 1000
_ALL = select(WorkflowSettings.__table__).limit(LISTED)


@dataclass(frozen=True, slots=True)
class Row:
    """One type as people and programs see it: its own values (None inherits) and what they come to."""

    type: str
    timeout_seconds: int | None
    retry_attempts: int | None
    backoff_multiplier: float | None
    max_concurrent: int | None
    version: int
    """0 where the type has no row and inherits everything."""
    reason: str
    updated_at: datetime | None
    updated_by: str
    effective: Settings

    def values(self) -> dict[str, Any]:
        """The type's own fields."""
        return {name: getattr(self, name) for name in FIELDS}


@dataclass(frozen=True, slots=True)
class Edit:
    """One wish: set fields of "default" or of a type (None inherits), or with ``values`` None inherit everything.

    ``seen`` is the version the person saw: 0 for "there was no row", None for "whatever is there".
    """

    type: str
    values: Mapping[str, Any] | None
    seen: int | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one edit: the type's own fields and version before and after, None where it had no row."""

    type: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of all of them."""

    done: tuple[Done, ...]
    outcome: Outcome


def effective(platform: Platform, type_: str) -> Settings:
    """What a run of a type that started now would get, as PostgreSQL has it. Raises StoreUnavailable."""
    with platform.database.session() as session:
        found = stored(session, [type_, DEFAULT])
    return resolve(type_, found.get(type_), found.get(DEFAULT))


def listing(platform: Platform, actor: Actor, types: Iterable[str] = ()) -> list[Row]:
    """ "default" first, then by name: the platform's own types, every type with values of its own, and ``types``.

    At most 1,000. Raises access.Forbidden, StoreUnavailable.
    """
    access.require(actor, Permission.INFRA_VIEW)
    with platform.database.reading() as connection:
        rows = {row.type: row for row in connection.execute(_ALL)}
    default = document(rows[DEFAULT]) if DEFAULT in rows else None
    names = sorted({*CATALOGUE, *rows, *(one for one in types if workflow_rules.TYPE_PATTERN.fullmatch(one))})
    ordered = [DEFAULT, *(name for name in names if name != DEFAULT)][:LISTED]
    return [_row(name, rows.get(name), default) for name in ordered]


def get(platform: Platform, actor: Actor, type_: str) -> Row:
    """One type; without a row of its own it inherits everything. Raises access.Forbidden, Invalid, StoreUnavailable."""
    access.require(actor, Permission.INFRA_VIEW)
    workflow_rules.validate(type_, {})
    with platform.database.session() as session:
        default = session.get(WorkflowSettings, DEFAULT)
        row = session.get(WorkflowSettings, type_)
        return _row(type_, row, document(default) if default else None)


def blank(type_: str, default: Row) -> Row:
    """A type as it is without values of its own, over the default's row."""
    return _row(type_, None, {**default.values(), "version": default.version})


def _row(name: str, row: WorkflowSettings | sqlalchemy.Row[Any] | None, default: Mapping[str, Any] | None) -> Row:
    own = document(row) if row is not None else {}
    return Row(
        type=name,
        **{field: own.get(field) for field in FIELDS},
        version=own.get("version", 0),
        reason=row.reason if row else "",
        updated_at=row.updated_at if row else None,
        updated_by=row.updated_by if row else "",
        effective=resolve(name, own, default),
    )


def save(
    platform: Platform,
    actor: Actor,
    edits: Sequence[Edit],
    *,
    reason: str,
    action: str = "workflow_settings.update",
    request_id: str | None = None,
) -> Saved:
    """Perform all edits in one transaction, or none. A type left without a value of its own loses its row.

    Raises access.Forbidden, Invalid (naming fields and allowed ranges), Conflict (somebody else was faster; with
    both values), NotFound, StoreUnavailable.
    """
    access.require(actor, Permission.WORKFLOWS_CONFIGURE)
    if not edits:
        raise Invalid([FieldError("edits", "there is nothing to change")])
    if len(edits) > EDITS_LIMIT:
        raise Invalid([FieldError("edits", "are too many at once", f"at most {EDITS_LIMIT}")])
    if not (reason or "").strip():
        raise Invalid([FieldError("reason", "is asked for", "a few words on why")])
    wishes = [
        (edit, None if edit.values is None else workflow_rules.validate(edit.type, edit.values)) for edit in edits
    ]
    if any(edit.type == DEFAULT and values is None for edit, values in wishes):
        raise Invalid([FieldError("type", "default cannot be removed", "every type inherits from it")])
    subject = SUBJECT + (edits[0].type if len(edits) == 1 else f"{len(edits)} types")
    with change.door(
        platform, actor, Permission.WORKFLOWS_CONFIGURE, action=action, subject=subject, reason=reason,
        request_id=request_id,
    ) as door:  # fmt: skip
        # Changes are rare: one at a time, so that a row that is not there yet needs no lock of its own.
        take_turns(door.session, "workflow_settings")
        done = tuple(_perform(door, edit, values) for edit, values in wishes)
    return Saved(done, door.outcome)


def _perform(door: change.Door, edit: Edit, values: dict[str, Any] | None) -> Done:
    session = door.session
    row = session.get(WorkflowSettings, edit.type)
    before = None if row is None else document(row)
    if edit.seen is not None and edit.seen != (before["version"] if before else 0):
        raise Conflict(before, {"type": edit.type, **(edit.values or {})})
    if values is None and row is None:
        raise NotFound(f"The type {edit.type} has no values of its own.")
    wanted = {**{name: before[name] if before else None for name in FIELDS}, **(values or dict.fromkeys(FIELDS))}
    door.version = int(session.scalar(text("SELECT nextval('workflow_settings_version')")) or 0)
    if all(value is None for value in wanted.values()):
        if row is None:
            raise Invalid([FieldError("edits", f"{edit.type} inherits everything already")])
        session.delete(row)
        after = None
    else:
        if row is None:
            row = WorkflowSettings(type=edit.type)
            session.add(row)
        for name, value in wanted.items():
            setattr(row, name, value)
        row.version, row.reason = door.version, door.reason
        row.updated_at, row.updated_by = utcnow(), door.actor.name
        after = document(row)
    session.flush()
    door.audit(before, after, SUBJECT + edit.type)
    door.publish(TOPIC, edit.type, {"type": edit.type, "version": door.version, "document": after})
    return Done(edit.type, before, after)
