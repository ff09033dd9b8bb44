"""Tenants: finding them, one of them, and what it uses."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import func, or_, select

from adapters.core import utcnow
from models import Agent, Tenant, Tier, UsageDaily
from operations import access, change
from operations.access import Actor, Permission
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
    Tenant.lago_customer_id, Tenant.keycloak_realm, Tenant.somabrain_tenant,
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
