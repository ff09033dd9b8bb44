"""The tenant's row while it is offboarded: marked, kept after all, or closed.

``tenants.lifecycle`` says: ``owner`` the workflow's id; ``before`` the status to go back to; ``ends_at`` when the
waiting period ends; ``waited`` true once it is over and removing begins; ``was`` the lifecycle from before.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from adapters.core import Rejected
from models import Tenant
from operations import change
from operations.access import SYSTEM, Permission
from operations.platform import Platform
from operations.tenant_records import ROW, NotOurs, find
from operations.tenant_systems import SYSTEMS, ratelimit

AT_WORK = ("trial", "active", "past_due", "suspended")
"""Statuses a tenant can be offboarded from."""
LONGEST_WAIT_HOURS = 1440
"""Sixty days; less where the timeout of the workflow is shorter (tenant_inputs.longest_wait)."""


@dataclass
class Leaving:
    """How far an offboarding is. ``ends_at`` is ISO 8601, UTC."""

    ends_at: str = ""
    waited: bool = False
    gone: bool = False
    """The tenant is closed, or there is none: nothing is left to do."""


def mark(platform: Platform, tenant: str, owner: str, ends_at: datetime, reason: str) -> Leaving:
    """Set the tenant offboarding until ``ends_at``; what an earlier run of ``owner`` marked goes on from there.

    While it still waits, the new end counts; once removing has begun there is nothing to wait for any more.
    Raises Rejected (being provisioned), NotOurs (another workflow removes it), StoreUnavailable.
    """
    end = ends_at.astimezone(UTC).isoformat()
    with change.door(
        platform, SYSTEM, Permission.TENANTS_MANAGE, action="tenant.offboarding", subject=f"tenant/{tenant}",
        reason=reason,
    ) as door:  # fmt: skip
        row = find(door.session, tenant)
        if row is None or row.status == "closed":
            return Leaving(gone=True)
        if row.status == "offboarding":
            noted = _ours(door.session, tenant, owner)[1]
            if not noted["waited"] and noted["ends_at"] != end:
                door.audit({"ends_at": noted["ends_at"]}, {"ends_at": end})
                row.lifecycle = noted = {**noted, "ends_at": end}
            return Leaving(str(noted["ends_at"]), bool(noted["waited"]))
        if row.status not in AT_WORK:
            raise Rejected(f"The tenant {tenant} is {row.status}.", advice="Wait until it is made, or cancel that run.")
        before = row.status
        row.lifecycle = {
            "owner": owner, "before": before, "ends_at": end, "waited": False, "was": row.lifecycle,
        }  # fmt: skip
        row.status = "offboarding"
        door.audit({"status": before}, {"status": "offboarding", "ends_at": end})
    return Leaving(end)


def waited(platform: Platform, tenant: str, owner: str) -> None:
    """Note that the waiting period is over: there is no way back from here, and limiters admit nothing any more.

    What it used until then can be billed whole. Raises NotOurs, StoreUnavailable.
    """
    with change.door(
        platform, SYSTEM, Permission.TENANTS_MANAGE, action="tenant.removing", subject=f"tenant/{tenant}",
        reason="Its waiting period is over.",
    ) as door:  # fmt: skip
        ratelimit.lock(door)
        row, noted = _ours(door.session, tenant, owner)
        if noted["waited"]:
            return
        row.lifecycle = {**noted, "waited": True}
        door.session.flush()
        door.audit({"removing": False}, {"removing": True})
        ratelimit.publish(door, row)


def keep(platform: Platform, tenant: str, owner: str) -> bool:
    """Put the tenant back to what it was; False where removing has begun or it is not offboarding.

    Raises StoreUnavailable.
    """
    with change.door(
        platform, SYSTEM, Permission.TENANTS_MANAGE, action="tenant.keep", subject=f"tenant/{tenant}",
        reason="The offboarding was called off.",
    ) as door:  # fmt: skip
        try:
            row, noted = _ours(door.session, tenant, owner)
        except NotOurs:
            return False
        if noted["waited"]:
            return False
        row.status, row.lifecycle = str(noted["before"]), noted["was"]
        door.audit({"status": "offboarding"}, {"status": row.status})
    return True


def require(platform: Platform, tenant: str, owner: str) -> None:
    """Raise NotOurs unless ``owner`` may remove the tenant now: it is offboarding and its waiting period is over."""
    with platform.database.session() as session:
        if not _ours(session, tenant, owner)[1]["waited"]:
            raise NotOurs(f"The waiting period of {tenant} is not over.")


def _ours(session: Session, tenant: str, owner: str) -> tuple[Tenant, dict[str, Any]]:
    row = find(session, tenant)
    noted = (row.lifecycle if row else None) or {}
    if row is None or row.status != "offboarding":
        raise NotOurs(f"The tenant {tenant} is not being offboarded.")
    if noted.get("owner") != owner:
        raise NotOurs(f"The tenant {tenant} is being offboarded by another run, {noted.get('owner')}.")
    return row, dict(noted)


def close(platform: Platform, tenant: str, owner: str) -> bool:
    """Close the row once nothing of the tenant is anywhere; False where it was. Raises NotOurs, StoreUnavailable."""
    with platform.database.session() as session:
        row = find(session, tenant)
        if row is None or row.status == "closed":
            return False
    require(platform, tenant, owner)
    return SYSTEMS[ROW].remove(platform, tenant)
