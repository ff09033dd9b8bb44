"""Reading the record of changes, and proving it whole."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, text

from models import AuditEntry, AuditHead
from operations import access, change, stopping
from operations.access import Actor, Permission
from operations.database import Database
from operations.platform import Platform

LIMIT = 500
BATCH = 2000


@dataclass(frozen=True, slots=True)
class Entry:
    """One recorded change."""

    id: int
    at: datetime
    actor_id: str
    actor_name: str
    action: str
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    reason: str
    request_id: str | None
    hash: str


@dataclass(frozen=True, slots=True)
class Chain:
    """Whether the record is whole: how many entries were verified, and where it first breaks."""

    ok: bool
    checked: int
    broken_at: int | None = None
    problem: str = ""


def entries(
    platform: Platform, actor: Actor, subject_prefix: str | None = None, limit: int = 50, before_id: int | None = None
) -> list[Entry]:
    """Entries, newest first, at most ``limit`` (500); ``before_id`` continues an earlier page.

    Raises access.Forbidden without audit:read.
    """
    access.require(actor, Permission.AUDIT_READ)
    query = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(max(1, min(limit, LIMIT)))
    if subject_prefix:
        query = query.where(AuditEntry.subject.startswith(change.clean(subject_prefix), autoescape=True))
    if before_id is not None:
        query = query.where(AuditEntry.id < before_id)
    with platform.database.session() as session:
        return [_entry(row) for row in session.scalars(query)]


def _entry(row: AuditEntry) -> Entry:
    return Entry(
        row.id, row.at, row.actor_id, row.actor_name, row.action, row.subject,
        row.before, row.after, row.reason, row.request_id, row.hash,
    )  # fmt: skip


def verify_chain(platform: Platform) -> Chain:
    """``verify`` of the console's own record."""
    return verify(platform.database)


def verify(database: Database) -> Chain:
    """Read the whole record in batches and recompute every hash, up to the end of the chain.

    Finds altered, removed, inserted and cut-off entries. Raises StoreUnavailable.
    """
    previous, last, checked = "0" * 64, 0, 0
    with database.session(seconds=120) as session:
        session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        head = session.scalars(select(AuditHead)).one_or_none()
        if head is None:
            return Chain(False, 0, None, "the end of the chain is missing")
        while True:
            stopping.check()
            rows = session.scalars(
                select(AuditEntry).where(AuditEntry.id > last).order_by(AuditEntry.id).limit(BATCH)
            ).all()
            for row in rows:
                values = {name: getattr(row, name) for name in AuditEntry.__table__.columns.keys()}  # noqa: SIM118
                if row.id != last + 1:
                    return Chain(False, checked, last + 1, "an entry is missing")
                if row.prev_hash != previous or row.hash != change.entry_hash(previous, values):
                    return Chain(False, checked, row.id, "an entry was altered")
                previous, last, checked = row.hash, row.id, checked + 1
            session.expunge_all()
            if len(rows) < BATCH:
                break
    if (head.last_id, head.hash) != (last, previous):
        return Chain(False, checked, last + 1, "the newest entries are missing")
    return Chain(True, checked)
