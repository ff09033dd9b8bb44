"""Clearing away what nobody needs any more. Idempotent and bounded; safe to run at any time, by anyone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, select, text

from adapters.core import AdapterError, Unreachable, utcnow
from limiter import Scope
from models import RateLimitPolicy
from operations import backups, outbox, ratelimit_wire, ratelimits, samples, usage_sync, workflow_wire
from operations.access import SYSTEM
from operations.change import Conflict, NotFound
from operations.platform import Platform

DELIVERED_KEPT = timedelta(days=7)
SESSIONS_KEPT = timedelta(days=30)
STATE_CHANGES_KEPT = timedelta(days=400)
MAILS_KEPT = timedelta(days=90)
SIGNALS_KEPT = timedelta(days=90)
OVERRIDES_KEPT = timedelta(days=30)
BATCH = 5_000

_BILLED = """
sent_at < :before AND hour < :before
AND NOT EXISTS (SELECT FROM usage_events AS other WHERE other.tenant_id = usage_events.tenant_id
    AND other.key = usage_events.key AND other.hour = usage_events.hour AND other.sent_at IS NULL)
AND NOT EXISTS (SELECT FROM rate_limit_usage AS counted WHERE counted.key = usage_events.key
    AND counted.hour = usage_events.hour AND split_part(counted.subject, '/', 1) = usage_events.tenant_id
    AND (counted.amount > counted.billed OR counted.over > counted.billed_over))
"""
"""Events of an hour of which all is billed and taken. Parts of an hour are numbered by those that are there: with some
left to bill, the next would get the name of one Lago has already. What is billed stands on the counted rows, which
stay, so that nothing is billed again."""

_STATEMENTS = {
    "outbox_rows": ("outbox", "id", "delivered_at < :before", DELIVERED_KEPT),
    "sessions": ("sessions", "id_hash", "least(expires_at, revoked_at) < :before", SESSIONS_KEPT),
    "mails": ("mails", "id", "created_at < :before AND status <> 'queued'", MAILS_KEPT),
    "signals": ("rate_limit_signals", "id", "last_at < :before", SIGNALS_KEPT),
    "usage_events": ("usage_events", "id", _BILLED, usage_sync.EVENTS_KEPT),
    "state_changes": ("state_changes", "id", "at < :before", STATE_CHANGES_KEPT),
}


@dataclass(frozen=True, slots=True)
class CleanUp:
    """How many rows one clean-up removed, per kind. At most ``BATCH`` of each."""

    outbox_rows: int = 0
    sessions: int = 0
    state_changes: int = 0
    mails: int = 0
    signals: int = 0
    usage_events: int = 0

    @property
    def more(self) -> bool:
        """True when a batch was full and another run has work."""
        return any(count >= BATCH for count in asdict(self).values())


def clean_up(platform: Platform) -> CleanUp:
    """Remove delivered messages and usage events, ended sessions, mails, signals and state changes past their time.

    The audit is never cleaned up. Raises StoreUnavailable.
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


def remove_expired_overrides(platform: Platform) -> int:
    """Remove overrides that expired 30 days ago, as a recorded change; how many, at most 500. They applied no more.

    Raises StoreUnavailable.
    """
    p = RateLimitPolicy
    query = (
        select(p)
        .where(p.scope.in_((Scope.TENANT, Scope.AGENT)), p.expires_at < utcnow() - OVERRIDES_KEPT)
        .order_by(p.expires_at)
        .limit(ratelimits.CHUNK)
    )
    with platform.database.session() as session:
        found = [ratelimits.to_policy(row) for row in session.scalars(query)]
    if not found:
        return 0
    edits = [ratelimits.Edit(policy.target, None, policy.version) for policy in found]
    try:
        ratelimits.save(platform, SYSTEM, edits, reason="expired more than 30 days ago", action="ratelimit.expired")
    except (Conflict, NotFound):
        return 0  # somebody changed one of them meanwhile: the next run looks again
    return len(edits)


def prune_samples(platform: Platform) -> int:
    """Make the days ahead ready for samples and drop those past their time; how many partitions were dropped.

    The leading sampler does so too; twice is the same as once. Raises StoreUnavailable.
    """
    return len(samples.housekeep(platform.database))


def reconcile(platform: Platform) -> dict[str, int]:
    """Deliver what waits, and repair whatever differs between PostgreSQL and the systems it is carried to.

    Returns how much was delivered, repaired or found missing, by kind. One part that fails does not keep the others
    from their turn; then raises Unreachable naming it.
    """
    done: dict[str, int] = {}
    problems: list[str] = []
    for name, part in _REPAIRS.items():
        try:
            done[name] = part(platform)
        except AdapterError as error:
            problems.append(f"{name.replace('_', ' ')}: {error.sentence}")
    if problems:
        raise Unreachable(f"Not everything could be compared. {' '.join(problems)}")
    return done


_REPAIRS: dict[str, Callable[[Platform], int]] = {
    "messages_delivered": outbox.relay_once,
    "rate_limits_repaired": lambda platform: ratelimit_wire.reconcile(platform).total,
    "workflow_settings_repaired": lambda platform: len(workflow_wire.reconcile(platform)),
    "backups_abandoned": lambda platform: len(backups.forsaken(platform)),
    "backups_missing": lambda platform: len(backups.missing(platform)),
}
