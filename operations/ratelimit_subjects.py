"""Tenants and agents by name, for whoever may see rate limits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import ARRAY, Text, any_, bindparam, func, or_, select

from models import Agent, Tenant
from operations import access, change
from operations.access import Actor, Permission
from operations.platform import Platform

MOST = 200
CLOSED = "closed"
_IDS = bindparam("ids", type_=ARRAY(Text))
_TENANTS = select(Tenant.id, Tenant.name).where(Tenant.id == any_(_IDS))
_AGENTS = select(Agent.id, Agent.name).where(Agent.id == any_(_IDS))


@dataclass(frozen=True, slots=True)
class Found:
    """Tenants (id, name) that match, and how many there are in all."""

    rows: tuple[tuple[str, str], ...]
    total: int


def find(platform: Platform, actor: Actor, words: str = "", limit: int = 50, tier: str | None = None) -> Found:
    """Tenants (but closed ones) whose name or id contains ``words``, beginning with it first; at most ``limit`` (200).

    Raises access.Forbidden without infra:ratelimit:view, StoreUnavailable.
    """
    access.require(actor, Permission.RATELIMIT_VIEW)
    wanted = change.clean(words).strip().lower()[:200]
    name = func.lower(Tenant.name)
    where = [Tenant.status != CLOSED]
    if tier is not None:
        where.append(Tenant.tier_code == tier)
    order = [name.startswith(wanted, autoescape=True).desc(), name, Tenant.id]
    if wanted:
        where.append(or_(name.contains(wanted, autoescape=True), Tenant.id.contains(wanted, autoescape=True)))
    query = select(Tenant.id, Tenant.name).where(*where).order_by(*order).limit(max(1, min(limit, MOST)))
    with platform.database.reading() as connection:
        rows = tuple((row.id, row.name) for row in connection.execute(query))
        return Found(rows, connection.scalar(select(func.count()).select_from(Tenant).where(*where)) or 0)


def agents(platform: Platform, actor: Actor, tenant: str) -> list[tuple[str, str]]:
    """A tenant's agents (id, name) by name, at most 200. Raises access.Forbidden, StoreUnavailable."""
    access.require(actor, Permission.RATELIMIT_VIEW)
    query = select(Agent.id, Agent.name).where(Agent.tenant_id == change.clean(tenant))
    with platform.database.reading() as connection:
        return [(row.id, row.name) for row in connection.execute(query.order_by(Agent.name, Agent.id).limit(MOST))]


def names(platform: Platform, actor: Actor, tenants: Iterable[str], agents: Iterable[str] = ()) -> dict[str, str]:
    """Names by id of tenants and agents; unknown ids are left out. Raises access.Forbidden, StoreUnavailable."""
    access.require(actor, Permission.RATELIMIT_VIEW)
    wanted, workers = set(tenants), {agent for agent in agents if agent}
    with platform.database.reading() as connection:
        found = {row.id: row.name for row in connection.execute(_TENANTS, {"ids": list(wanted)})}
        if workers:
            found |= {row.id: row.name for row in connection.execute(_AGENTS, {"ids": list(workers)})}
        return found


def missing(platform: Platform, actor: Actor, tenants: Iterable[str]) -> list[str]:
    """The ids among ``tenants`` that no tenant has, in order. Raises access.Forbidden, StoreUnavailable."""
    wanted = list(dict.fromkeys(tenants))
    known = names(platform, actor, wanted)
    return [one for one in wanted if one not in known]


def of_tier(platform: Platform, actor: Actor, tier: str, limit: int = 10_000) -> list[str]:
    """Ids of a tier's tenants (but closed ones) by id, at most ``limit``. Raises access.Forbidden, StoreUnavailable."""
    access.require(actor, Permission.RATELIMIT_VIEW)
    query = (
        select(Tenant.id)
        .where(Tenant.tier_code == tier, Tenant.status != CLOSED)
        .order_by(Tenant.id)
        .limit(max(1, min(limit, 10_000)))
    )
    with platform.database.reading() as connection:
        return list(connection.scalars(query))
