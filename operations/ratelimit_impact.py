"""What edits would do before they are saved: whom they touch, who is above already, which tier would get less."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy import select

from adapters.core import utcnow
from limiter import Effective, KeyPolicies, Scope, resolve, usage
from limiter.keys import split_subject, subject
from models import Agent, Tenant, Tier
from operations import access, ratelimit_rules, ratelimit_store, ratelimit_subjects
from operations.access import Actor, Permission
from operations.platform import Platform
from operations.ratelimit_rules import place, rule_of
from operations.ratelimit_values import STORED, Edit, Policy, Target, to_policy

SHOWN = 20
_TIER_NAMES = select(Tier.code, Tier.name).order_by(Tier.rank)
CHUNK = 2000
_NOBODY = "\x00"
"""A tenant without anything of its own: what a tier's other tenants get."""


@dataclass(frozen=True, slots=True)
class Above:
    """A tenant or agent whose present use is above the limit it would get."""

    tenant: str
    name: str
    agent: str | None
    used: int
    limit: int


@dataclass(frozen=True, slots=True)
class Impact:
    """What edits of one key would change. ``above_total`` is None while Redis does not tell the present use."""

    key: str
    tenants: int
    agents: int
    above: tuple[Above, ...]
    """The highest first, at most 20 of them."""
    above_total: int | None
    restarts: bool
    """The window's length changes for somebody, whose counter therefore begins anew."""


@dataclass(frozen=True, slots=True)
class Unfair:
    """A higher tier that gets less than a lower one. A limit of None is unlimited."""

    key: str
    lower: str
    lower_limit: int | None
    higher: str
    higher_limit: int | None


@dataclass(frozen=True, slots=True)
class Cell:
    """What a tier gets of a key now: ``own`` is its policy, None where it inherits."""

    own: Policy | None
    limit: int | None
    window_seconds: int
    source: str


def impact(platform: Platform, actor: Actor, edits: Sequence[Edit]) -> tuple[Impact, ...]:
    """What the edits would change, by key. Raises access.Forbidden, change.Invalid, StoreUnavailable."""
    access.require(actor, Permission.RATELIMIT_VIEW)
    wishes = [(edit, None if edit.values is None else ratelimit_rules.validate(edit)) for edit in edits]
    names = sorted({edit.target.key for edit in edits})
    agents = [edit.target.reference for edit in edits if edit.target.scope is Scope.AGENT]
    with platform.database.session(seconds=20) as session:
        rows = session.execute(select(STORED).where(STORED.c.key.in_(names)))
        known = {policy.target: policy for policy in map(to_policy, rows)}
        open_ones = select(Tenant.id, Tenant.tier_code, Tenant.name).where(Tenant.status != ratelimit_subjects.CLOSED)
        tenants = {row.id: (row.tier_code, row.name) for row in session.execute(open_ones)}
        owners = {row.id: row.tenant_id for row in session.execute(
            select(Agent.id, Agent.tenant_id).where(Agent.id.in_(agents)))}  # fmt: skip
    return tuple(_of_key(platform, key, known, wishes, tenants, owners) for key in names)


def _of_key(
    platform: Platform,
    key: str,
    known: Mapping[Target, Policy],
    wishes: Sequence[tuple[Edit, dict[str, Any] | None]],
    tenants: Mapping[str, tuple[str, str]],
    owners: Mapping[str, str],
) -> Impact:
    now = {target: policy for target, policy in known.items() if target.key == key}
    then = dict(now)
    for edit, values in wishes:
        if edit.target.key == key:
            _apply(then, edit, values, owners)
    before, after = _table(now), _table(then)
    at = utcnow().timestamp()
    own = (set(before.tenants) | set(after.tenants)) & set(tenants)
    touched: list[tuple[str, str | None, Effective, Effective]] = []
    count = 0
    crowd = Counter(tier for name, (tier, _) in tenants.items() if name not in own)
    changed_tiers = {}
    for tier, size in crowd.items():
        old, new = resolve(before, _NOBODY, None, tier, at), resolve(after, _NOBODY, None, tier, at)
        if _differ(old, new):
            count += size
            changed_tiers[tier] = (old, new)
    touched += [(name, None, *changed_tiers[tier]) for name, (tier, _) in tenants.items()
                if tier in changed_tiers and name not in own]  # fmt: skip
    for name in own:
        old, new = (resolve(table, name, None, tenants[name][0], at) for table in (before, after))
        if _differ(old, new):
            count += 1
            touched.append((name, None, old, new))
    agents = 0
    for who in set(before.agents) | set(after.agents):
        tenant, agent = split_subject(who)
        if tenant not in tenants:
            continue  # closed
        tier = tenants[tenant][0]
        old, new = (resolve(table, tenant, agent, tier, at) for table in (before, after))
        if _differ(old, new):
            agents += 1
            touched.append((tenant, agent, old, new))
    found, restarts = _above(platform, key, touched, tenants)
    above = None if found is None else tuple(found[:SHOWN])
    return Impact(key, count, agents, above or (), None if found is None else len(found), restarts)


def _apply(
    policies: dict[Target, Policy], edit: Edit, values: dict[str, Any] | None, owners: Mapping[str, str]
) -> None:
    target = edit.target
    if values is None:
        policies.pop(target, None)
        if target.scope is Scope.GLOBAL:
            policies.clear()
        return
    present = policies.get(target)
    if present is None:
        at = utcnow()
        tenant = owners.get(target.reference) if target.scope is Scope.AGENT else target.reference
        present = Policy(target, None, None, None, None, None, True, None, "", "", "", tenant, 0, at, at, "")
    policies[target] = replace(present, **values)


def _table(policies: Mapping[Target, Policy]) -> KeyPolicies:
    table = KeyPolicies()
    for policy in policies.values():
        place(table, policy)
    return table


def _differ(old: Effective, new: Effective) -> bool:
    def said(one: Effective) -> tuple[Any, ...]:
        return one.limit, one.window_seconds, one.mode, one.warn_percent, one.on_failure, one.valid_until

    return said(old) != said(new)


def _above(
    platform: Platform,
    key: str,
    touched: Sequence[tuple[str, str | None, Effective, Effective]],
    tenants: Mapping[str, tuple[str, str]],
) -> tuple[list[Above] | None, bool]:
    """Who uses more than it would get, the most above first; None while Redis does not answer."""
    limits: dict[str, int] = {}
    wanted: list[tuple[str, str, int]] = []
    restarts = False
    for tenant, agent, old, new in touched:
        restarts = restarts or old.window_seconds != new.window_seconds
        who = subject(tenant, agent)
        # Another window, or a counter of its own from now on, begins with nothing used.
        if new.limit is None or old.window_seconds != new.window_seconds or (agent and new.subject != who):
            continue
        limits[who] = new.limit
        wanted.append((key, who, new.window_seconds))
    found: list[Above] = []
    try:
        for start in range(0, len(wanted), CHUNK):
            for use in usage.current(platform.redis, wanted[start : start + CHUNK]):
                limit = limits[use.subject]
                if use.used > limit:
                    tenant, agent = split_subject(use.subject)
                    found.append(Above(tenant, tenants.get(tenant, ("", tenant))[1], agent, use.used, limit))
    except RedisError:
        return None, restarts
    return sorted(found, key=lambda one: one.limit - one.used), restarts


def cells(tiers: Sequence[tuple[str, str]], policies: Sequence[Policy], own: Mapping[tuple[str, str], Policy]) -> dict[
    tuple[str, str], Cell
]:  # fmt: skip
    """What each (tier, key) gets now, by the limiter's own resolution."""
    at = utcnow().timestamp()
    found = {}
    for policy in policies:
        key = policy.target.key
        for code, _ in tiers:
            mine = own.get((code, key))
            table = KeyPolicies(rule_of(policy), {} if mine is None else {code: rule_of(mine)})
            effective = resolve(table, _NOBODY, None, code, at)
            found[code, key] = Cell(mine, effective.limit, effective.window_seconds, effective.source)
    return found


def unfair(tiers: Sequence[tuple[str, str]], found: Mapping[tuple[str, str], Cell]) -> list[Unfair]:
    """Higher tiers (later in the sequence) that get less per second than the best of the lower ones."""
    wrong = []
    for key in dict.fromkeys(key for _, key in found):
        best: tuple[float, str, int | None] | None = None
        for code, name in tiers:
            cell = found[code, key]
            rate = float("inf") if cell.limit is None else cell.limit / cell.window_seconds
            if best is not None and rate < best[0]:
                wrong.append(Unfair(key, best[1], best[2], name, cell.limit))
            else:
                best = (rate, name, cell.limit)
    return wrong


def proposed(
    policies: Sequence[Policy], own: Mapping[tuple[str, str], Policy], edits: Sequence[Edit]
) -> tuple[list[Policy], dict[tuple[str, str], Policy]]:
    """The GLOBAL and TIER policies as they would be after the edits, for ``cells``. Raises change.Invalid."""
    every = {policy.target: policy for policy in [*policies, *own.values()]}
    for edit in edits:
        values = None if edit.values is None else ratelimit_rules.validate(edit)
        if edit.target.scope is Scope.GLOBAL and values is None:
            every = {target: policy for target, policy in every.items() if target.key != edit.target.key}
        elif edit.target.scope in (Scope.GLOBAL, Scope.TIER):
            _apply(every, edit, values, {})
    return (
        [policy for target, policy in every.items() if target.scope is Scope.GLOBAL],
        {(t.reference, t.key): policy for t, policy in every.items() if t.scope is Scope.TIER},
    )


def present(platform: Platform, actor: Actor, targets: Sequence[Target]) -> dict[Target, Policy]:
    """The policies of these targets as they are stored now. Raises access.Forbidden, StoreUnavailable."""
    access.require(actor, Permission.RATELIMIT_VIEW)
    with platform.database.reading(seconds=20) as connection:
        return ratelimit_store.read(connection, targets)


def tier_names(platform: Platform, actor: Actor) -> list[tuple[str, str]]:
    """Tiers (code, name) by rank. Raises access.Forbidden, StoreUnavailable."""
    access.require(actor, Permission.RATELIMIT_VIEW)
    with platform.database.reading() as connection:
        return [(row.code, row.name) for row in connection.execute(_TIER_NAMES)]
