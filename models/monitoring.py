"""What the sampler writes: raw samples by day, their minute and hour rollups, and the latest of each service."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base

STATES = "state IN ('healthy', 'degraded', 'no_answer', 'down', 'unconfigured', 'unknown')"


class HealthSample(Base):
    """One visit to one service. Partitioned by UTC day of ``at``."""

    __tablename__ = "health_samples"
    __table_args__ = (CheckConstraint(STATES, name="state"), {"postgresql_partition_by": "RANGE (at)"})

    service: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    state: Mapped[str]
    latency_ms: Mapped[float | None]


class MetricSample(Base):
    """One measured number. Partitioned by UTC day of ``at``."""

    __tablename__ = "samples"
    __table_args__ = ({"postgresql_partition_by": "RANGE (at)"},)

    service: Mapped[str] = mapped_column(primary_key=True)
    metric: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    value: Mapped[float]


class _MetricRollup:
    service: Mapped[str] = mapped_column(primary_key=True)
    metric: Mapped[str] = mapped_column(primary_key=True)
    bucket: Mapped[datetime] = mapped_column(primary_key=True)
    n: Mapped[int]
    min: Mapped[float]
    max: Mapped[float]
    sum: Mapped[float]


class MetricMinute(_MetricRollup, Base):
    """Metric values of one UTC minute."""

    __tablename__ = "samples_minute"
    __table_args__ = (Index("ix_samples_minute_bucket", "bucket"),)


class MetricHour(_MetricRollup, Base):
    """Metric values of one UTC hour."""

    __tablename__ = "samples_hour"
    __table_args__ = (Index("ix_samples_hour_bucket", "bucket"),)


class _HealthRollup:
    """Counts per state; ``other`` is unconfigured and unknown, which say nothing of availability.

    Latency is in milliseconds over the ``latency_n`` visits that measured one.
    """

    service: Mapped[str] = mapped_column(primary_key=True)
    bucket: Mapped[datetime] = mapped_column(primary_key=True)
    n: Mapped[int]
    healthy: Mapped[int]
    degraded: Mapped[int]
    no_answer: Mapped[int]
    down: Mapped[int]
    other: Mapped[int]
    latency_n: Mapped[int]
    latency_min: Mapped[float | None]
    latency_max: Mapped[float | None]
    latency_sum: Mapped[float]


class HealthMinute(_HealthRollup, Base):
    """Health of one UTC minute."""

    __tablename__ = "health_minute"
    __table_args__ = (Index("ix_health_minute_bucket", "bucket"),)


class HealthHour(_HealthRollup, Base):
    """Health of one UTC hour."""

    __tablename__ = "health_hour"
    __table_args__ = (Index("ix_health_hour_bucket", "bucket"),)


class StateChangeRow(Base):
    """A service passed from one state to another."""

    __tablename__ = "state_changes"
    __table_args__ = (
        Index("ix_state_changes_at", text("at DESC")),
        Index("ix_state_changes_service_at", "service", "at", unique=True),
        CheckConstraint(STATES.replace("state IN", "to_state IN"), name="to_state"),
        CheckConstraint(STATES.replace("state IN", "from_state IN"), name="from_state"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    service: Mapped[str]
    at: Mapped[datetime]
    from_state: Mapped[str]
    to_state: Mapped[str]
    message: Mapped[str] = mapped_column(server_default="")


class ServiceNowRow(Base):
    """The latest known of one service."""

    __tablename__ = "service_now"
    __table_args__ = (CheckConstraint(STATES, name="state"),)

    service: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    since: Mapped[datetime]
    message: Mapped[str]
    version: Mapped[str | None]
    latency_ms: Mapped[float | None]
    checked_at: Mapped[datetime]
    kind: Mapped[str | None]
    detail: Mapped[str] = mapped_column(server_default="")
    advice: Mapped[str] = mapped_column(server_default="")
    paused_until: Mapped[datetime | None]
    metrics: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    metrics_error: Mapped[str] = mapped_column(server_default="")
    known: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    """The metrics of the last visit that had any; older than ``metrics`` while the service fails."""
    known_at: Mapped[datetime | None]
    sampled_by: Mapped[str] = mapped_column(server_default="")
