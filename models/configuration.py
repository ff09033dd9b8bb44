"""What administrators change, the trace each change leaves, and the messages it sends."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Index, SmallInteger, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base


class ServiceConfigRow(Base):
    """The console's own values for one service; secrets are one encrypted JSON document."""

    __tablename__ = "service_configs"
    __table_args__ = (CheckConstraint("version >= 1", name="version"),)

    slug: Mapped[str] = mapped_column(primary_key=True)
    values: Mapped[dict[str, Any]] = mapped_column("values", server_default=text("'{}'::jsonb"))
    secrets_enc: Mapped[str | None]
    version: Mapped[int]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_by: Mapped[str]


class AuditEntry(Base):
    """One change, forever: rows are only ever added, and each covers the one before by its hash.

    ``id`` is gapless: it is taken from :class:`AuditHead` under its lock, not from a sequence.
    """

    __tablename__ = "audit"
    __table_args__ = (
        Index("ix_audit_subject_id", "subject", text("id DESC"), postgresql_ops={"subject": "text_pattern_ops"}),
        Index("ix_audit_at", "at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    actor_id: Mapped[str]
    actor_name: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    before: Mapped[dict[str, Any] | None]
    after: Mapped[dict[str, Any] | None]
    reason: Mapped[str] = mapped_column(server_default="")
    request_id: Mapped[str | None]
    prev_hash: Mapped[str]
    hash: Mapped[str] = mapped_column(unique=True)


class AuditHead(Base):
    """The end of the audit chain: one row, whose lock puts all changes in one order."""

    __tablename__ = "audit_head"
    __table_args__ = (CheckConstraint("one = 1", name="one"),)

    one: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    last_id: Mapped[int]
    hash: Mapped[str]


class OutboxRow(Base):
    """A message a committed change owes to another system; delivered in order of ``id`` per topic and key."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index("ix_outbox_waiting", "topic", "key", "id", postgresql_where=text("delivered_at IS NULL")),
        Index("ix_outbox_delivered_at", "delivered_at", postgresql_where=text("delivered_at IS NOT NULL")),
        CheckConstraint("attempts >= 0", name="attempts"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    topic: Mapped[str]
    key: Mapped[str]
    payload: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    delivered_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_error: Mapped[str | None]
