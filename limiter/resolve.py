"""Which rule applies: agent beats tenant beats tier beats global.

The limiter decides by this function and the console explains by it; there is no second implementation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from limiter.keys import REMOVED, subject
from limiter.model import (
    DEFAULT_WARN_PERCENT,
    DEFAULT_WINDOW_SECONDS,
    KeyPolicies,
    Mode,
    OnFailure,
    Rule,
    Scope,
)

FOREVER = float("inf")


@dataclass(slots=True, frozen=True)
class Candidate:
    """A rule that could apply to a subject, and whether it does."""

    scope: Scope
    reference: str
    """The agent's subject, the tenant, the tier's code, or ""."""
    rule: Rule
    applies: bool

    @property
    def source(self) -> str:
        """As a Decision names it."""
        return f"{self.scope.lower()}:{self.reference}" if self.reference else "global"


@dataclass(slots=True, frozen=True)
class Effective:
    """The limit of one subject between two moments."""

    limit: int | None
    window_seconds: int
    mode: Mode
    warn_percent: int
    on_failure: OnFailure
    source: str
    subject: str
    """Whose counter: the agent's for a rule of its own, else the tenant's."""
    valid_from: float
    valid_until: float
    """Unix seconds of the server between which nothing expires that would change this."""
    chain: tuple[Candidate, ...]
    """Every rule that could apply, narrowest first."""


def candidates(
    policies: KeyPolicies, tenant: str | None, agent: str | None, tier: str | None, now: float
) -> tuple[Candidate, ...]:
    """Every rule that could apply, narrowest first, each with whether it is in force at ``now`` (Unix seconds)."""
    found: list[Candidate] = []
    if agent is not None and (own := policies.agents.get(subject(tenant, agent))) is not None:
        found.append(Candidate(Scope.AGENT, subject(tenant, agent), own, own.applies(now)))
    if tenant is not None and (theirs := policies.tenants.get(tenant)) is not None:
        found.append(Candidate(Scope.TENANT, tenant, theirs, theirs.applies(now)))
    if tier is not None and (tiers := policies.tiers.get(tier)) is not None:
        found.append(Candidate(Scope.TIER, tier, tiers, tiers.applies(now)))
    if policies.base is not None:
        found.append(Candidate(Scope.GLOBAL, "", policies.base, policies.base.applies(now)))
    return tuple(found)


def resolve(policies: KeyPolicies, tenant: str | None, agent: str | None, tier: str | None, now: float) -> Effective:
    """The limit in force for a subject at ``now`` (Unix seconds by the Redis server's clock).

    The narrowest rule in force wins. What it leaves open (window, mode, warning level, behaviour without Redis)
    comes from the next wider rule in force that says, at last from the GLOBAL rule even when that is inactive.
    No rule in force: unlimited, source "none". The tier REMOVED: a limit of 0, source "removed".
    """
    if tier == REMOVED:
        return replace(
            resolve(policies, tenant, agent, None, now), limit=0, mode=Mode.HARD, on_failure=OnFailure.DENY,
            source="removed", subject=subject(tenant, None), valid_from=0.0, valid_until=FOREVER,
        )  # fmt: skip
    chain = candidates(policies, tenant, agent, tier, now)
    in_force = [c for c in chain if c.applies]
    winner = in_force[0] if in_force else None
    inherited = [c.rule for c in in_force]
    if policies.base is not None:
        inherited.append(policies.base)
    # The ends of wider rules count too: they may lend the winner its window or mode.
    ends = [c.rule.expires_at for c in in_force if c.rule.expires_at is not None]
    passed = [c.rule.expires_at for c in chain if c.rule.active and c.rule.expires_at is not None and not c.applies]
    who = subject(tenant, agent if winner is not None and winner.scope is Scope.AGENT else None)
    return Effective(
        limit=winner.rule.limit if winner is not None else None,
        window_seconds=next((r.window_seconds for r in inherited if r.window_seconds), DEFAULT_WINDOW_SECONDS),
        mode=next((r.mode for r in inherited if r.mode is not None), Mode.HARD),
        warn_percent=next((r.warn_percent for r in inherited if r.warn_percent is not None), DEFAULT_WARN_PERCENT),
        on_failure=next((r.on_failure for r in inherited if r.on_failure is not None), OnFailure.ALLOW),
        source=winner.source if winner is not None else "none",
        subject=who,
        valid_from=max(passed, default=0.0),
        valid_until=min(ends, default=FOREVER),
        chain=chain,
    )
