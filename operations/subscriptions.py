"""The tiers tenants subscribe to."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from models import Tenant
from models import Tier as TierRow
from operations import access
from operations.access import Actor, Permission
from operations.platform import Platform

LIMIT = 100


@dataclass(frozen=True, slots=True)
class Tier:
    """One tier. ``price_cents`` per month, None for a price agreed individually; a quota of None is unlimited."""

    code: str
    name: str
    rank: int
    price_cents: int | None
    currency: str
    public: bool
    quotas: dict[str, float | None]
    tenants: int


def tiers(platform: Platform, actor: Actor) -> list[Tier]:
    """Every tier by rank, with how many tenants are on it. Raises access.Forbidden without platform:tenants."""
    access.require(actor, Permission.TENANTS_VIEW)
    counted = select(func.count()).where(Tenant.tier_code == TierRow.code).correlate(TierRow).scalar_subquery()
    query = select(
        TierRow.code, TierRow.name, TierRow.rank, TierRow.price_cents, TierRow.currency, TierRow.public, TierRow.quotas,
        counted,
    ).order_by(TierRow.rank).limit(LIMIT)  # fmt: skip
    with platform.database.session() as session:
        return [Tier(*row) for row in session.execute(query)]
