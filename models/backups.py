"""Backups, and whether each was proved by restoring it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base


class Backup(Base):
    """One backup of the console's database and of every configuration. It counts once ``status`` is ``proved``."""

    __tablename__ = "backups"
    __table_args__ = (
        CheckConstraint("status IN ('running', 'stored', 'proved', 'failed', 'expired')", name="status"),
        Index("ix_backups_started_at", "started_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(server_default="running")
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    stored_at: Mapped[datetime | None]
    proved_at: Mapped[datetime | None]
    expired_at: Mapped[datetime | None]
    bucket: Mapped[str | None]
    prefix: Mapped[str | None]
    size_bytes: Mapped[int | None]
    sha256: Mapped[str | None]
    tables: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    error: Mapped[str | None]
