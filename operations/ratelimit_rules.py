"""What a policy may say, and how it is written down for Redis and for the audit."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from limiter import KeyPolicies, Mode, OnFailure, Rule, Scope
from limiter.keys import subject
from limiter.model import DEFAULT_WARN_PERCENT, KEY_PATTERN, MAX_LIMIT, MAX_WINDOW_SECONDS
from models import RateLimitPolicy
from operations.change import FieldError, Invalid, clean
from operations.ratelimit_values import FIELDS, STORED, Edit, Policy, to_policy

RESERVED = frozenset({"signals"})
"""Names that mean something else where a key stands in the API's addresses."""
_TEXT = {"description": 500, "owner": 200}
_UNITS = {"second": 1, "sec": 1, "s": 1, "minute": 60, "min": 60, "m": 60, "hour": 3600, "h": 3600, "day": 86400,
          "d": 86400, "week": 604800, "w": 604800}  # fmt: skip
_WINDOW = re.compile(r"(\d+)\s*([a-z]*)")
LIMIT_RANGE = f"0 (blocks everything) to {MAX_LIMIT}, or unlimited"
WINDOW_RANGE = f"1 second to {MAX_WINDOW_SECONDS // 86400} days"


def window_text(seconds: int | None) -> str:
    """Seconds in words: "1 hour", "24 hours", "90 seconds"; "" for None."""
    if seconds is None:
        return ""
    for name, size in (("hour", 3600), ("minute", 60)):
        if seconds % size == 0 and (size == 60 or seconds <= 172_800 or seconds % 86400):
            return f"{seconds // size} {name}{'' if seconds == size else 's'}"
        if name == "hour" and seconds % 86400 == 0:
            return f"{seconds // 86400} days"
    return f"{seconds} second{'' if seconds == 1 else 's'}"


def parse_window(words: str | int) -> int:
    """Seconds from "1 hour", "24 hours", "1h", "3600". Raises ValueError saying what is allowed."""
    found = _WINDOW.fullmatch(str(words).strip().lower())
    unit = found.group(2) if found else ""
    size = _UNITS.get(unit) or _UNITS.get(unit.removesuffix("s")) if unit else 1
    if found is None or size is None:
        raise ValueError("is no length of time; write “1 hour”, “24 hours” or seconds")
    return int(found.group(1)) * size


def validate(edit: Edit) -> dict[str, Any]:
    """The values of an edit, typed. Raises Invalid naming every bad field and what is allowed."""
    errors: list[FieldError] = []
    target, given = edit.target, dict(edit.values or {})
    values: dict[str, Any] = {}
    if not KEY_PATTERN.fullmatch(target.key):
        errors.append(FieldError("key", "is not a name", "a-z first, then a-z 0-9 . _ -, at most 64"))
    elif target.scope is Scope.GLOBAL and target.key in RESERVED:
        errors.append(FieldError("key", "is reserved", f"another name than {', '.join(sorted(RESERVED))}"))
    if clean(target.reference) != target.reference:
        errors.append(FieldError(target.scope.lower(), "is not a name", "the id of one that exists"))
    if (target.scope is Scope.GLOBAL) == bool(target.reference):
        errors.append(FieldError("scope", "does not match its reference", "GLOBAL alone has none"))
    for name, value in given.items():
        try:
            values[name] = _field(name, value, target.scope)
        except ValueError as error:
            words, _, allowed = str(error).partition(" | ")
            errors.append(FieldError(name, words, allowed))
    if edit.seen == 0 and "limit" not in given:
        errors.append(FieldError("limit", "is missing", LIMIT_RANGE))
    if errors:
        raise Invalid(errors)
    return values


def _whole(value: Any, low: int, high: int, allowed: str) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"is not a whole number | {allowed}")
    if not low <= value <= high:
        raise ValueError(f"is out of range | {allowed}")
    return value


def _field(name: str, value: Any, scope: Scope) -> Any:
    if name == "limit":
        return None if value is None else _whole(value, 0, MAX_LIMIT, LIMIT_RANGE)
    if name in _TEXT:
        words = clean(str(value or "")).strip()
        if len(words) > _TEXT[name]:
            raise ValueError(f"is too long | at most {_TEXT[name]} characters")
        return words
    if name == "active":
        if not isinstance(value, bool):
            raise ValueError("is neither true nor false | true or false")
        return value
    if name == "expires_at":
        if value is None or (isinstance(value, datetime) and value.tzinfo is not None):
            if value is not None and scope is Scope.GLOBAL:
                raise ValueError("cannot be set for everyone's limit | only overrides expire")
            return value
        raise ValueError("is not a moment with its time zone | such as 2030-01-31T12:00:00Z")
    if name not in FIELDS:
        raise ValueError("is not known | " + ", ".join(FIELDS))
    if value is None:
        if scope is Scope.GLOBAL:
            raise ValueError("is needed: nothing wider to inherit from | a value")
        return None
    if name == "window_seconds":
        seconds = parse_window(value) if isinstance(value, str) else value
        return _whole(seconds, 1, MAX_WINDOW_SECONDS, WINDOW_RANGE)
    if name == "warn_percent":
        return _whole(value, 1, 100, "1 to 100 %")
    allowed = [str(one) for one in (Mode if name == "policy" else OnFailure)]
    chosen = str(value).upper() if name == "policy" else str(value).lower()
    if chosen not in allowed:
        raise ValueError(f"is not one of them | {', '.join(allowed)}")
    return chosen


def complete(policy: Policy) -> Policy:
    """A GLOBAL policy with the values it must have and nobody chose."""
    return replace(
        policy, window_seconds=policy.window_seconds or 3600, policy=policy.policy or str(Mode.HARD),
        warn_percent=policy.warn_percent or DEFAULT_WARN_PERCENT,
        on_redis_failure=policy.on_redis_failure or str(OnFailure.ALLOW),
    )  # fmt: skip


def plain_values(policy: Policy | None) -> dict[str, Any] | None:
    """A policy for the audit: editable fields and version."""
    if policy is None:
        return None
    values = policy.values()
    if policy.expires_at is not None:
        values["expires_at"] = policy.expires_at.astimezone(UTC).isoformat()
    return {**values, "version": policy.version}


def rule_of(policy: Policy | RateLimitPolicy) -> Rule:
    """What the limiter obeys of a policy."""
    limit = policy.limit if isinstance(policy, Policy) else policy.limit_value
    expires = policy.expires_at
    return Rule(
        limit, policy.window_seconds, None if policy.policy is None else Mode(policy.policy), policy.warn_percent,
        None if policy.on_redis_failure is None else OnFailure(policy.on_redis_failure), policy.active,
        None if expires is None else float(int(expires.timestamp())),
    )  # fmt: skip


def place(table: KeyPolicies, policy: Policy | RateLimitPolicy) -> None:
    """Put a policy where the limiter would have it."""
    if isinstance(policy, RateLimitPolicy):
        policy = to_policy(policy)
    target = policy.target
    if target.scope is Scope.GLOBAL:
        table.base = rule_of(policy)
    elif target.scope is Scope.TIER:
        table.tiers[target.reference] = rule_of(policy)
    elif target.scope is Scope.TENANT:
        table.tenants[target.reference] = rule_of(policy)
    else:
        table.agents[subject(policy.tenant_id, target.reference)] = rule_of(policy)


def override_name(policy: Policy | RateLimitPolicy) -> str:
    """The name of a TENANT or AGENT policy in ``ratelimit:overrides:…``."""
    if isinstance(policy, Policy):
        agent = policy.target.reference if policy.target.scope is Scope.AGENT else None
    else:
        agent = policy.agent_id
    return f"agent:{subject(policy.tenant_id, agent)}" if agent else f"tenant:{policy.tenant_id}"


def override_document(policy: Policy | RateLimitPolicy) -> dict[str, Any]:
    """A TENANT or AGENT policy as Redis carries it."""
    return rule_of(policy).document()


def base_document(session: Session, key: str) -> dict[str, Any] | None:
    """``base_of`` a key as it is stored."""
    query = select(STORED).where(STORED.c.key == key, STORED.c.scope.in_(("GLOBAL", "TIER")))
    return base_of(key, map(to_policy, session.execute(query)))


def base_of(key: str, policies: Iterable[Policy]) -> dict[str, Any] | None:
    """``ratelimit:config:{key}``: the GLOBAL policy with the tiers', or None where there is no GLOBAL one."""
    document: dict[str, Any] | None = None
    tiers: dict[str, Any] = {}
    for one in policies:
        if one.target.scope is Scope.GLOBAL:
            document = {"key": key, "applies_to": "GLOBAL", **rule_of(one).document(), "description": one.description}
        elif one.target.scope is Scope.TIER:
            tiers[one.target.reference] = rule_of(one).document()
    return None if document is None else {**document, "tiers": dict(sorted(tiers.items()))}
