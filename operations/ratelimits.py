"""Rate-limit policies: reading them and changing them, all or nothing, through the one door."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import and_, func, or_, select, text
from sqlalchemy.orm import Session

from limiter import Scope
from limiter.model import KEY_PATTERN
from models import Agent, RateLimitKey, Tenant, Tier
from operations import access, change, ratelimit_rules, ratelimit_store, ratelimit_wire
from operations.access import Actor, Permission
from operations.change import Conflict, FieldError, Invalid, NotFound
from operations.platform import Platform
from operations.ratelimit_rules import base_of, override_document, override_name
from operations.ratelimit_store import Rows
from operations.ratelimit_values import STORED, Done, Edit, Listing, Policy, Saved, Target, Under, to_policy

__all__ = [
    "EDITS_LIMIT",
    "PAGE_LIMIT",
    "Done",
    "Edit",
    "Listing",
    "Policy",
    "Saved",
    "Target",
    "Under",
    "clear_tenant",
    "get",
    "hold_all",
    "listing",
    "matrix",
    "policies",
    "save",
    "to_policy",
    "under",
]

PAGE_LIMIT = 200
EDITS_LIMIT = 20_000
FEW = 50
BULK_SECONDS = 60.0
"""What more than a few edits may take, and deleting a key with everything under it."""
CHUNK = 500
"""Overrides per message to Redis: one script call stays in the low milliseconds."""


@dataclass(slots=True)
class _KeyChange:
    version: int
    reserved: int
    """The version its row has already."""
    base: bool = False
    removed: bool = False
    overrides: dict[str, dict[str, Any] | None] = field(default_factory=dict)


_NAMED = (
    STORED.outerjoin(Tenant, Tenant.id == STORED.c.tenant_id)
    .outerjoin(Agent, Agent.id == STORED.c.agent_id)
    .outerjoin(Tier, Tier.code == STORED.c.tier_code)
)
_NAME = func.coalesce(Agent.name, Tenant.name, Tier.name, "")
_LISTED = (
    select(STORED, _NAME.label("name"), func.count().over().label("total"))
    .select_from(_NAMED)
    .order_by(
        func.coalesce(STORED.c.expires_at < func.now(), False), STORED.c.expires_at.asc().nulls_last(),
        STORED.c.key, STORED.c.scope, _NAME, STORED.c.id,
    )
)  # fmt: skip
_EVERYONES = select(STORED).where(STORED.c.scope == str(Scope.GLOBAL)).order_by(STORED.c.key).limit(1000)
_TIERS = (
    select(STORED, Tier.code.label("tier"), Tier.name.label("tier_name"))
    .outerjoin(STORED, and_(STORED.c.tier_code == Tier.code, STORED.c.scope == str(Scope.TIER)))
    .order_by(Tier.rank)
    .limit(10_000)
)


def policies(platform: Platform, actor: Actor) -> list[Policy]:
    """The GLOBAL policy of every key, by key. Raises access.Forbidden."""
    access.require(actor, Permission.RATELIMIT_VIEW)
    with platform.database.reading() as connection:
        return [to_policy(row) for row in connection.execute(_EVERYONES)]


def get(platform: Platform, actor: Actor, target: Target) -> Policy:
    """One policy. Raises access.Forbidden and change.NotFound."""
    access.require(actor, Permission.RATELIMIT_VIEW)
    with platform.database.reading() as connection:
        found = ratelimit_store.read(connection, [target]).get(target)
    if found is None:
        raise NotFound(f"There is no limit {target.subject.removeprefix('ratelimit/')}.")
    return found


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
    p = STORED.c
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
    page = _LISTED.where(*where).limit(max(1, min(limit, PAGE_LIMIT))).offset(max(0, offset))
    with platform.database.reading() as connection:
        rows = connection.execute(page).all()
        total: int | None = rows[0].total if rows else 0
        if not rows and offset > 0:
            total = connection.scalar(select(func.count()).select_from(_NAMED).where(*where))
    return Listing(tuple(to_policy(row, row.name) for row in rows), total or 0)


def matrix(platform: Platform, actor: Actor) -> tuple[list[tuple[str, str]], dict[tuple[str, str], Policy]]:
    """Tiers (code, name) by rank, and the TIER policies by (tier, key). Raises access.Forbidden."""
    access.require(actor, Permission.RATELIMIT_VIEW)
    with platform.database.reading() as connection:
        rows = connection.execute(_TIERS).all()
    tiers = dict.fromkeys((row.tier, row.tier_name) for row in rows)
    return list(tiers), {(row.tier, row.key): to_policy(row) for row in rows if row.id is not None}


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
    for edit, values in wishes:
        if values is None and not KEY_PATTERN.fullmatch(edit.target.key):
            raise NotFound(f"There is no limit {change.clean(edit.target.subject).removeprefix('ratelimit/')}.")
    name = edits[0].target.subject if len(edits) == 1 else f"ratelimit/{len(edits)} policies"
    many = len(edits) > FEW or any(edit.values is None and edit.target.scope is Scope.GLOBAL for edit in edits)
    with change.door(
        platform, actor, Permission.RATELIMIT_EDIT, action=action, subject=name, reason=reason, request_id=request_id,
        seconds=BULK_SECONDS if many else None,
    ) as door:  # fmt: skip
        rows = Rows(door.session, edits)
        changes = {key: _KeyChange(*versions) for key, versions in rows.versions.items()}
        done: list[Done] = []
        for edit, values in wishes:
            done += _perform(door, rows, edit, values, changes[edit.target.key])
        rows.write()
        bases = rows.bases()
        for key, made in changes.items():
            _publish(door, key, made, bases[key])
        door.version = max(made.version for made in changes.values())
    return Saved(tuple(done), door.outcome)


def hold_all(session: Session) -> None:
    """Hold every key, for a change that finds out only then which it is about. Before any tenant's row is locked."""
    session.execute(select(RateLimitKey.key).order_by(RateLimitKey.key).with_for_update())


def clear_tenant(door: change.Door, tenant: str) -> int:
    """Delete the limits of a tenant's own and of its agents, as a part of another change; how many. Under ``hold_all``.

    Leaves ``door.version`` as it is: it is that other change's.
    """
    owned = select(STORED).where(STORED.c.tenant_id == tenant).order_by(STORED.c.key)
    edits = [Edit(to_policy(row).target, None) for row in door.session.execute(owned)]
    rows = Rows(door.session, edits)
    changes = {key: _KeyChange(*versions) for key, versions in rows.versions.items()}
    for edit in edits:
        _perform(door, rows, edit, None, changes[edit.target.key])
    rows.write()
    for key, made in changes.items():
        _publish(door, key, made, [])
    return len(edits)


def under(platform: Platform, actor: Actor, keys: Iterable[str]) -> dict[str, Under]:
    """What lies under each key: what deleting it would take with it. Raises access.Forbidden, StoreUnavailable."""
    access.require(actor, Permission.RATELIMIT_VIEW)
    p = STORED.c
    wanted = list(dict.fromkeys(keys))
    query = select(p.key, func.count(), func.max(p.version)).where(p.key.in_(wanted), p.scope != str(Scope.GLOBAL))
    with platform.database.reading() as connection:
        found = {key: Under(count, newest) for key, count, newest in connection.execute(query.group_by(p.key))}
    return {key: found.get(key, Under()) for key in wanted}


def _perform(door: change.Door, rows: Rows, edit: Edit, values: dict[str, Any] | None, made: _KeyChange) -> list[Done]:
    target = edit.target
    before = rows.now.get(target)
    if before is None and values is None:
        raise NotFound(f"There is no limit {target.subject.removeprefix('ratelimit/')}.")
    if edit.seen is not None and edit.seen != (before.version if before else 0):
        raise Conflict(
            ratelimit_rules.plain_values(before), None if edit.values is None else {**edit.values, "of": target.subject}
        )
    if before is not None and values is None:
        gone = [before]
        if target.scope is Scope.GLOBAL:
            below = rows.under(target.key)
            now = ratelimit_store.under(below).get(target.key, Under())
            if edit.under is not None and edit.under != now:
                raise Conflict(
                    {**(ratelimit_rules.plain_values(before) or {}), "overrides": now.count},
                    {"overrides": edit.under.count},
                )
            gone += below
        return [_delete(door, rows, one, made) for one in gone]
    assert values is not None
    made.version += 1
    after = rows.put(target, values, version=made.version, by=door.actor.name, reason=door.reason)
    door.audit(ratelimit_rules.plain_values(before), ratelimit_rules.plain_values(after), target.subject)
    if target.scope in (Scope.GLOBAL, Scope.TIER):
        made.base = True
        made.removed = made.removed and target.scope is not Scope.GLOBAL
    else:
        made.overrides[override_name(after)] = override_document(after)
    return [Done(target, before, after)]


def _delete(door: change.Door, rows: Rows, before: Policy, made: _KeyChange) -> Done:
    del rows.now[before.target]
    made.version += 1
    door.audit(ratelimit_rules.plain_values(before), None, before.target.subject)
    if before.target.scope is Scope.GLOBAL:
        made.removed = True
    elif before.target.scope is Scope.TIER:
        made.base = True
    else:
        made.overrides[override_name(before)] = None
    return Done(before.target, before, None)


def _publish(door: change.Door, key: str, made: _KeyChange, wide: Iterable[Policy]) -> None:
    """Owe Redis the key's new state, in messages small enough for one script call each."""
    names = list(made.overrides)
    base = base_of(key, wide) if made.base and not made.removed else None
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
    if made.version != made.reserved:
        door.session.execute(
            text("UPDATE rate_limit_keys SET version = :version WHERE key = :key"),
            {"version": made.version, "key": key},
        )
