"""Rate-limit policies: reading them and changing them, all or nothing, through the one door."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import and_, func, or_, select, text
from sqlalchemy.orm import Session

from adapters.core import utcnow
from limiter import Scope
from limiter.keys import subject
from models import Agent, RateLimitKey, RateLimitPolicy, Tenant, Tier
from operations import access, change, ratelimit_rules, ratelimit_wire
from operations.access import Actor, Permission
from operations.change import Conflict, FieldError, Invalid, NotFound, Outcome
from operations.platform import Platform
from operations.ratelimit_rules import FIELDS, base_document, override_document, override_name

PAGE_LIMIT = 200
EDITS_LIMIT = 20_000
CHUNK = 500
"""Overrides per message to Redis: one script call stays in the low milliseconds."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a policy is for: a key and a scope with its reference."""

    key: str
    scope: Scope = Scope.GLOBAL
    reference: str = ""
    """The tier's code, the tenant's id, the agent's id, or "" for GLOBAL."""

    @property
    def subject(self) -> str:
        """As the audit names it."""
        return f"ratelimit/{self.key}/{self.scope.lower()}" + (f"/{self.reference}" if self.reference else "")


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy as people and programs see it. ``limit`` None is unlimited, 0 blocks everything."""

    target: Target
    limit: int | None
    window_seconds: int | None
    policy: str | None
    warn_percent: int | None
    on_redis_failure: str | None
    active: bool
    expires_at: datetime | None
    description: str
    reason: str
    owner: str
    tenant_id: str | None
    version: int
    created_at: datetime
    updated_at: datetime
    updated_by: str
    name: str = ""
    """The tier's, tenant's or agent's name, where the query fetched it."""

    def values(self) -> dict[str, Any]:
        """The editable fields."""
        return {name: getattr(self, name) for name in FIELDS}


@dataclass(frozen=True, slots=True)
class Edit:
    """One wish: create, change or delete one policy.

    ``seen`` is the version the person saw: 0 for "there was none", None for "whatever is there".
    ``values`` are the fields to set (others keep their value), or None to delete.
    """

    target: Target
    values: Mapping[str, Any] | None
    seen: int | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one edit."""

    target: Target
    before: Policy | None
    after: Policy | None


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of all of them."""

    done: tuple[Done, ...]
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of policies, and how many match."""

    rows: tuple[Policy, ...]
    total: int


@dataclass(slots=True)
class _KeyChange:
    version: int
    base: bool = False
    removed: bool = False
    overrides: dict[str, dict[str, Any] | None] = field(default_factory=dict)


def to_policy(row: RateLimitPolicy, name: str = "") -> Policy:
    """A row as a value."""
    reference = row.tier_code or row.agent_id or row.tenant_id or ""
    return Policy(
        Target(row.key, Scope(row.scope), reference), row.limit_value, row.window_seconds, row.policy,
        row.warn_percent, row.on_redis_failure, row.active, row.expires_at, row.description, row.reason, row.owner,
        row.tenant_id, row.version, row.created_at, row.updated_at, row.updated_by, name,
    )  # fmt: skip


def policies(platform: Platform, actor: Actor) -> list[Policy]:
    """The GLOBAL policy of every key, by key. Raises access.Forbidden."""
    access.require(actor, Permission.RATELIMIT_VIEW)
    query = select(RateLimitPolicy).where(RateLimitPolicy.scope == Scope.GLOBAL).order_by(RateLimitPolicy.key)
    with platform.database.session() as session:
        return [to_policy(row) for row in session.scalars(query.limit(1000))]


def get(platform: Platform, actor: Actor, target: Target) -> Policy:
    """One policy. Raises access.Forbidden and change.NotFound."""
    access.require(actor, Permission.RATELIMIT_VIEW)
    with platform.database.session() as session:
        row = _find(session, target)
        if row is None:
            raise NotFound(f"There is no limit {target.subject.removeprefix('ratelimit/')}.")
        return to_policy(row)


def listing(
    platform: Platform,
    actor: Actor,
    *,
    key: str | None = None,
    scopes: Iterable[Scope] = tuple(Scope),
    query: str = "",
    active: bool | None = None,
    expiring_days: int | None = None,
    limit: int = 50,
    offset: int = 0,
) -> Listing:
    """Policies that match: soon expiring first, then by key, scope and name; at most ``limit`` (200) of them.

    ``query`` is part of a tenant's or agent's name or id, or of the owner. Raises access.Forbidden.
    """
    access.require(actor, Permission.RATELIMIT_VIEW)
    p = RateLimitPolicy
    where: list[Any] = [p.scope.in_([str(scope) for scope in scopes])]
    if key is not None:
        where.append(p.key == change.clean(key))
    if active is not None:
        where.append(p.active.is_(active))
    if expiring_days is not None:
        where.append(p.expires_at.between(func.now(), func.now() + text(f"interval '{int(expiring_days)} days'")))
    words = change.clean(query).strip().lower()[:200]
    if words:
        columns = (func.lower(Tenant.name), p.tenant_id, func.lower(Agent.name), p.agent_id, func.lower(p.owner), p.key)
        where.append(or_(*(column.contains(words, autoescape=True) for column in columns)))
    name = func.coalesce(Agent.name, Tenant.name, Tier.name, "")
    joined = (
        select(p, name)
        .outerjoin(Tenant, Tenant.id == p.tenant_id)
        .outerjoin(Agent, Agent.id == p.agent_id)
        .outerjoin(Tier, Tier.code == p.tier_code)
        .where(and_(*where))
    )
    soon = func.coalesce(p.expires_at < func.now(), False), p.expires_at.asc().nulls_last()
    page = joined.order_by(*soon, p.key, p.scope, name, p.id)
    with platform.database.session() as session:
        rows = session.execute(page.limit(max(1, min(limit, PAGE_LIMIT))).offset(max(0, offset))).all()
        total = session.scalar(select(func.count()).select_from(joined.subquery())) or 0
        return Listing(tuple(to_policy(row, str(label)) for row, label in rows), total)


def matrix(platform: Platform, actor: Actor) -> tuple[list[tuple[str, str]], dict[tuple[str, str], Policy]]:
    """Tiers (code, name) by rank, and the TIER policies by (tier, key). Raises access.Forbidden."""
    access.require(actor, Permission.RATELIMIT_VIEW)
    with platform.database.session() as session:
        tiers = [(row.code, row.name) for row in session.scalars(select(Tier).order_by(Tier.rank))]
        rows = session.scalars(select(RateLimitPolicy).where(RateLimitPolicy.scope == Scope.TIER).limit(10_000))
        return tiers, {(row.tier_code or "", row.key): to_policy(row) for row in rows}


def save(
    platform: Platform,
    actor: Actor,
    edits: Sequence[Edit],
    *,
    reason: str,
    action: str = "ratelimit.update",
    request_id: str | None = None,
) -> Saved:
    """Perform all edits in one transaction, or none.

    Deleting a key's GLOBAL policy deletes the key with all its policies. Raises access.Forbidden,
    change.Invalid (naming fields and allowed ranges), change.Conflict (somebody else was faster; with both
    values), change.NotFound, StoreUnavailable.
    """
    access.require(actor, Permission.RATELIMIT_EDIT)
    if not edits:
        raise Invalid([FieldError("edits", "there is nothing to change")])
    if len(edits) > EDITS_LIMIT:
        raise Invalid([FieldError("edits", "are too many at once", f"at most {EDITS_LIMIT}")])
    if not (reason or "").strip():
        raise Invalid([FieldError("reason", "is asked for", "a few words on why")])
    wishes = [(edit, None if edit.values is None else ratelimit_rules.validate(edit)) for edit in edits]
    name = edits[0].target.subject if len(edits) == 1 else f"ratelimit/{len(edits)} policies"
    permission = Permission.RATELIMIT_EDIT
    with change.door(
        platform, actor, permission, action=action, subject=name, reason=reason, request_id=request_id
    ) as door:
        keys = sorted({edit.target.key for edit in edits})
        changes = {key: _KeyChange(version) for key, version in _lock(door.session, keys).items()}
        done: list[Done] = []
        for edit, values in wishes:
            done += _perform(door, edit, values, changes[edit.target.key])
        door.session.flush()
        for key, made in changes.items():
            _publish(door, key, made)
        door.version = max(made.version for made in changes.values())
    return Saved(tuple(done), door.outcome)


def _lock(session: Session, keys: Sequence[str]) -> dict[str, int]:
    session.execute(
        text("INSERT INTO rate_limit_keys (key) SELECT unnest(CAST(:keys AS text[])) ON CONFLICT DO NOTHING"),
        {"keys": list(keys)},
    )
    query = select(RateLimitKey).where(RateLimitKey.key.in_(keys)).order_by(RateLimitKey.key).with_for_update()
    return {row.key: row.version for row in session.scalars(query)}


def _where(target: Target) -> list[Any]:
    p = RateLimitPolicy
    where: list[Any] = [p.key == target.key, p.scope == str(target.scope)]
    column = {Scope.TIER: p.tier_code, Scope.TENANT: p.tenant_id, Scope.AGENT: p.agent_id}.get(target.scope)
    if column is not None:
        where.append(column == target.reference)
    return where


def _find(session: Session, target: Target) -> RateLimitPolicy | None:
    return session.scalars(select(RateLimitPolicy).where(*_where(target))).one_or_none()


def _perform(door: change.Door, edit: Edit, values: dict[str, Any] | None, made: _KeyChange) -> list[Done]:
    session, target = door.session, edit.target
    row = _find(session, target)
    before = None if row is None else to_policy(row)
    if edit.seen is not None and edit.seen != (before.version if before else 0):
        raise Conflict(
            ratelimit_rules.plain_values(before), None if edit.values is None else {**edit.values, "of": target.subject}
        )
    if values is None:
        if row is None:
            raise NotFound(f"There is no limit {target.subject.removeprefix('ratelimit/')}.")
        rows = [row]
        if target.scope is Scope.GLOBAL:
            rows += session.scalars(
                select(RateLimitPolicy).where(RateLimitPolicy.key == target.key, RateLimitPolicy.scope != "GLOBAL")
            )
        return [_delete(door, one, made) for one in rows]
    if row is None:
        row = _new(session, target)
        session.add(row)
    ratelimit_rules.assign(row, values)
    if row.scope == Scope.GLOBAL:
        ratelimit_rules.complete(row)
    made.version += 1
    row.version, row.updated_at, row.updated_by = made.version, utcnow(), door.actor.name
    row.reason = door.reason
    session.flush()
    after = to_policy(row)
    door.audit(ratelimit_rules.plain_values(before), ratelimit_rules.plain_values(after), target.subject)
    if target.scope in (Scope.GLOBAL, Scope.TIER):
        made.base = True
    else:
        made.overrides[override_name(after)] = override_document(after)
    return [Done(target, before, after)]


def _delete(door: change.Door, row: RateLimitPolicy, made: _KeyChange) -> Done:
    before = to_policy(row)
    door.session.delete(row)
    door.session.flush()
    made.version += 1
    door.audit(ratelimit_rules.plain_values(before), None, before.target.subject)
    if before.target.scope is Scope.GLOBAL:
        made.removed = True
    elif before.target.scope is Scope.TIER:
        made.base = True
    else:
        made.overrides[override_name(before)] = None
    return Done(before.target, before, None)


def _new(session: Session, target: Target) -> RateLimitPolicy:
    row = RateLimitPolicy(key=target.key, scope=str(target.scope), active=True, description="", owner="", reason="")
    row.created_at = utcnow()
    missing = NotFound(f"There is no {target.scope.lower()} {target.reference}.")
    if target.scope is Scope.TIER:
        if session.get(Tier, target.reference) is None:
            raise missing
        row.tier_code = target.reference
    elif target.scope is Scope.TENANT:
        if session.get(Tenant, target.reference) is None:
            raise missing
        row.tenant_id = target.reference
    elif target.scope is Scope.AGENT:
        agent = session.get(Agent, target.reference)
        if agent is None:
            raise missing
        row.agent_id, row.tenant_id = agent.id, agent.tenant_id
    if target.scope is not Scope.GLOBAL and _find(session, Target(target.key)) is None:
        raise Invalid([FieldError("key", f"{target.key} has no limit for everyone yet", "create its policy first")])
    return row


def _publish(door: change.Door, key: str, made: _KeyChange) -> None:
    """Owe Redis the key's new state, in messages small enough for one script call each."""
    session = door.session
    names = list(made.overrides)
    base = base_document(session, key) if made.base and not made.removed else None
    for start in range(0, max(len(names), 1), CHUNK):
        if start:
            made.version += 1
        door.publish(
            ratelimit_wire.TOPIC, key,
            {
                "key": key, "version": made.version, "base": base if not start else None,
                "remove": made.removed and not start,
                "overrides": {name: made.overrides[name] for name in names[start : start + CHUNK]},
            },
        )  # fmt: skip
    session.execute(
        text("UPDATE rate_limit_keys SET version = :version WHERE key = :key"), {"version": made.version, "key": key}
    )


def tenant_subject(policy: Policy) -> str:
    """The limiter's name for whom a TENANT or AGENT policy is."""
    if policy.target.scope is Scope.AGENT:
        return subject(policy.tenant_id, policy.target.reference)
    return policy.target.reference


def timestamp(moment: datetime | None) -> float | None:
    """Unix seconds of a moment, to the second."""
    return None if moment is None else float(int(moment.astimezone(UTC).timestamp()))
