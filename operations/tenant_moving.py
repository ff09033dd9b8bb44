"""Tenants on their way in or out: which there are, and how far the run of each is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import select

from adapters.temporal_client.executions import NoExecution
from models import Tenant
from operations import access, change, workflow_detail
from operations.access import Actor, Permission
from operations.platform import Platform
from operations.readings import Reading
from operations.workflow_catalogue import OFFBOARDING, PROVISIONING
from operations.workflow_progress import Progress

MOST = 50


@dataclass(frozen=True, slots=True)
class Moving:
    """A tenant that comes or goes, by what is kept of it."""

    id: str
    name: str
    status: str
    """provisioning or offboarding."""
    workflow_id: str
    ends_at: datetime | None = None
    """When the waiting period of an offboarding ends; None once it is over, or while provisioning."""
    removing: bool = False
    """Whether the offboarding can no longer be called off."""


def moving(platform: Platform, actor: Actor) -> list[Moving]:
    """Tenants that come or go, newest first, at most 50, without their steps. Raises access.Forbidden."""
    access.require(actor, Permission.TENANTS_VIEW)
    query = select(Tenant).where(Tenant.status.in_(("provisioning", "offboarding")))
    with platform.database.session() as session:
        return [moving_of(row) for row in session.scalars(query.order_by(Tenant.created_at.desc()).limit(MOST))]


def progress(platform: Platform, actor: Actor, workflow_id: str) -> Progress:
    """How far the newest run of a provisioning or offboarding is, for who may not read payloads without its words.

    Raises access.Forbidden, NoExecution, control.NoAnswer (no worker answers), AdapterError.
    """
    access.require(actor, Permission.TENANTS_VIEW)
    _check(workflow_id)
    return workflow_detail.wordless(actor, workflow_detail.tell(platform, workflow_id))


def reading(platform: Platform, actor: Actor, workflow_id: str, every: float, wait: float) -> Reading[Progress]:
    """The same, shared by all who look, each seeing what they may. Raises access.Forbidden, NoExecution."""
    access.require(actor, Permission.TENANTS_VIEW)
    _check(workflow_id)
    key = f"temporal:progress:{workflow_id}"
    found = platform.readings.get(key, lambda: workflow_detail.tell(platform, workflow_id), every, wait)
    return replace(found, value=None if found.value is None else workflow_detail.wordless(actor, found.value))


def _check(workflow_id: str) -> None:
    if not workflow_id.startswith((f"{PROVISIONING}/", f"{OFFBOARDING}/")):
        raise NoExecution(f"{workflow_id[:200]} makes or removes no tenant.")


def newest(platform: Platform, actor: Actor, tenant: str) -> str:
    """The workflow that makes or removes a tenant, or made or removed it last. Raises access.Forbidden."""
    access.require(actor, Permission.TENANTS_VIEW)
    with platform.database.session() as session:
        row = session.scalars(select(Tenant).where(Tenant.id == change.clean(tenant))).one_or_none()
    if row is None:
        return workflow_id(PROVISIONING, tenant)
    leaves = row.status in ("offboarding", "closed")
    return str((row.lifecycle or {}).get("owner") or workflow_id(OFFBOARDING if leaves else PROVISIONING, row.id))


def workflow_id(kind: str, tenant: str) -> str:
    """The id under which a tenant is provisioned or offboarded: one per tenant, so that it runs once at a time."""
    return f"{kind}/{tenant}"


def moving_of(row: Tenant) -> Moving:
    """What a tenant's row says of its coming or going."""
    noted = row.lifecycle or {}
    kind = OFFBOARDING if row.status == "offboarding" else PROVISIONING
    removing = row.status == "offboarding" and bool(noted.get("waited"))
    ends = noted.get("ends_at")
    return Moving(
        row.id, row.name, row.status, str(noted.get("owner") or workflow_id(kind, row.id)),
        datetime.fromisoformat(ends) if ends and not removing else None, removing,
    )  # fmt: skip
