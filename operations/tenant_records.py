"""The tenant's row while it is made: whose it is, what was begun, and how it becomes active or goes away again.

``tenants.lifecycle`` says it: ``owner`` the workflow's id; ``token`` the run that claimed it; ``begun`` the systems in
which that run began to make something, written before it does; ``activated`` the run that made it active.
Only what is in ``begun`` of a row in status provisioning is ever taken back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from adapters.core import Rejected
from adapters.smtp_client.message import valid
from models import Tenant
from operations import change, mail
from operations.access import SYSTEM, Permission
from operations.platform import Platform
from operations.tenant_systems import SYSTEMS, TenantSpec

ROW = "ratelimit"
"""The system that is the tenant's row and its tier."""
NAMES = {
    "keycloak": "keycloak_group",
    "lago": "lago_customer_id",
    "subscription": "lago_subscription_id",
    "qdrant": "qdrant_collection",
    "s3": "s3_prefix",
    "somabrain": "somabrain_tenant",
}
"""What a tenant is called in a system, and the column that keeps it."""
ALSO = {"lago": "subscription"}
"""The second name of a system that has two."""


@dataclass
class Claim:
    """What a run found: the token of whoever claimed the row, or the tenant at work already and its names."""

    token: str = ""
    existing: bool = False
    names: dict[str, str] = field(default_factory=dict)


class NotOurs(Rejected):
    """The tenant is being made by another run, was called off, or is at work."""


def claim(platform: Platform, spec: TenantSpec, owner: str, token: str) -> Claim:
    """Make the row in status provisioning and take it; a row left by an earlier run of ``owner`` is taken over.

    Raises Rejected (an id, tier or address that cannot be, a closed tenant, another tenant of this id), NotOurs
    (another workflow makes it), StoreUnavailable.
    """
    if not valid(spec.email):
        raise Rejected(f"{spec.email[:100]!r} is not a mail address.", advice="Give the tenant's mail address.")
    with platform.database.session() as session:
        row = find(session, spec.tenant)
        if row is not None:
            if row.status == "offboarding":
                raise Rejected(f"The tenant {row.id} is being offboarded.", advice="Keep it, or choose another id.")
            if row.status not in ("provisioning", "closed"):
                return _existing(row, spec)
            _check_owner(row, owner)
    detail = SYSTEMS[ROW].make(platform, spec)
    with platform.database.session() as session:
        row = find(session, spec.tenant)
        if row is None or row.status != "provisioning":
            raise NotOurs(f"The tenant {spec.tenant} was changed by somebody else. {detail.detail}")
        _check_owner(row, owner)
        before = row.lifecycle or {}
        row.lifecycle = {"owner": owner, "token": token, "begun": before.get("begun", [])}
    return Claim(token)


def _existing(row: Tenant, spec: TenantSpec) -> Claim:
    same = (row.name, row.tier_code) == (spec.name, spec.tier) and row.contact_email in (None, spec.email)
    if not same:
        raise Rejected(
            f"There is a tenant {row.id} already, and it differs in name, tier or address. Nothing was changed.",
            advice="Choose another id, or change that tenant on its page.",
        )
    names = {name: getattr(row, column) or "" for name, column in NAMES.items()}
    return Claim((row.lifecycle or {}).get("token", ""), True, names)


def _check_owner(row: Tenant, owner: str) -> None:
    other = (row.lifecycle or {}).get("owner", owner)
    if other != owner:
        raise NotOurs(f"The tenant {row.id} is being made by another run, {other}.", advice="Look at that run first.")


def begun(platform: Platform, tenant: str, token: str) -> set[str]:
    """The systems in which the run ``token`` began to make the tenant. Raises NotOurs, StoreUnavailable."""
    with platform.database.session() as session:
        return set(_ours(session, tenant, token, lock=False)["begun"])


def begin(platform: Platform, tenant: str, token: str, system: str) -> None:
    """Note that the run begins to make the tenant in a system, before it does. Raises NotOurs, StoreUnavailable."""
    with platform.database.session() as session:
        noted = _ours(session, tenant, token)
        row = find(session, tenant)
        assert row is not None
        row.lifecycle = {**noted, "begun": sorted({*noted["begun"], system})}


def activate(platform: Platform, tenant: str, token: str, run: str, names: dict[str, str]) -> bool:
    """Make the tenant active under its names in the systems; False where it was. Raises NotOurs, StoreUnavailable."""
    with change.door(
        platform, SYSTEM, Permission.TENANTS_MANAGE, action="tenant.activate", subject=f"tenant/{tenant}",
        reason="Made in every system.",
    ) as door:  # fmt: skip
        row = find(door.session, tenant)
        noted = (row.lifecycle if row else None) or {}
        if row is not None and row.status == "active" and noted.get("token") == token:
            return False
        noted = _ours(door.session, tenant, token)
        assert row is not None
        if noted.get("over"):
            raise NotOurs(f"The making of {tenant} was called off.")
        for name, column in NAMES.items():
            setattr(row, column, names.get(name) or None)
        row.status, row.lifecycle = "active", {**noted, "activated": run}
        door.audit({"status": "provisioning"}, {"status": "active", **{name: names.get(name, "") for name in NAMES}})
    return True


def deactivate(platform: Platform, tenant: str, token: str, run: str) -> bool:
    """Put back to provisioning what this very run made active, for good; whether it was active.

    A late attempt to make it active, still under way on some worker, finds that it is over. Raises StoreUnavailable.
    """
    with change.door(
        platform, SYSTEM, Permission.TENANTS_MANAGE, action="tenant.deactivate", subject=f"tenant/{tenant}",
        reason="Its provisioning did not come to its end.",
    ) as door:  # fmt: skip
        row = find(door.session, tenant)
        noted = (row.lifecycle if row else None) or {}
        active = row is not None and row.status == "active" and noted.get("activated") == run
        making = row is not None and row.status == "provisioning" and noted.get("token") == token
        if row is None or not (active or making):
            return False
        row.status, row.lifecycle = "provisioning", {**noted, "over": True}
        if active:
            door.audit({"status": "active"}, {"status": "provisioning"})
    return active


def release(platform: Platform, tenant: str, token: str) -> bool:
    """Remove the row that the run claimed, once nothing of it is anywhere; whether there was one.

    Raises StoreUnavailable.
    """
    with platform.database.session() as session:
        row = find(session, tenant)
        if row is None or row.status != "provisioning" or (row.lifecycle or {}).get("token", token) != token:
            return False
    return SYSTEMS[ROW].remove(platform, tenant)


def welcome(platform: Platform, spec: TenantSpec, token: str) -> bool:
    """Queue the welcome mail, once per tenant made; False where it was queued. Raises Invalid, StoreUnavailable."""
    return mail.queue(
        platform, recipient=spec.email, kind="welcome", dedup=f"welcome/{spec.tenant}/{token}", tenant_id=spec.tenant,
        subject=f"Welcome, {spec.name}"[: mail.SUBJECT_LIMIT],
        body=f"Hello,\n\n{spec.name} is ready for use.\n\nYour tenant is called {spec.tenant}. Mention it when you "
        "write to us.\n",
    )  # fmt: skip


def unwelcome(platform: Platform, tenant: str, token: str) -> bool:
    """Do not send the welcome mail if it still waits. Raises StoreUnavailable."""
    return mail.cancel(platform, f"welcome/{tenant}/{token}")


def named(platform: Platform, tenant: str, system: str) -> str:
    """What the row says the tenant is called in a system; "" where it says nothing. Raises StoreUnavailable."""
    with platform.database.session() as session:
        row = find(session, tenant, lock=False)
        columns = [NAMES[name] for name in (system, ALSO.get(system, "")) if name in NAMES]
        return next((str(name) for column in columns if row and (name := getattr(row, column))), "")


def find(session: Session, tenant: str, *, lock: bool = True) -> Tenant | None:
    """The tenant's row, locked until the transaction ends."""
    query = select(Tenant).where(Tenant.id == change.clean(tenant))
    return session.scalars(query.with_for_update() if lock else query).one_or_none()


def _ours(session: Session, tenant: str, token: str, *, lock: bool = True) -> dict[str, Any]:
    row = find(session, tenant, lock=lock)
    noted = (row.lifecycle if row else None) or {}
    if row is None or row.status != "provisioning" or noted.get("token") != token:
        raise NotOurs(f"The tenant {tenant} is not being made by this run any more.")
    return dict(noted)
