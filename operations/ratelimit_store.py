"""Policies read, changed in memory and written back in sets: ten thousand cost a few dozen statements."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Row, Table, bindparam, delete, insert, select, update
from sqlalchemy.orm import Session

from adapters.core import utcnow
from limiter import Scope
from models import Agent, Tenant, Tier
from operations import ratelimit_rules
from operations.change import FieldError, Invalid, NotFound, clean
from operations.database import together
from operations.ratelimit_values import FIELDS, STORED, Edit, Policy, Target, Under, to_policy

T = TypeVar("T")
CHUNK = 1000
"""Rows per statement: each ends within a moment, however many there are."""
_REFERENCE = {
    Scope.TIER: STORED.c.tier_code,
    Scope.TENANT: STORED.c.tenant_id,
    Scope.AGENT: STORED.c.agent_id,
}
_TABLE = cast("Table", STORED)
_CHANGING = [
    *("limit_value" if name == "limit" else name for name in FIELDS), "reason", "version", "updated_at", "updated_by",
]  # fmt: skip
"""Columns that an edit can change."""
_CHANGE = (
    update(_TABLE).where(_TABLE.c.id == bindparam("row")).values({name: bindparam(f"new_{name}") for name in _CHANGING})
)
_HOLD = (
    "INSERT INTO rate_limit_keys AS known (key, version) SELECT * FROM unnest(%(keys)s::text[], %(edits)s::bigint[])"
    " ON CONFLICT (key) DO UPDATE SET version = known.version + excluded.version RETURNING key, version"
)
_WIDE = (
    f"SELECT {', '.join(STORED.c.keys())} FROM rate_limit_policies"  # noqa: S608  its own columns, in their order
    " WHERE (key = ANY(%(keys)s::text[]) AND scope = 'GLOBAL') OR (key = ANY(%(tiers)s::text[]) AND scope = 'TIER')"
)


def read(session: Session | Connection, targets: Iterable[Target]) -> dict[Target, Policy]:
    """The policies of these targets; those that do not exist are left out."""
    return {policy.target: policy for policy in map(to_policy, _rows(session, targets))}


def _rows(session: Session | Connection, targets: Iterable[Target]) -> Iterator[Row[Any]]:
    wanted: dict[tuple[str, Scope], list[str]] = defaultdict(list)
    for target in dict.fromkeys(targets):
        if storable(target.key, target.reference):
            wanted[target.key, target.scope].append(target.reference)
    for (key, scope), references in wanted.items():
        column = _REFERENCE.get(scope)
        query = select(STORED).where(STORED.c.key == key, STORED.c.scope == str(scope))
        for chunk in chunks(references):
            yield from session.execute(query if column is None else query.where(column.in_(chunk)))


def storable(*names: str | None) -> bool:
    """Whether PostgreSQL can hold these names at all; what it cannot hold, it does not have."""
    return all(name is None or clean(name) == name for name in names)


def chunks(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """The rows, so many at a time as one statement takes."""
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]


def under(policies: Iterable[Policy]) -> dict[str, Under]:
    """By key, what lies under its GLOBAL policy."""
    found: dict[str, Under] = defaultdict(Under)
    for policy in policies:
        if policy.target.scope is not Scope.GLOBAL:
            seen = found[policy.target.key]
            found[policy.target.key] = Under(seen.count + 1, max(seen.newest, policy.version))
    return found


class Rows:
    """The policies a change is about, as they become, with their keys held.

    ``versions`` are each key's before the change, and the one its row has from now on: one more for each edit, so that
    it seldom needs to be written again.
    """

    def __init__(self, session: Session, edits: Sequence[Edit]) -> None:
        self._session = session
        whole = {edit.target.key for edit in edits if edit.values is None and edit.target.scope is Scope.GLOBAL}
        narrow = [edit.target for edit in edits if edit.target.scope in (Scope.TENANT, Scope.AGENT)]
        tiers = {edit.target.key for edit in edits if edit.target.scope in (Scope.GLOBAL, Scope.TIER)}
        counts = dict(sorted(Counter(edit.target.key for edit in edits).items()))  # in one order for everybody
        held, rows = together(
            session,
            (_HOLD, {"keys": list(counts), "edits": list(counts.values())}),
            (_WIDE, {"keys": list(counts), "tiers": list(tiers)}),
        )
        self.versions = {key: (version - counts[key], version) for key, version in held}
        rows += _rows(session, narrow)
        for key in whole:
            rows += session.execute(select(STORED).where(STORED.c.key == key).order_by(STORED.c.id))
        stored = [(to_policy(row), row[0]) for row in rows]
        self._was = {policy.target: policy for policy, _ in stored}
        self._ids = {policy.target: identity for policy, identity in stored}
        self.now = dict(self._was)
        self._known = self._references(
            [edit.target for edit in edits if edit.values is not None and edit.target not in self.now]
        )

    def _references(self, targets: Sequence[Target]) -> dict[Scope, dict[str, str]]:
        """Which of the tiers, tenants and agents exist: by reference whose they are. They cannot go until commit."""
        known: dict[Scope, dict[str, str]] = {Scope.TIER: {}, Scope.TENANT: {}, Scope.AGENT: {}}
        wanted = {scope: sorted({target.reference for target in targets if target.scope is scope}) for scope in known}
        if wanted[Scope.TIER]:
            known[Scope.TIER] = {code: code for code in self._session.scalars(select(Tier.code))}
        for chunk in chunks(wanted[Scope.TENANT]):
            query = select(Tenant.id).where(Tenant.id.in_(chunk)).order_by(Tenant.id)
            known[Scope.TENANT] |= {one: one for one in self._session.scalars(_kept(query))}
        for chunk in chunks(wanted[Scope.AGENT]):
            agents = select(Agent.id, Agent.tenant_id).where(Agent.id.in_(chunk)).order_by(Agent.id)
            known[Scope.AGENT] |= {row.id: row.tenant_id for row in self._session.execute(_kept(agents))}
        return known

    def bases(self) -> dict[str, list[Policy]]:
        """The GLOBAL and TIER policies by key; all of them where one was among the edits."""
        found: dict[str, list[Policy]] = defaultdict(list)
        for target, policy in self.now.items():
            if target.scope in (Scope.GLOBAL, Scope.TIER):
                found[target.key].append(policy)
        return found

    def under(self, key: str) -> list[Policy]:
        """The tier limits and overrides of a key that is deleted as a whole."""
        return [policy for target, policy in self.now.items() if target.key == key and target.scope is not Scope.GLOBAL]

    def put(self, target: Target, values: dict[str, Any], *, version: int, by: str, reason: str) -> Policy:
        """Create or change one. Raises NotFound (no such tier, tenant, agent) and Invalid (no limit for everyone)."""
        present = self.now.get(target) or self._new(target)
        policy = replace(present, **values)
        if target.scope is Scope.GLOBAL:
            policy = ratelimit_rules.complete(policy)
        policy = replace(policy, version=version, updated_at=utcnow(), updated_by=by, reason=reason)
        self.now[target] = policy
        return policy

    def _new(self, target: Target) -> Policy:
        tenant = None
        if target.scope is not Scope.GLOBAL:
            owner = self._known[target.scope].get(target.reference)
            if owner is None:
                raise NotFound(f"There is no {target.scope.lower()} {target.reference}.")
            tenant = None if target.scope is Scope.TIER else owner
            if Target(target.key) not in self.now:
                raise Invalid(
                    [FieldError("key", f"{target.key} has no limit for everyone yet", "create its policy first")]
                )
        at = utcnow()
        return Policy(target, None, None, None, None, None, True, None, "", "", "", tenant, 0, at, at, "")

    def write(self) -> None:
        """Bring the tables to ``now``, in sets."""
        session, was, now = self._session, self._was, self.now
        gone = [self._ids[target] for target in was if target not in now]
        changed = [
            {"row": self._ids[target], **{f"new_{name}": value for name, value in _changing(policy).items()}}
            for target, policy in now.items()
            if target in was and policy is not was[target]
        ]
        new = [_columns(policy) for target, policy in now.items() if target not in was]
        for ids in chunks(gone):
            session.execute(delete(_TABLE).where(_TABLE.c.id.in_(ids)))
        for rows in chunks(changed):
            session.execute(_CHANGE, list(rows))
        for rows in chunks(new):
            session.execute(insert(_TABLE), list(rows))


def _kept(query: Any) -> Any:
    return query.with_for_update(read=True, key_share=True)


def _changing(policy: Policy) -> dict[str, Any]:
    values = policy.values()
    return {
        "limit_value": values.pop("limit"), **values, "reason": policy.reason, "version": policy.version,
        "updated_at": policy.updated_at, "updated_by": policy.updated_by,
    }  # fmt: skip


def _columns(policy: Policy) -> dict[str, Any]:
    target = policy.target
    return {
        **_changing(policy), "key": target.key, "scope": str(target.scope), "tenant_id": policy.tenant_id,
        "tier_code": target.reference if target.scope is Scope.TIER else None,
        "agent_id": target.reference if target.scope is Scope.AGENT else None, "created_at": policy.created_at,
    }  # fmt: skip
