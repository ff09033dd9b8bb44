"""What workflow settings may say, and how a type's own values and the defaults come together."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from operations.change import FieldError, Invalid
from operations.workflow_catalogue import OFFBOARDING

DEFAULT = "default"
"""The row that says every field, inherited by all types."""
TYPE = "type"

NO_PLACE = frozenset({OFFBOARDING})
"""Types whose runs wait for weeks for people: they take no place, so their maximum has no effect."""
TYPE_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/ -]{0,199}")
TYPE_RANGE = "a letter or digit first, then letters, digits, spaces and _ . : / -, at most 200"


@dataclass(frozen=True, slots=True)
class Range:
    """One field's limits, both included."""

    low: int
    high: int
    allowed: str
    """In words."""
    whole: bool = True


FIELDS: dict[str, Range] = {
    "timeout_seconds": Range(1, 31_536_000, "1 to 31,536,000 seconds (365 days)"),
    "retry_attempts": Range(1, 100, "1 to 100, the first attempt included"),
    "backoff_multiplier": Range(1, 10, "1 to 10", whole=False),
    "max_concurrent": Range(0, 10_000, "0 (new runs wait) to 10,000"),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What runs of a type get: the type's own value where it has one, the default's elsewhere."""

    type: str
    timeout_seconds: int
    retry_attempts: int
    backoff_multiplier: float
    max_concurrent: int
    version: int = 0
    """Of the type's own row; 0 where it has none."""
    default_version: int = 0
    sources: dict[str, str] = field(default_factory=dict)
    """Field to "type" or "default"."""

    @property
    def timeout(self) -> timedelta:
        """How long a run may take, waiting for its place not counted."""
        return timedelta(seconds=self.timeout_seconds)

    def values(self) -> dict[str, Any]:
        """The four fields."""
        return {name: getattr(self, name) for name in FIELDS}


FALLBACK = Settings(DEFAULT, 300, 3, 2.0, 100, sources=dict.fromkeys(FIELDS, DEFAULT))
"""What the tables are made with."""


def resolve(type_: str, own: Mapping[str, Any] | None, default: Mapping[str, Any] | None) -> Settings:
    """Put a type's document over the default's. A field that neither says is as the tables were made."""
    own, default = own or {}, default or {}
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name in FIELDS:
        mine = type_ != DEFAULT and own.get(name) is not None
        value = own[name] if mine else default.get(name)
        values[name] = getattr(FALLBACK, name) if value is None else value
        sources[name] = TYPE if mine else DEFAULT
    version = int(own.get("version") or 0)
    if type_ == DEFAULT:
        version = int(default.get("version") or 0)
    return Settings(type_, **values, version=version, default_version=int(default.get("version") or 0), sources=sources)


def validate(type_: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The values to set, typed; None inherits. Raises Invalid naming every bad field and what is allowed."""
    errors: list[FieldError] = []
    if not TYPE_PATTERN.fullmatch(type_):
        errors.append(FieldError("type", "is no name of a workflow type", TYPE_RANGE))
    values: dict[str, Any] = {}
    for name, value in given.items():
        try:
            values[name] = _field(type_, name, value)
        except ValueError as error:
            words, _, allowed = str(error).partition(" | ")
            errors.append(FieldError(name, words, allowed))
    if errors:
        raise Invalid(errors)
    return values


def _field(type_: str, name: str, value: Any) -> Any:
    if name not in FIELDS:
        raise ValueError("is not known | " + ", ".join(FIELDS))
    limits = FIELDS[name]
    if value is None:
        if type_ == DEFAULT:
            raise ValueError(f"is needed: there is nothing to inherit from | {limits.allowed}")
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"is not a number | {limits.allowed}")
    if limits.whole:
        if not float(value).is_integer():
            raise ValueError(f"is not a whole number | {limits.allowed}")
        value = int(value)
    else:
        value = float(value)
    if not limits.low <= value <= limits.high:
        raise ValueError(f"is out of range | {limits.allowed}")
    return value
