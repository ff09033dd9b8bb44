"""How values look on the wire: plain JSON, times in UTC, money in integer cents with its currency."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from enum import Enum
from typing import Any

from pydantic import BaseModel, SecretStr

from adapters.core import Health, Metric, Service
from operations.health import Overview, ServiceNow


def wire(value: Any) -> Any:
    """Any of our values as JSON: dataclasses by field, enums by value, secrets never."""
    if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, Enum)):
        return value
    if isinstance(value, SecretStr):
        return "••••" if value.get_secret_value() else ""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, BaseModel):
        return wire(value.model_dump())
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: wire(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, dict):
        return {str(wire(key)): wire(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [wire(item) for item in value]
    return str(value)


def service(item: Service) -> dict[str, Any]:
    """What a service is."""
    return {
        "slug": item.slug,
        "title": item.title,
        "category": item.category.value,
        "route": item.path,
        "purpose": item.purpose,
        "depends_on": list(item.depends_on),
    }


def health(item: Health) -> dict[str, Any]:
    """How a service is; the raw error is for people, on its page."""
    return {
        "state": item.state.value,
        "message": item.message,
        "advice": item.advice,
        "version": item.version,
        "latency_ms": item.latency_ms,
        "checked_at": wire(item.checked_at),
        "paused_until": wire(item.paused_until),
    }


def metric(item: Metric) -> dict[str, Any]:
    """One number with its unit."""
    return {
        "name": item.name,
        "label": item.label,
        "value": item.value,
        "unit": item.unit.value,
        "currency": item.currency,
        "headline": item.headline,
        "note": item.note,
    }


def now(item: ServiceNow) -> dict[str, Any]:
    """A service with its health, metrics, and what it touches."""
    return {
        **service(item.service),
        **health(item.health),
        "since": wire(item.since),
        "metrics": [metric(one) for one in item.metrics],
        "last_known": {"at": wire(item.known_at), "metrics": [metric(one) for one in item.known]}
        if item.known
        else None,
        "affected": list(item.affected),
        "failing_dependencies": list(item.depends_down),
    }


def overview(item: Overview) -> dict[str, Any]:
    """The whole platform in one answer."""
    return {
        "state": item.state.value,
        "sentence": item.sentence,
        "counts": {state.value: count for state, count in item.counts.items()},
        "as_of": wire(item.as_of),
        "stale": item.stale,
        "source": item.source,
        "services": [now(one) for one in item.services],
    }
