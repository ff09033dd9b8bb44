"""The values rate limits are spoken of in: what a policy is for, what it says, what is wished and what was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from limiter import Scope
from models import RateLimitPolicy
from operations.change import Outcome

FIELDS = (
    "limit", "window_seconds", "policy", "warn_percent", "on_redis_failure", "active", "expires_at", "description",
    "owner",
)  # fmt: skip
STORED = RateLimitPolicy.__table__
"""To be read as columns: an object that the session looks after costs ten times what a row does."""
_COLUMNS = tuple(column.name for column in STORED.c)
_SCOPES = {str(scope): scope for scope in Scope}


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
class Under:
    """What lies under a key's GLOBAL policy: how many tier limits and overrides, and the newest version among them."""

    count: int = 0
    newest: int = 0


@dataclass(frozen=True, slots=True)
class Edit:
    """One wish: create, change or delete one policy.

    ``seen`` is the version the person saw: 0 for "there was none", None for "whatever is there".
    ``values`` are the fields to set (others keep their value), or None to delete.
    """

    target: Target
    values: Mapping[str, Any] | None
    seen: int | None = None
    under: Under | None = None
    """Of a key to delete: the overrides the person saw going with it; None for "whatever is there"."""


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


def to_policy(row: RateLimitPolicy | Sequence[Any], name: str = "") -> Policy:
    """A row as a value; one that was read begins with the columns of STORED, in their order."""
    if isinstance(row, RateLimitPolicy):
        row = [getattr(row, column) for column in _COLUMNS]
    # By place: thousands are read at a time, and names would cost more than everything else.
    (
        _, key, scope, tier, tenant, agent, limit, window, policy, warn, failure, active, expires, description, reason,
        owner, version, created, updated, by,
    ) = row[: len(_COLUMNS)]  # fmt: skip
    return Policy(
        Target(key, _SCOPES[scope], tier or agent or tenant or ""), limit, window, policy, warn, failure, active,
        expires, description, reason, owner, tenant, version, created, updated, by, name,
    )  # fmt: skip
