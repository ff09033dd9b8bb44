"""The words every adapter speaks: what a service is, how it is, and what it measures."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from pydantic import SecretStr


def utcnow() -> datetime:
    """The present moment, timezone-aware, in UTC."""
    return datetime.now(UTC)


class Category(StrEnum):
    """Where a service stands in the navigation."""

    DATA = "Data"
    ORCHESTRATION = "Orchestration"
    IDENTITY = "Identity"
    BILLING = "Billing"
    AI = "AI"
    DELIVERY = "Delivery"


class State(StrEnum):
    """What is known of a service's health.

    ``NO_ANSWER`` is a service that took the call and did not answer in time;
    ``DOWN`` one that refused, failed or said so itself. ``UNKNOWN`` is a service
    nobody has asked yet.
    """

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    NO_ANSWER = "no_answer"
    DOWN = "down"
    UNCONFIGURED = "unconfigured"
    UNKNOWN = "unknown"

    @property
    def failing(self) -> bool:
        """True for states in which the service does not do its work."""
        return self in (State.DOWN, State.NO_ANSWER)

    @property
    def severity(self) -> int:
        """Larger is worse; what sorts failing services first."""
        return _SEVERITY[self]


_SEVERITY = {
    State.DOWN: 5,
    State.NO_ANSWER: 4,
    State.DEGRADED: 3,
    State.UNKNOWN: 2,
    State.UNCONFIGURED: 1,
    State.HEALTHY: 0,
}


class Unit(StrEnum):
    """Units of metrics and settings; formatting belongs to the page."""

    NONE = ""
    COUNT = "count"
    MILLISECONDS = "ms"
    SECONDS = "s"
    BYTES = "bytes"
    PERCENT = "%"
    PER_SECOND = "/s"
    PER_MINUTE = "/min"
    RATIO = "ratio"
    CENTS = "cents"


@dataclass(frozen=True, slots=True)
class Service:
    """One administered service, as the navigation, the overview and the API name it."""

    slug: str
    title: str
    category: Category
    path: str
    purpose: str
    affects: str
    """What people lose while it is down, to stand before "affected": "memory features"."""
    depends_on: tuple[str, ...] = ()
    """Slugs of services without which this one cannot work."""
    order: int = 100


@dataclass(frozen=True, slots=True)
class Health:
    """How a service is. Always a value: evaluating health never raises.

    Adapters fill ``state``, ``message`` and ``version``; ``core.probe`` fills the rest.
    """

    state: State
    message: str
    """One sentence an operator can read at night."""
    version: str | None = None
    service: str = ""
    latency_ms: float | None = None
    checked_at: datetime = field(default_factory=utcnow)
    kind: str | None = None
    """Class name of the AdapterError behind a failure."""
    detail: str = ""
    """The raw error, redacted of secrets."""
    advice: str = ""
    paused_until: datetime | None = None
    """Set while the circuit breaker keeps the service from being asked."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured number. Money is integer cents with ``currency``."""

    name: str
    label: str
    value: float
    unit: Unit = Unit.COUNT
    headline: bool = False
    """True for the one metric the service's card shows."""
    currency: str | None = None
    note: str = ""
    """A short qualification shown beside the value, such as "estimated"."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as the service itself reports it now."""

    name: str
    value: str | SecretStr
    unit: Unit = Unit.NONE
    group: str = "General"
    description: str = ""
    default: str | None = None
    """The service's default, where it tells; None where it does not."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one visit to a service brought home: its health, and metrics where it gave any."""

    health: Health
    metrics: tuple[Metric, ...] = ()
    metrics_error: str = ""

    @property
    def headline(self) -> Metric | None:
        """The metric for the card, or None where the service gave none."""
        return next((m for m in self.metrics if m.headline), None)
