"""The values rate limits are spoken of in: what a policy is for, what it says, what is wished and what was done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from limiter import Scope
from models import RateLimitPolicy
from operations.change import Outcome

FIELDS = (
    "limit", "window_seconds", "policy", "warn_percent", "on_redis_failure", "active", "expires_at", "description",
    "owner",
)  # fmt: skip
STORED = RateLimitPolicy.__table__
"""To be read as columns: an object that the session looks after costs ten times what a row does."""


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


def to_policy(row: RateLimitPolicy | Row[Any], name: str = "") -> Policy:
    """A row of STORED as a value."""
    reference = row.tier_code or row.agent_id or row.tenant_id or ""
    return Policy(
        Target(row.key, Scope(row.scope), reference), row.limit_value, row.window_seconds, row.policy,
        row.warn_percent, row.on_redis_failure, row.active, row.expires_at, row.description, row.reason, row.owner,
        row.tenant_id, row.version, row.created_at, row.updated_at, row.updated_by, name,
    )  # fmt: skip
