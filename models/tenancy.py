"""Tenants, the tiers they are on, their agents, and what they use each day."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base


class Tier(Base):
    """A commercial plan. ``price_cents`` per month, NULL for a price agreed individually.

    ``quotas`` maps a quota's name to a number; JSON null is unlimited, 0 is nothing at all.
    """

    __tablename__ = "tiers"
    __table_args__ = (
        CheckConstraint("price_cents >= 0", name="price"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        CheckConstraint("code ~ '^[a-z0-9][a-z0-9_-]{0,62}$'", name="code"),
    )

    code: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    rank: Mapped[int] = mapped_column(unique=True)
    price_cents: Mapped[int | None]
    currency: Mapped[str] = mapped_column(server_default="USD")
    public: Mapped[bool] = mapped_column(server_default=text("true"))
    quotas: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))


class Tenant(Base):
    """A customer's space on the platform, and its names in the other systems."""

    __tablename__ = "tenants"
    __table_args__ = (
        CheckConstraint("id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'", name="id"),
        CheckConstraint(
            "status IN ('trial', 'active', 'past_due', 'suspended', 'closed', 'provisioning', 'offboarding')",
            name="status",
        ),
        Index("ix_tenants_tier_code", "tier_code"),
        Index("ix_tenants_lower_name", text("lower(name)"), postgresql_ops={"lower(name)": "text_pattern_ops"}),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    tier_code: Mapped[str] = mapped_column(ForeignKey("tiers.code"))
    status: Mapped[str] = mapped_column(server_default="active")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    lago_customer_id: Mapped[str | None]
    keycloak_realm: Mapped[str | None]
    somabrain_tenant: Mapped[str | None]
    contact_email: Mapped[str | None]
    lago_subscription_id: Mapped[str | None]
    keycloak_group: Mapped[str | None]
    qdrant_collection: Mapped[str | None]
    s3_prefix: Mapped[str | None]
    lifecycle: Mapped[dict[str, Any] | None]
    """Who makes or removes the tenant now, what was begun, and what ``status`` was before; see tenant_records."""


class Agent(Base):
    """One agent of a tenant."""

    __tablename__ = "agents"
    __table_args__ = (Index("ix_agents_tenant_id", "tenant_id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    name: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class UsageDaily(Base):
    """What a tenant used of one limited thing in one UTC day: all of it, past the limit, refused."""

    __tablename__ = "usage_daily"
    __table_args__ = (
        CheckConstraint("amount >= 0 AND over >= 0 AND blocked >= 0", name="amounts"),
        Index("ix_usage_daily_key_day", "key", "day"),
    )

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    amount: Mapped[int] = mapped_column(server_default=text("0"))
    over: Mapped[int] = mapped_column("over", server_default=text("0"))
    blocked: Mapped[int] = mapped_column(server_default=text("0"))
