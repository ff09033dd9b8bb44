"""Clearing away what nobody needs any more. Idempotent and bounded; safe to run at any time, by anyone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, text

from adapters.core import utcnow
from operations.platform import Platform

DELIVERED_KEPT = timedelta(days=7)
SESSIONS_KEPT = timedelta(days=30)
STATE_CHANGES_KEPT = timedelta(days=400)
MAILS_KEPT = timedelta(days=90)
BATCH = 5_000

_STATEMENTS = {
    "outbox_rows": ("outbox", "id", "delivered_at < :before", DELIVERED_KEPT),
    "sessions": ("sessions", "id_hash", "least(expires_at, revoked_at) < :before", SESSIONS_KEPT),
    "mails": ("mails", "id", "created_at < :before AND status <> 'queued'", MAILS_KEPT),
    "state_changes": ("state_changes", "id", "at < :before", STATE_CHANGES_KEPT),
}


@dataclass(frozen=True, slots=True)
class CleanUp:
    """How many rows one clean-up removed, per kind. At most ``BATCH`` of each."""

    outbox_rows: int = 0
    sessions: int = 0
    state_changes: int = 0
    mails: int = 0

    @property
    def more(self) -> bool:
        """True when a batch was full and another run has work."""
        return max(self.outbox_rows, self.sessions, self.state_changes, self.mails) >= BATCH


def clean_up(platform: Platform) -> CleanUp:
    """Remove delivered messages, ended sessions and old state changes past their time.

    The audit is never cleaned up. Samples are pruned by the sampler, which owns their partitions.
    """
    removed: dict[str, int] = {}
    with platform.database.session(seconds=60) as session:
        for name, (table, key, condition, kept) in _STATEMENTS.items():
            # Table, key and condition are the constants above, never input.
            statement = text(
                f"DELETE FROM {table} WHERE {key} IN "  # noqa: S608
                f"(SELECT {key} FROM {table} WHERE {condition} LIMIT {BATCH} FOR UPDATE SKIP LOCKED)"
            )
            result = cast("CursorResult[Any]", session.execute(statement, {"before": utcnow() - kept}))
            removed[name] = result.rowcount
    return CleanUp(**removed)
