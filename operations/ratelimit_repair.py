"""Repairing Redis because somebody asked: on record, unlike what the reconciler mends by itself every minute."""

from __future__ import annotations

from operations import change, ratelimit_wire
from operations.access import Actor, Permission
from operations.platform import Platform
from operations.ratelimit_wire import Reconciled

SUBJECT = "ratelimit/redis"


def repair(platform: Platform, actor: Actor, *, reason: str = "", request_id: str | None = None) -> Reconciled:
    """Make Redis equal to PostgreSQL and record how much differed; nothing is recorded where nothing did.

    Raises access.Forbidden, change.Invalid (a reason too long), StoreUnavailable, Unreachable (Redis away).
    """
    found: Reconciled | None = None
    # The record is written by the same call as the repair: where it cannot be, nothing claims to be repaired.
    with change.door(
        platform, actor, Permission.RATELIMIT_EDIT, action="ratelimit.reconcile", subject=SUBJECT, reason=reason,
        request_id=request_id, seconds=60.0,
    ) as door:  # fmt: skip
        found = ratelimit_wire.reconcile(platform, actor)
        if found.total:
            keys = sorted({difference.key for difference in found.differences})
            door.audit({"differences": found.total, "keys": keys}, {"differences": 0})
    return found
