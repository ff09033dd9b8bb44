"""Tenants and tiers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from adapters.temporal_client.executions import NoExecution
from api import shapes
from api.auth import TheActor, ThePlatform, request_id
from api.confirmation import Confirm, named
from api.problems import Problem
from operations import subscriptions, tenant_lifecycle, tenant_moving, tenants
from operations.access import Permission, require
from operations.tenant_lifecycle import AlreadyRunning, Begun
from operations.tenant_systems import ID_ALLOWED, TenantSpec

router = APIRouter(tags=["Tenants"])


class NewTier(BaseModel):
    """The tier a tenant moves to, and the one you saw it on."""

    model_config = ConfigDict(extra="forbid")

    tier: Annotated[str, Field(max_length=63, description="Code of the new tier")]
    seen: Annotated[str, Field(max_length=63, description="Code of the tier you read; 412 when it is another by now")]
    reason: Annotated[str, Field(max_length=500, description="Why; kept in the audit")] = "Changed over the API"


class NewTenant(BaseModel):
    """A tenant to be made in every system."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, Field(max_length=63, description=ID_ALLOWED)]
    name: Annotated[str, Field(max_length=tenant_lifecycle.NAME_LIMIT, description="As people call it")]
    tier: Annotated[str, Field(max_length=63, description="Code of its tier")]
    email: Annotated[str, Field(max_length=254, description="Whom the welcome mail and the bills go to")]
    reason: Annotated[str, Field(max_length=300, description="Why; kept in the audit")] = "Made over the API"


class Why(BaseModel):
    """The reason of a change."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(max_length=300, description="Why; kept in the audit")]


class Removing(Why):
    """The reason of what cannot be undone, and that it is this tenant."""

    confirm: Confirm = ""


@router.get("/tenants", summary="Search tenants")
def search(
    platform: ThePlatform,
    actor: TheActor,
    q: Annotated[str, Query(max_length=100, description="Part of a name or id")] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> dict[str, Any]:
    """By name; `total` counts all that match."""
    found = tenants.search(platform, actor, q, limit, offset)
    return {"items": [shapes.wire(row) for row in found.rows], "total": found.total, "limit": limit, "offset": offset}


@router.get("/tenants/{tenant}", summary="One tenant")
def one(tenant: str, platform: ThePlatform, actor: TheActor) -> dict[str, Any]:
    """What it is."""
    found: dict[str, Any] = shapes.wire(tenants.get(platform, actor, tenant))
    return found


@router.put("/tenants/{tenant}/tier", summary="Move a tenant to another tier")
def change_tier(
    tenant: str, values: NewTier, platform: ThePlatform, actor: TheActor, request: Request
) -> dict[str, Any]:
    """Its rate limits follow at once, in every process."""
    outcome = tenants.change_tier(platform, actor, tenant, values.tier, values.seen, values.reason, request_id(request))
    moved: dict[str, Any] = shapes.wire(tenants.get(platform, actor, tenant))
    return {**moved, "delivered": outcome.delivered, "waiting_for": outcome.waiting_for}


@router.get("/tenants/{tenant}/usage", summary="What a tenant used")
def usage(
    tenant: str, platform: ThePlatform, actor: TheActor, days: Annotated[int, Query(ge=1, le=400)] = 30
) -> dict[str, Any]:
    """Per key and UTC day: amount, over the limit, blocked."""
    return {"items": shapes.wire(tenants.usage(platform, actor, tenant, days))}


@router.post("/tenants", status_code=202, summary="Make a tenant in every system")
def make(
    values: NewTenant, platform: ThePlatform, actor: TheActor, request: Request, response: Response
) -> dict[str, Any]:
    """Answers when the work has begun; `Location` tells how far it is. Where a step fails nothing is left behind."""
    spec = TenantSpec(values.id, values.name, values.tier, values.email)
    with _running():
        begun = tenant_lifecycle.provision(platform, actor, spec, values.reason, request_id(request))
    return _begun(response, spec.tenant.strip(), begun)


@router.delete("/tenants/{tenant}", status_code=202, summary="Offboard a tenant")
def offboard(
    tenant: str,
    platform: ThePlatform,
    actor: TheActor,
    request: Request,
    response: Response,
    wait_hours: Annotated[
        float | None,
        Query(
            ge=0,
            le=tenant_lifecycle.LONGEST_WAIT_HOURS,
            description="Without it: thirty days, or what is left where the tenant leaves already",
        ),
    ] = None,
    confirm: Annotated[Confirm, Query()] = "",
    reason: Annotated[str, Query(max_length=300, description="Why; kept in the audit")] = "Offboarded over the API",
) -> dict[str, Any]:
    """It is removed from every system after the waiting period; until then it can be kept.

    `confirm` is the tenant's id once more.
    """
    require(actor, Permission.TENANTS_MANAGE)
    named(confirm, tenant, "It is removed from every system after the waiting period")
    with _running():
        begun = tenant_lifecycle.offboard(platform, actor, tenant, wait_hours, reason, request_id(request))
    return _begun(response, tenant, begun)


@router.get("/tenants/{tenant}/progress", summary="How far a tenant's making or removing is")
def progress(tenant: str, platform: ThePlatform, actor: TheActor) -> dict[str, Any]:
    """Of the newest run: its steps with their states, what it does now, and the share that is done in percent."""
    ident = tenant_moving.newest(platform, actor, tenant)
    try:
        told = tenant_moving.progress(platform, actor, ident)
    except NoExecution as error:
        raise Problem(404, "not-found", error.sentence) from error
    shape: dict[str, Any] = shapes.wire(told)
    return {"workflow_id": ident, "percent": told.percent, **shape}


@router.post("/tenants/{tenant}/offboarding/end", status_code=202, summary="End an offboarding's waiting period")
def end_wait(tenant: str, values: Removing, platform: ThePlatform, actor: TheActor, request: Request) -> dict[str, Any]:
    """Removing begins now; there is no way back. `confirm` is the tenant's id once more."""
    require(actor, Permission.TENANTS_MANAGE)
    named(values.confirm, tenant, "It is removed from every system now")
    tenant_lifecycle.end_wait(platform, actor, tenant, values.reason, request_id(request))
    return {"tenant": tenant, "progress": _progress_of(tenant)}


@router.post("/tenants/{tenant}/offboarding/keep", status_code=202, summary="Call an offboarding off")
def keep(tenant: str, values: Why, platform: ThePlatform, actor: TheActor, request: Request) -> dict[str, Any]:
    """While it waits: the tenant is what it was before."""
    tenant_lifecycle.keep(platform, actor, tenant, values.reason, request_id(request))
    return {"tenant": tenant, "progress": _progress_of(tenant)}


@contextmanager
def _running() -> Iterator[None]:
    try:
        yield
    except AlreadyRunning as error:
        raise Problem(409, "already-running", error.sentence, advice=error.advice) from error


def _begun(response: Response, tenant: str, begun: Begun) -> dict[str, Any]:
    response.headers["Location"] = _progress_of(tenant)
    return {"tenant": tenant, "workflow_id": begun.workflow_id, "run_id": begun.run_id}


def _progress_of(tenant: str) -> str:
    return f"/api/v2/tenants/{quote(tenant, safe='')}/progress"


@router.get("/subscriptions", summary="Tiers with quotas and prices")
def tiers(platform: ThePlatform, actor: TheActor) -> dict[str, Any]:
    """Prices in integer cents; null quotas are unlimited, 0 is nothing at all."""
    return {"items": [shapes.wire(tier) for tier in subscriptions.tiers(platform, actor)]}
