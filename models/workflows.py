"""Workflow settings per type, and who holds one of a type's concurrent places."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base


class WorkflowSettings(Base):
    """What a workflow type runs with. NULL inherits from the row called ``default``, which says all of them.

    ``max_concurrent`` 0 starts nothing: every new run waits. Versions come from one sequence, so that a row that was
    deleted and made again never repeats one.
    """

    __tablename__ = "workflow_settings"
    __table_args__ = (
        CheckConstraint("type ~ '^[A-Za-z0-9][A-Za-z0-9_.:/ -]{0,199}$'", name="type"),
        CheckConstraint("timeout_seconds BETWEEN 1 AND 31536000", name="timeout"),
        CheckConstraint("retry_attempts BETWEEN 1 AND 100", name="attempts"),
        CheckConstraint("backoff_multiplier BETWEEN 1 AND 10", name="backoff"),
        CheckConstraint("max_concurrent BETWEEN 0 AND 10000", name="concurrent"),
        CheckConstraint(
            "type <> 'default' OR (timeout_seconds IS NOT NULL AND retry_attempts IS NOT NULL"
            " AND backoff_multiplier IS NOT NULL AND max_concurrent IS NOT NULL)",
            name="complete",
        ),
    )

    type: Mapped[str] = mapped_column(primary_key=True)
    timeout_seconds: Mapped[int | None]
    retry_attempts: Mapped[int | None]
    backoff_multiplier: Mapped[float | None]
    max_concurrent: Mapped[int | None]
    version: Mapped[int]
    reason: Mapped[str] = mapped_column(server_default="")
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_by: Mapped[str] = mapped_column(server_default="")


class WorkflowSlot(Base):
    """One run that has, or waits for, one of the concurrent places of its type.

    ``run_id`` is the run's original id, which a reset keeps. ``told_at`` is when a run that waited was told that it
    has its place; ``seen_at`` when Temporal was last asked whether it still runs.
    """

    __tablename__ = "workflow_slots"
    __table_args__ = (
        CheckConstraint("state IN ('waiting', 'running')", name="state"),
        Index("ix_workflow_slots_type", "type", "state", "asked_at"),
    )

    workflow_id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(primary_key=True)
    type: Mapped[str]
    state: Mapped[str]
    asked_at: Mapped[datetime] = mapped_column(server_default=text("clock_timestamp()"))
    taken_at: Mapped[datetime | None]
    told_at: Mapped[datetime | None]
    seen_at: Mapped[datetime] = mapped_column(server_default=text("clock_timestamp()"))
