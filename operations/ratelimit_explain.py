"""Why a tenant gets what it gets: the limiter's own resolution over what PostgreSQL holds."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from redis.exceptions import RedisError
from sqlalchemy import Text, bindparam, literal, or_, select

from adapters.core import Unreachable, utcnow
from limiter import Effective, KeyPolicies, Limiter, Mode, OnFailure, Rule, Scope, keys, resolve, window
from limiter.model import MAX_COST
from limiter.table import Loaded
from models import Agent, Tenant, Tier
from operations import access, change
from operations.access import Actor, Permission
from operations.change import NotFound
from operations.platform import Platform
from operations.ratelimit_rules import place, window_text
from operations.ratelimit_store import storable
from operations.ratelimit_values import STORED, Policy, to_policy
from operations.ratelimit_wire import tier_of

PROBE_LIMIT = 200
"""Decisions a proof makes at most before it uses bigger costs."""


@dataclass(frozen=True, slots=True)
class Link:
    """One rule that could apply, and what became of it."""

    policy: Policy
    name: str
    decides: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """The limit of one subject, and what led to it. ``sentence`` says it in one breath."""

    key: str
    tenant: str | None
    agent: str | None
    tier: str | None
    limit: int | None
    window_seconds: int
    policy: str
    warn_percent: int
    on_redis_failure: str
    source: str
    sentence: str
    chain: tuple[Link, ...]
    used: int | None
    """None while Redis does not answer."""
    remaining: int | None
    reset_at: datetime | None
    valid_until: datetime | None
    """When the next of the rules involved expires."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What happened when a probe subject used the limit up, through the real limiter."""

    limit: int | None
    admitted: int
    over: int
    rejected_at: int | None
    """The unit at which the first rejection came; None where none came."""
    expected_at: int | None
    right: bool
    sentence: str


def effective_many(platform: Platform, who: Sequence[tuple[str, str | None, str | None]]) -> list[Effective]:
    """The limits in force now for (key, tenant, agent), by PostgreSQL. Raises StoreUnavailable."""
    if not who:
        return []
    wanted = {key for key, _, _ in who}
    tenants = {tenant for _, tenant, _ in who if tenant and storable(tenant)}
    tables: dict[str, KeyPolicies] = {key: KeyPolicies() for key in wanted}
    p = STORED.c
    query = select(STORED).where(p.key.in_(wanted), or_(p.scope.in_(("GLOBAL", "TIER")), p.tenant_id.in_(tenants)))
    with platform.database.reading() as connection:
        for policy in map(to_policy, connection.execute(query)):
            place(tables[policy.target.key], policy)
    tiers = tiers_of(platform, tenants)
    now = _now(platform).timestamp()
    return [resolve(tables[key], tenant, agent, tiers.get(tenant or ""), now) for key, tenant, agent in who]


def _now(platform: Platform) -> datetime:
    """The time limits go by: that of the Redis server, or this process's while it does not answer."""
    try:
        seconds, micros = platform.redis.time()
    except RedisError:
        return utcnow()
    return datetime.fromtimestamp(int(seconds) + int(micros) // 1000 / 1000, UTC)


def tiers_of(platform: Platform, tenants: Sequence[str] | set[str]) -> dict[str, str]:
    """Tenants' tier codes, as limiters know them: none of a closed tenant."""
    query = select(Tenant.id, Tenant.tier_code, Tenant.status, Tenant.lifecycle).where(Tenant.id.in_(set(tenants)))
    with platform.database.reading() as connection:
        rows = connection.execute(query).all()
    found = {row.id: tier_of(row.tier_code, row.status, row.lifecycle) for row in rows}
    return {tenant: tier for tenant, tier in found.items() if tier is not None}


_ONE = select(literal(1).label("one")).subquery()
_WHO = (
    select(
        Tenant.id.label("tenant"), Tenant.name.label("tenant_name"), Tenant.tier_code.label("tier"),
        Tenant.status, Tenant.lifecycle, Tier.name.label("tier_name"),
        Agent.tenant_id.label("owner"), Agent.name.label("agent_name"),
    )
    .select_from(_ONE)
    .outerjoin(Tenant, Tenant.id == bindparam("tenant", type_=Text))
    .outerjoin(Tier, Tier.code == Tenant.tier_code)
    .outerjoin(Agent, Agent.id == bindparam("agent", type_=Text))
)  # fmt: skip
"""One row, of a tenant and an agent that may both not be there."""
_CHAIN = select(STORED).where(
    STORED.c.key == bindparam("key", type_=Text),
    or_(
        STORED.c.scope == "GLOBAL",
        (STORED.c.scope == "TIER") & (STORED.c.tier_code == bindparam("tier", type_=Text)),
        (STORED.c.scope == "TENANT") & (STORED.c.tenant_id == bindparam("tenant", type_=Text)),
        (STORED.c.scope == "AGENT") & (STORED.c.agent_id == bindparam("agent", type_=Text)),
    ),
)


def explain(platform: Platform, actor: Actor, key: str, tenant: str | None, agent: str | None = None) -> Explanation:
    """The limit in force for a subject, and the chain that led to it.

    Raises access.Forbidden, change.NotFound (no such key, tenant or agent), StoreUnavailable.
    """
    access.require(actor, Permission.RATELIMIT_VIEW)
    if not storable(key, tenant, agent):
        raise NotFound("There is no key, tenant or agent with such a name.")
    tenant_asked, agent_asked = tenant or None, agent or None
    with platform.database.reading() as connection:
        who = connection.execute(_WHO, {"tenant": tenant_asked, "agent": agent_asked}).one()
        if tenant and who.tenant is None:
            raise NotFound(f"There is no tenant {tenant}.")
        if agent and (who.owner is None or who.owner != tenant):
            raise NotFound(f"{tenant or 'Nobody'} has no agent {agent}.")
        asked = {"key": key, "tier": who.tier, "tenant": tenant_asked, "agent": agent_asked}
        found = {policy.target.scope: policy for policy in map(to_policy, connection.execute(_CHAIN, asked))}
    names = {
        Scope.GLOBAL: "everyone",
        Scope.TIER: who.tier_name or "",
        Scope.TENANT: who.tenant_name or "",
        Scope.AGENT: who.agent_name or "",
    }
    table = KeyPolicies()
    for policy in found.values():
        place(table, policy)
    known = None if who.tenant is None else tier_of(who.tier, who.status, who.lifecycle)
    if not found:
        raise NotFound(f"There is no limit {key}.")
    now = _now(platform)
    effective = resolve(table, tenant, agent, known, now.timestamp())
    chain = tuple(
        _link(found[c.scope], names[c.scope], c.source == effective.source, c.applies) for c in effective.chain
    )
    sentence = _sentence([link for link, c in zip(chain, effective.chain, strict=True) if c.applies], effective)
    used, reset = _use(platform, key, effective)
    until = effective.valid_until
    return Explanation(
        key, tenant, agent, who.tier, effective.limit, effective.window_seconds, str(effective.mode),
        effective.warn_percent, str(effective.on_failure), effective.source, sentence, chain, used,
        None if used is None or effective.limit is None else max(0, effective.limit - used), reset,
        None if until == float("inf") else datetime.fromtimestamp(until, UTC),
    )  # fmt: skip


def _amount(limit: int | None) -> str:
    return "unlimited" if limit is None else f"{limit:,}"


def _what(policy: Policy, name: str) -> str:
    kind = {
        Scope.GLOBAL: "the limit for everyone",
        Scope.TIER: f"tier {name}",
        Scope.TENANT: f"the override for {name}",
        Scope.AGENT: f"the override for agent {name}",
    }[policy.target.scope]
    if policy.target.scope in (Scope.TENANT, Scope.AGENT) and policy.updated_by:
        kind += f" set by {policy.updated_by}"
    if policy.expires_at is not None:
        kind += f" until {policy.expires_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return kind


def _link(policy: Policy, name: str, decides: bool, applies: bool) -> Link:
    words = f"{_amount(policy.limit)}, from {_what(policy, name)}"
    if decides:
        words += ": this one decides"
    elif not policy.active:
        words += ": not active"
    elif not applies:
        words += ": expired"
    else:
        words += ": a narrower one decides"
    return Link(policy, name, decides, words + ".")


def _sentence(chain: Sequence[Link], effective: Effective) -> str:
    """In one breath, from the rules in force: what others say that are not would mislead."""
    if effective.source == "removed":
        return "Nothing is admitted: the tenant is being removed."
    winner = next((link for link in chain if link.decides), None)
    if winner is None:
        return "Unlimited: no rule is in force."
    words = f"{_amount(effective.limit)} per {window_text(effective.window_seconds).removeprefix('1 ')}"
    words += f", from {_what(winner.policy, winner.name)}"
    others = [link for link in chain if not link.decides and link.policy.target.scope is not Scope.AGENT]
    said = [f"{_what(link.policy, link.name)} says {_amount(link.policy.limit)}" for link in others[:2]]
    return "; ".join([words, *said]) + "."


def _use(platform: Platform, key: str, effective: Effective) -> tuple[int | None, datetime | None]:
    name = keys.counter(keys.shard(key, effective.subject), key, effective.subject, effective.window_seconds)
    try:
        with platform.redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.hmget(name, "i", "c", "p")
            (seconds, micros), (index, count, before) = pipe.execute()
    except RedisError:
        return None, None
    width, now = effective.window_seconds * 1000, int(seconds) * 1000 + int(micros) // 1000
    at, units, previous = window.roll(int(index or 0), int(count or 0), int(before or 0), now, width)
    used = window.used(units, previous, window.elapsed(at, now, width), width)
    return used, datetime.fromtimestamp((now // width + 1) * effective.window_seconds, UTC)


def prove(platform: Platform, actor: Actor, key: str, tenant: str | None, agent: str | None = None) -> Proof:
    """Use the limit up with a probe subject, through the real limiter and the real Redis, and see where it rejects.

    The probe has its own key and counter, removed afterwards; nobody's use is touched.
    Raises access.Forbidden, change.NotFound, Unreachable.
    """
    said = explain(platform, actor, key, tenant, agent)
    probe_key, who = f"probe.{key}"[:64], f"probe-{secrets.token_hex(6)}"
    rule = Rule(said.limit, said.window_seconds, Mode(said.policy), said.warn_percent, OnFailure.DENY)
    # A still clock: the proof must not straddle the end of a window.
    still = utcnow().timestamp()
    admitted, over = 0, 0
    rejected: int | None = None
    with Limiter(platform.redis, timeout=1.0, clock=lambda: still, watch=False) as limiter:
        table = limiter.store.table
        table.keys[probe_key], table.loaded[probe_key] = KeyPolicies(base=rule), Loaded()
        table.complete = True
        try:
            target = PROBE_LIMIT if said.limit is None else said.limit
            big = max(0, target - PROBE_LIMIT)
            costs = [MAX_COST] * (big // MAX_COST) + ([big % MAX_COST] if big % MAX_COST else [])
            costs += [1] * (min(target, PROBE_LIMIT) + 2)
            for cost in costs:
                decision = limiter.check(probe_key, who, cost=cost)
                if decision.degraded:
                    raise Unreachable("Redis does not answer, so nothing could be proved.")
                if not decision.allowed:
                    rejected = admitted + 1
                    break
                admitted += cost
                over += decision.over
        finally:
            _forget_probe(platform, limiter, probe_key, who)
    hard = said.limit is not None and (said.policy == Mode.HARD or said.limit == 0)
    expected = (said.limit or 0) + 1 if hard else None
    right = rejected == expected and (said.limit is None or hard or over == admitted - said.limit)
    if rejected is not None:
        words = f"{admitted:,} admitted, number {rejected:,} rejected"
    else:
        words = f"{admitted:,} admitted, none rejected" + (f", {over:,} counted as over the limit" if over else "")
    return Proof(said.limit, admitted, over, rejected, expected, right, words + (": exactly right." if right else "!"))


def _forget_probe(platform: Platform, limiter: Limiter, key: str, who: str) -> None:
    try:
        limiter.reset(key, who)
        n = keys.shard(key, who)
        now = int(limiter.core.now())
        with platform.redis.pipeline(transaction=False) as pipe:
            pipe.delete(keys.top(n, key), keys.near(n, key))
            pipe.hdel(keys.minutes(n, now // 60), *(f"{key}|{letter}" for letter in "aswb"))
            pipe.hdel(keys.hours(n, now // 3600), *(f"{letter}|{key}|{who}" for letter in "aob"))
            pipe.hdel(keys.actives(n, now // 3600), key)
            pipe.execute()
        for line in platform.redis.lrange(keys.blocked(n), 0, 20):
            if str(line).endswith(f"|{who}"):
                platform.redis.lrem(keys.blocked(n), 0, str(line))
    except RedisError:
        return  # the probe's counter expires by itself


def reset(
    platform: Platform, actor: Actor, key: str, tenant: str | None, agent: str | None = None, *, reason: str = "",
    request_id: str | None = None,
) -> int:  # fmt: skip
    """Forget what one subject used of a key in its present window; what was forgotten, in units. Audited.

    Raises access.Forbidden, change.NotFound, Unreachable, StoreUnavailable.
    """
    access.require(actor, Permission.RATELIMIT_EDIT)
    if not storable(key, tenant, agent) or not _limited(platform, key):
        raise NotFound(f"There is no limit {change.clean(key)}.")
    # As the limiter resolves it: callers of the API and "nobody" have counters, and no row of a tenant.
    effective = effective_many(platform, [(key, tenant, agent)])[0]
    used, _ = _use(platform, key, effective)
    who, seconds = effective.subject, effective.window_seconds
    number = keys.shard(key, who)
    name = f"ratelimit/{key}/counter/{who}"
    with change.door(
        platform, actor, Permission.RATELIMIT_EDIT, action="ratelimit.reset", subject=name, reason=reason,
        request_id=request_id,
    ) as door:  # fmt: skip
        door.audit({"used": used}, {"used": 0})
        try:
            with platform.redis.pipeline(transaction=False) as pipe:
                pipe.delete(keys.counter(number, key, who, seconds))
                pipe.zrem(keys.top(number, key), f"{seconds * 1000}|{who}")
                pipe.zrem(keys.near(number, key), f"{seconds * 1000}|{who}")
                pipe.execute()
        except RedisError as error:
            raise Unreachable("Redis does not answer, so the counter was not reset.", detail=repr(error)) from error
    return used or 0


def _limited(platform: Platform, key: str) -> bool:
    with platform.database.reading() as connection:
        return connection.scalar(select(STORED.c.id).where(STORED.c.key == key).limit(1)) is not None
