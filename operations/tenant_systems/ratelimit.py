"""The tenant itself: its row in PostgreSQL, and the tier its limits come from, in every limiter.

"Absent" is no row, or a closed one: compensating a failed provisioning deletes the row, as if the tenant had never
been, while an offboarding keeps it closed, because audit and billing refer to it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from sqlalchemy import select, text

from adapters.core import Rejected
from limiter import keys
from models import Tenant, Tier
from operations import change, ratelimit_wire, ratelimits
from operations.access import SYSTEM, Permission
from operations.mail import masked
from operations.platform import Platform
from operations.tenant_systems.system import ID, ID_ALLOWED, Made, Progress, System, TenantSpec, silent


class RateLimitSystem(System):
    """The tenant's row, in status ``provisioning`` until somebody makes it active, and its tier on the wire."""

    name = "ratelimit"
    title = "Rate limits"

    def configured(self, platform: Platform) -> bool:
        """Always: without PostgreSQL there is no console."""
        return True

    def make(self, platform: Platform, tenant: TenantSpec) -> Made:
        """Insert the row and publish its tier. A tenant at work is left as it is; a closed id is not used again.

        Raises Rejected for an id or a tier that cannot be, StoreUnavailable.
        """
        identifier = change.clean(tenant.tenant)
        if not ID.fullmatch(identifier):
            raise Rejected(
                f"{identifier[:80]!r} cannot be a tenant's id.",
                advice=f"Use {ID_ALLOWED}.",
            )
        with self._door(platform, "tenant.make", identifier) as door:
            lock(door)
            if door.session.get(Tier, tenant.tier) is None:
                raise Rejected(f"There is no tier {tenant.tier!r}.", advice="Choose one of the tiers.")
            row = _row(door, identifier)
            if row is not None and row.status == "closed":
                raise Rejected(
                    f"The tenant {identifier} was closed, and its id is not used again.", advice="Choose another id."
                )
            if row is not None and row.status != "provisioning":
                return Made(identifier, f"Tenant {identifier} is there already, on {row.tier_code}.")
            before = None if row is None else _told(row)
            if row is None:
                row = Tenant(id=identifier, status="provisioning")
                door.session.add(row)
            row.name, row.tier_code, row.contact_email = tenant.name, tenant.tier, tenant.email or None
            if before == _told(row):
                return Made(identifier, f"Tenant {identifier} on {tenant.tier}.")
            door.session.flush()
            door.audit(_recorded(before), _recorded(_told(row)))
            publish(door, row)
        waits = f", waiting for {door.outcome.waiting_for}" if door.outcome.waiting_for else ""
        return Made(identifier, f"Tenant {identifier} on {tenant.tier}{waits}.")

    def remove(self, platform: Platform, tenant_id: str, progress: Progress = silent) -> bool:
        """Delete a row still in provisioning; close one that is offboarding; whether there was either.

        The limits of its own and of its agents go with it, each on the record.

        Raises Rejected for a tenant at work: it is offboarded first. Raises StoreUnavailable.
        """
        with self._door(platform, "tenant.remove", tenant_id) as door:
            lock(door)
            ratelimits.hold_all(door.session)
            row = _row(door, tenant_id)
            if row is None or row.status == "closed":
                return False
            if row.status not in ("offboarding", "provisioning"):
                raise Rejected(f"The tenant {tenant_id} is {row.status}.", advice="Offboard it before removing it.")
            before = _told(row)
            ratelimits.clear_tenant(door, row.id)
            if row.status == "offboarding":
                row.status = "closed"
                door.session.flush()
                door.audit(_recorded(before), _recorded(_told(row)))
                publish(door, row)
                return True
            door.session.delete(row)
            door.session.flush()
            door.audit(_recorded(before), None)
            door.version = _next_version(door)
            ratelimit_wire.owe_tier(door, door.version, tenant_id, None)
        return True

    def present(self, platform: Platform, tenant_id: str) -> bool:
        """Whether there is a row that is not closed. Raises StoreUnavailable."""
        with platform.database.session() as session:
            status = session.scalar(select(Tenant.status).where(Tenant.id == change.clean(tenant_id)))
        return status is not None and status != "closed"

    @staticmethod
    def _door(platform: Platform, action: str, tenant_id: str) -> AbstractContextManager[change.Door]:
        return change.door(
            platform, SYSTEM, Permission.TENANTS_MANAGE, action=action, subject=f"tenant/{change.clean(tenant_id)}"
        )


def lock(door: change.Door) -> None:
    """Hold all changes of tenants' tiers, as moving a tenant does: their versions follow the order of commits.

    To be called before the tenant's row is locked.
    """
    door.session.execute(
        text("INSERT INTO rate_limit_keys (key) VALUES (:key) ON CONFLICT DO NOTHING"), {"key": keys.TENANTS}
    )
    door.session.execute(text("SELECT version FROM rate_limit_keys WHERE key = :key FOR UPDATE"), {"key": keys.TENANTS})


def publish(door: change.Door, row: Tenant) -> None:
    """Owe limiters what they are to know of the tenant by its row now; within ``lock``."""
    door.version = _next_version(door)
    ratelimit_wire.owe_tier(
        door, door.version, row.id, ratelimit_wire.tier_of(row.tier_code, row.status, row.lifecycle)
    )


def _next_version(door: change.Door) -> int:
    query = text("UPDATE rate_limit_keys SET version = version + 1 WHERE key = :key RETURNING version")
    version: int = door.session.execute(query, {"key": keys.TENANTS}).scalar_one()
    return version


def _row(door: change.Door, tenant_id: str) -> Tenant | None:
    query = select(Tenant).where(Tenant.id == change.clean(tenant_id)).with_for_update()
    return door.session.scalars(query).one_or_none()


def _told(row: Tenant) -> dict[str, str | None]:
    return {"name": row.name, "tier": row.tier_code, "status": row.status, "email": row.contact_email}


def _recorded(told: dict[str, str | None] | None) -> dict[str, str | None] | None:
    """For the record of changes: it is kept for ever, and read by people who may not see tenants."""
    return told and {**told, "email": masked(told["email"]) if told["email"] else None}
