"""The words of the limiter: rules, what applies, and what was decided."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

KEY_PATTERN = re.compile(r"[a-z][a-z0-9_.\-]{0,63}")
DEFAULT_WINDOW_SECONDS = 3600
DEFAULT_WARN_PERCENT = 80
MAX_WINDOW_SECONDS = 31 * 86400
MAX_LIMIT = 10**12
MAX_COST = 10**9


class Mode(StrEnum):
    """What happens above the limit. A limit of 0 blocks in every mode."""

    HARD = "HARD"
    """Rejected."""
    SOFT = "SOFT"
    """Admitted, the overage counted separately, the tenant told."""
    WARN = "WARN"
    """Admitted, only admins told: a limit on trial."""


class Scope(StrEnum):
    """Whom a rule is for, narrowest first."""

    AGENT = "AGENT"
    TENANT = "TENANT"
    TIER = "TIER"
    GLOBAL = "GLOBAL"


class OnFailure(StrEnum):
    """What a decision is while Redis does not answer."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(slots=True, frozen=True)
class Rule:
    """One limit as the limiter needs it. None in the last four inherits from the next wider rule that says."""

    limit: int | None
    """Units per window; None is unlimited, 0 blocks everything."""
    window_seconds: int | None = None
    mode: Mode | None = None
    warn_percent: int | None = None
    on_failure: OnFailure | None = None
    active: bool = True
    expires_at: float | None = None
    """Unix seconds; the rule applies while the time is earlier."""

    def applies(self, now: float) -> bool:
        """Whether the rule is in force at ``now`` (Unix seconds)."""
        return self.active and (self.expires_at is None or now < self.expires_at)

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Rule:
        """A rule from its JSON form. Raises KeyError, ValueError or TypeError for one that is not a rule."""
        mode, failure, expires = document.get("policy"), document.get("on_redis_failure"), document.get("expires_at")
        active = document.get("active", True)
        if not isinstance(active, bool):
            raise TypeError(f"active is {active!r}, neither true nor false")
        if expires is not None and not math.isfinite(expires):
            raise ValueError(f"expires_at is {expires!r}, no moment")
        return cls(
            limit=_whole("limit", document["limit"], 0, MAX_LIMIT),
            window_seconds=_whole("window_seconds", document.get("window_seconds"), 1, MAX_WINDOW_SECONDS),
            mode=None if mode is None else Mode(mode),
            warn_percent=_whole("warn_percent", document.get("warn_percent"), 0, 1000),
            on_failure=None if failure is None else OnFailure(failure),
            active=active,
            expires_at=None if expires is None else float(expires),
        )

    def document(self) -> dict[str, Any]:
        """The JSON form, with what is inherited or ordinary left out."""
        found: dict[str, Any] = {"limit": self.limit}
        if self.window_seconds is not None:
            found["window_seconds"] = self.window_seconds
        if self.mode is not None:
            found["policy"] = str(self.mode)
        if self.warn_percent is not None:
            found["warn_percent"] = self.warn_percent
        if self.on_failure is not None:
            found["on_redis_failure"] = str(self.on_failure)
        if not self.active:
            found["active"] = False
        if self.expires_at is not None:
            found["expires_at"] = self.expires_at
        return found


def _whole(name: str, value: Any, least: int, most: int) -> int | None:
    if value is None:
        return None
    if not least <= int(value) <= most:
        raise ValueError(f"{name} is {value!r}, not {least} to {most}")
    return int(value)


@dataclass(slots=True)
class KeyPolicies:
    """Every rule of one key. Overrides are keyed by tenant, agents by ``tenant/agent`` (see keys.subject)."""

    base: Rule | None = None
    tiers: dict[str, Rule] = field(default_factory=dict)
    tenants: dict[str, Rule] = field(default_factory=dict)
    agents: dict[str, Rule] = field(default_factory=dict)

    def put(self, name: str, rule: Rule | None) -> None:
        """Set or remove the override called ``tenant:…`` or ``agent:…``. Raises ValueError for another name."""
        kind, _, reference = name.partition(":")
        if kind == "tenant":
            where = self.tenants
        elif kind == "agent":
            where = self.agents
        else:
            raise ValueError(f"{name} names no tenant and no agent")
        if rule is None:
            where.pop(reference, None)
        else:
            where[reference] = rule

    def keep(self, name: str, known: KeyPolicies) -> None:
        """Leave the override ``name`` as it was in ``known``, if it was there."""
        kind, _, reference = name.partition(":")
        for what, mine, theirs in (("tenant", self.tenants, known.tenants), ("agent", self.agents, known.agents)):
            if kind == what and reference in theirs:
                mine[reference] = theirs[reference]


def parse_base(text: str) -> tuple[Rule, dict[str, Rule]]:
    """The GLOBAL rule and the tiers' rules of a ``ratelimit:config:{key}`` document."""
    document = json.loads(text)
    tiers = {code: Rule.parse(rule) for code, rule in document.get("tiers", {}).items()}
    return Rule.parse(document), tiers


class Decision(NamedTuple):
    """The answer to one ``check``. Times are seconds from now; numbers are units of the key."""

    allowed: bool
    limit: int | None
    """None is unlimited."""
    used: int
    """The sliding-window estimate after this decision."""
    remaining: int | None
    """None where the limit is unlimited."""
    reset_after: float
    """Until the present window ends."""
    retry_after: float | None
    """0 when allowed; None when no wait would help: the cost exceeds the limit."""
    policy: Mode
    source: str
    """Which rule: "agent:…", "tenant:…", "tier:…", "global", "none", or "removed" (the tenant is)."""
    over_limit: bool
    """The use is above the limit; with SOFT and WARN the call was admitted nevertheless."""
    over: int = 0
    """How much of this call's cost lies above the limit (billable with SOFT)."""
    key: str = ""
    cost: int = 1
    window_seconds: int = DEFAULT_WINDOW_SECONDS
    warning: bool = False
    """The use is at or above the warning level."""
    degraded: bool = False
    """Decided without Redis, by the policy's ``on_redis_failure``."""
