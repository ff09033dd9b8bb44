"""What of the counted usage was handed to billing."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base


class UsageEvent(Base):
    """One billing event: ``amount`` units of ``key`` that ``tenant_id`` used in the UTC hour ``hour``.

    The sum over ``part`` is what was billed of that hour. Rows are written before they are sent and
    never changed but for ``sent_at``, so that a repeated delivery carries the same ``transaction_id``.
    No foreign key to the tenant: what was billed outlives it.
    """

    __tablename__ = "usage_events"
    __table_args__ = (
        CheckConstraint("amount > 0", name="amount"),
        UniqueConstraint("tenant_id", "key", "hour", "part", name="uq_usage_events_part"),
        Index("ix_usage_events_waiting", "id", postgresql_where=text("sent_at IS NULL")),
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
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    sent_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    last_error: Mapped[str | None]
