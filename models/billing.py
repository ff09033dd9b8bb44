"""What of the counted usage was handed to billing."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base


class UsageEvent(Base):
    """One billing event: ``amount`` units of ``key`` that ``tenant_id`` used in the UTC hour ``hour``.

    The sum over ``part`` is what was billed of that hour. Rows are written before they are sent and
    only say afterwards what became of them, so that a repeated delivery is the same to the letter.
    No foreign key to the tenant: what was billed outlives it.
    """

    __tablename__ = "usage_events"
    __table_args__ = (
        CheckConstraint("amount >= 0 AND over >= 0 AND amount + over > 0", name="amount"),
        UniqueConstraint("tenant_id", "key", "hour", "part", name="uq_usage_events_part"),
        Index("ix_usage_events_waiting", "id", postgresql_where=text("sent_at IS NULL")),
        Index("ix_usage_events_sent_at", "sent_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    key: Mapped[str]
    hour: Mapped[datetime]
    part: Mapped[int]
    amount: Mapped[int]
    over: Mapped[int] = mapped_column("over", server_default=text("0"))
    transaction_id: Mapped[str] = mapped_column(unique=True)
    subscription_id: Mapped[str]
    at: Mapped[datetime]
    """What billing is told as the time: the hour, or the beginning of the subscription where that is later."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    sent_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    last_error: Mapped[str | None]
    refused_at: Mapped[datetime | None]
    """When billing last refused this very event; it is tried again later."""


class UsageUnbillable(Base):
    """Units that were counted and have nobody to be billed to, as the last run of usage-sync found them."""

    __tablename__ = "usage_unbillable"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    amount: Mapped[int]
    over: Mapped[int] = mapped_column("over")
    since: Mapped[datetime]
    """The oldest hour of them."""
    reason: Mapped[str]
