"""Tenants and tiers."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from api import shapes
from api.auth import TheActor, ThePlatform
from operations import subscriptions, tenants

router = APIRouter(tags=["Tenants"])


class NewTier(BaseModel):
    """The tier a tenant moves to, and the one you saw it on."""

    model_config = ConfigDict(extra="forbid")

    tier: Annotated[str, Field(max_length=63, description="Code of the new tier")]
    seen: Annotated[str, Field(max_length=63, description="Code of the tier you read; 412 when it is another by now")]
    reason: Annotated[str, Field(max_length=500, description="Why; kept in the audit")] = "Changed over the API"


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
    outcome = tenants.change_tier(
        platform, actor, tenant, values.tier, values.seen, values.reason, request.headers.get("x-request-id")
    )
    moved: dict[str, Any] = shapes.wire(tenants.get(platform, actor, tenant))
    return {**moved, "delivered": outcome.delivered, "waiting_for": outcome.waiting_for}


@router.get("/tenants/{tenant}/usage", summary="What a tenant used")
def usage(
    tenant: str, platform: ThePlatform, actor: TheActor, days: Annotated[int, Query(ge=1, le=400)] = 30
) -> dict[str, Any]:
    """Per key and UTC day: amount, over the limit, blocked."""
    return {"items": shapes.wire(tenants.usage(platform, actor, tenant, days))}


@router.get("/subscriptions", summary="Tiers with quotas and prices")
def tiers(platform: ThePlatform, actor: TheActor) -> dict[str, Any]:
    """Prices in integer cents; null quotas are unlimited, 0 is nothing at all."""
    return {"items": [shapes.wire(tier) for tier in subscriptions.tiers(platform, actor)]}
