"""Signed-in browsers and the tokens of programs. Only hashes and ciphertext are kept."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base


class SessionRow(Base):
    """A browser's session; ``id_hash`` is the SHA-256 of the random id in its cookie."""

    __tablename__ = "sessions"
    __table_args__ = (Index("ix_sessions_expires_at", "expires_at"), Index("ix_sessions_subject", "subject"))

    id_hash: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str]
    name: Mapped[str]
    email: Mapped[str] = mapped_column(server_default="")
    roles: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    id_token_enc: Mapped[str | None]
    refresh_token_enc: Mapped[str | None]
    token_expires_at: Mapped[datetime | None]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_seen_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ApiTokenRow(Base):
    """A program's bearer token, kept as a hash."""

    __tablename__ = "api_tokens"
    __table_args__ = (Index("ix_api_tokens_owner", "owner"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    token_hash: Mapped[str] = mapped_column(unique=True)
    owner: Mapped[str]
    roles: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
