"""Tenants: finding them, one of them, what it uses, and moving it to another tier."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import func, or_, select, text

from adapters.core import utcnow
from limiter import keys
from models import Agent, Tenant, Tier, UsageDaily
from operations import access, change, ratelimit_wire
from operations.access import Actor, Permission
from operations.change import Conflict, FieldError, Invalid, NotFound, Outcome
from operations.platform import Platform

LIMIT = 200
DAYS = 400


@dataclass(frozen=True, slots=True)
class TenantRow:
    """One tenant. ``tier`` is the tier's name, ``tier_code`` its code."""

    id: str
    name: str
    tier: str
    tier_code: str
    status: str
    agents: int
    created_at: datetime
    lago_customer_id: str | None = None
    keycloak_realm: str | None = None
    somabrain_tenant: str | None = None
    contact_email: str | None = None
    keycloak_group: str | None = None
    lago_subscription_id: str | None = None
    qdrant_collection: str | None = None
    s3_prefix: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """One page of tenants, and how many match in all."""

    rows: tuple[TenantRow, ...]
    total: int


@dataclass(frozen=True, slots=True)
class UsageDay:
    """Usage of one UTC day: all of it, what was past the limit, what was refused."""

    day: date
    amount: int
    over: int
    blocked: int


_agents = select(func.count()).where(Agent.tenant_id == Tenant.id).correlate(Tenant).scalar_subquery()
_columns = select(
    Tenant.id, Tenant.name, Tier.name, Tenant.tier_code, Tenant.status, _agents, Tenant.created_at,
    Tenant.lago_customer_id, Tenant.keycloak_realm, Tenant.somabrain_tenant, Tenant.contact_email,
    Tenant.keycloak_group, Tenant.lago_subscription_id, Tenant.qdrant_collection, Tenant.s3_prefix,
).join(Tier, Tier.code == Tenant.tier_code)  # fmt: skip


def search(platform: Platform, actor: Actor, query: str = "", limit: int = 50, offset: int = 0) -> Found:
    """Tenants whose id or name contains ``query``, those beginning with it first; at most ``limit`` (200).

    Raises access.Forbidden without platform:tenants.
    """
    access.require(actor, Permission.TENANTS_VIEW)
    words = change.clean(query).strip().lower()[:200]
    listed, counted = _columns, select(func.count()).select_from(Tenant)
    order: list[Any] = [func.lower(Tenant.name), Tenant.id]
    if words:
        name = func.lower(Tenant.name)
        match = or_(name.contains(words, autoescape=True), Tenant.id.contains(words, autoescape=True))
        begins = or_(name.startswith(words, autoescape=True), Tenant.id.startswith(words, autoescape=True))
        listed, counted, order = listed.where(match), counted.where(match), [begins.desc(), *order]
    page = listed.order_by(*order).limit(max(1, min(limit, LIMIT))).offset(max(0, min(offset, 1_000_000)))
    with platform.database.session() as session:
        rows = tuple(TenantRow(*row) for row in session.execute(page))
        return Found(rows, session.scalar(counted) or 0)


def get(platform: Platform, actor: Actor, tenant_id: str) -> TenantRow:
    """One tenant. Raises access.Forbidden and change.NotFound."""
    access.require(actor, Permission.TENANTS_VIEW)
    with platform.database.session() as session:
        row = session.execute(_columns.where(Tenant.id == change.clean(tenant_id))).one_or_none()
    if row is None:
        raise change.NotFound(f"There is no tenant {tenant_id}.")
    return TenantRow(*row)


def usage(platform: Platform, actor: Actor, tenant_id: str, days: int = 30) -> dict[str, list[UsageDay]]:
    """Usage per limited thing of the last ``days`` (400 at most), oldest first."""
    access.require(actor, Permission.TENANTS_VIEW)
    first = utcnow().date() - timedelta(days=max(1, min(days, DAYS)) - 1)
    query = (
        select(UsageDaily.key, UsageDaily.day, UsageDaily.amount, UsageDaily.over, UsageDaily.blocked)
        .where(UsageDaily.tenant_id == change.clean(tenant_id), UsageDaily.day >= first)
        .order_by(UsageDaily.key, UsageDaily.day)
        .limit(20_000)
    )
    found: dict[str, list[UsageDay]] = {}
    with platform.database.session() as session:
        for key, day, amount, over, blocked in session.execute(query):
            found.setdefault(key, []).append(UsageDay(day, amount, over, blocked))
    return found


def change_tier(
    platform: Platform,
    actor: Actor,
    tenant_id: str,
    tier_code: str,
    seen: str,
    reason: str,
    request_id: str | None = None,
) -> Outcome:
    """Move a tenant to another tier; its limits follow in every limiter at once.

    ``seen`` is the code of the tier the person saw. Raises access.Forbidden, change.NotFound, change.Conflict
    (somebody else moved it first), change.Invalid, StoreUnavailable.
    """
    access.require(actor, Permission.BILLING_MANAGE)
    if not (reason or "").strip():
        raise Invalid([FieldError("reason", "is asked for", "a few words on why")])
    tenant_id, tier_code = change.clean(tenant_id), change.clean(tier_code)
    with change.door(
        platform, actor, Permission.BILLING_MANAGE, action="tenant.tier", subject=f"tenant/{tenant_id}",
        reason=reason, request_id=request_id,
    ) as door:  # fmt: skip
        # The row counts the versions of this mapping: its lock makes them follow the order of commits.
        door.version = door.session.execute(
            text(
                "INSERT INTO rate_limit_keys (key, version) VALUES (:key, 1)"
                " ON CONFLICT (key) DO UPDATE SET version = rate_limit_keys.version + 1 RETURNING version"
            ),
            {"key": keys.TENANTS},
        ).scalar_one()
        row = door.session.scalars(select(Tenant).where(Tenant.id == tenant_id).with_for_update()).one_or_none()
        if row is None:
            raise NotFound(f"There is no tenant {tenant_id}.")
        if row.tier_code != seen:
            raise Conflict({"tier": row.tier_code}, {"tier": tier_code})
        if door.session.get(Tier, tier_code) is None:
            codes = door.session.scalars(select(Tier.code).order_by(Tier.rank).limit(50))
            raise Invalid([FieldError("tier", "is not one of the tiers", ", ".join(codes))])
        row.tier_code = tier_code
        door.session.flush()
        door.audit({"tier": seen}, {"tier": tier_code})
        ratelimit_wire.owe_tier(
            door, door.version, tenant_id, ratelimit_wire.tier_of(tier_code, row.status, row.lifecycle)
        )
    return door.outcome
