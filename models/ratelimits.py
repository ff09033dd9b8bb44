"""Rate limits: the policies, one counter of versions per key, usage by the hour, and signals of limits reached."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base


class RateLimitKey(Base):
    """A limited thing. Its row is locked by every change, so that versions per key follow the order of commits.

    The row called ``@tenants`` counts the versions of the tenants' tiers as Redis carries them.
    """

    __tablename__ = "rate_limit_keys"
    __table_args__ = (CheckConstraint("key = '@tenants' OR key ~ '^[a-z][a-z0-9_.-]{0,63}$'", name="key"),)

    key: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(server_default=text("0"))


class RateLimitPolicy(Base):
    """One limit for one scope. ``limit_value`` NULL is unlimited, 0 blocks everything.

    NULL in ``window_seconds``, ``policy``, ``warn_percent`` and ``on_redis_failure`` inherits from the next
    wider rule in force; the GLOBAL rule says all of them.
    """

    __tablename__ = "rate_limit_policies"
    __table_args__ = (
        CheckConstraint("limit_value BETWEEN 0 AND 1000000000000", name="limit"),
        CheckConstraint("window_seconds BETWEEN 1 AND 2678400", name="window"),
        CheckConstraint("policy IN ('HARD', 'SOFT', 'WARN')", name="policy"),
        CheckConstraint("warn_percent BETWEEN 1 AND 100", name="warn_percent"),
        CheckConstraint("on_redis_failure IN ('allow', 'deny')", name="on_redis_failure"),
        CheckConstraint(
            "(scope = 'GLOBAL' AND tier_code IS NULL AND tenant_id IS NULL AND agent_id IS NULL"
            " AND window_seconds IS NOT NULL AND policy IS NOT NULL AND warn_percent IS NOT NULL"
            " AND on_redis_failure IS NOT NULL)"
            " OR (scope = 'TIER' AND tier_code IS NOT NULL AND tenant_id IS NULL AND agent_id IS NULL)"
            " OR (scope = 'TENANT' AND tenant_id IS NOT NULL AND tier_code IS NULL AND agent_id IS NULL)"
            " OR (scope = 'AGENT' AND agent_id IS NOT NULL AND tenant_id IS NOT NULL AND tier_code IS NULL)",
            name="scope",
        ),
        UniqueConstraint(
            "key", "scope", "tier_code", "tenant_id", "agent_id",
            name="uq_rate_limit_policies_key_scope", postgresql_nulls_not_distinct=True,
        ),
        Index("ix_rate_limit_policies_expires_at", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
        Index("ix_rate_limit_policies_tenant_id", "tenant_id"),
    )  # fmt: skip

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(ForeignKey("rate_limit_keys.key"))
    scope: Mapped[str]
    tier_code: Mapped[str | None] = mapped_column(ForeignKey("tiers.code"))
    tenant_id: Mapped[str | None] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    agent_id: Mapped[str | None] = mapped_column(ForeignKey("agents.id", ondelete="CASCADE"))
    limit_value: Mapped[int | None]
    window_seconds: Mapped[int | None]
    policy: Mapped[str | None]
    warn_percent: Mapped[int | None]
    on_redis_failure: Mapped[str | None]
    active: Mapped[bool] = mapped_column(server_default=text("true"))
    expires_at: Mapped[datetime | None]
    description: Mapped[str] = mapped_column(server_default="")
    reason: Mapped[str] = mapped_column(server_default="")
    owner: Mapped[str] = mapped_column(server_default="")
    version: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_by: Mapped[str] = mapped_column(server_default="")


class RateLimitUsage(Base):
    """What a subject (a tenant, or an agent with a limit of its own) used in one UTC hour, as Redis counted it."""

    __tablename__ = "rate_limit_usage"
    __table_args__ = (
        CheckConstraint("amount >= 0 AND over >= 0 AND blocked >= 0", name="amounts"),
        Index("ix_rate_limit_usage_key_hour", "key", "hour"),
        Index("ix_rate_limit_usage_unbilled", "hour", postgresql_where=text("amount > billed OR over > billed_over")),
    )

    key: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    amount: Mapped[int] = mapped_column(server_default=text("0"))
    over: Mapped[int] = mapped_column("over", server_default=text("0"))
    blocked: Mapped[int] = mapped_column(server_default=text("0"))
    billed: Mapped[int] = mapped_column(server_default=text("0"))
    """How much of ``amount`` was turned into billing events; ``billed_over`` of ``over``."""
    billed_over: Mapped[int] = mapped_column(server_default=text("0"))


class RateLimitSignal(Base):
    """A subject came near a limit or passed it in one window. ``audience`` is who is told: the tenant, or admins."""

    __tablename__ = "rate_limit_signals"
    __table_args__ = (
        CheckConstraint("kind IN ('near', 'over')", name="kind"),
        CheckConstraint("policy IN ('HARD', 'SOFT', 'WARN')", name="policy"),
        CheckConstraint("audience IN ('tenant', 'admin')", name="audience"),
        UniqueConstraint("key", "tenant", "agent", "kind", "window_at", name="uq_rate_limit_signals_window"),
        Index("ix_rate_limit_signals_last_at", "last_at"),
        Index("ix_rate_limit_signals_tenant", "tenant", "last_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    agent: Mapped[str] = mapped_column(server_default="")
    key: Mapped[str]
    kind: Mapped[str]
    window_at: Mapped[datetime]
    policy: Mapped[str]
    audience: Mapped[str]
    source: Mapped[str] = mapped_column(server_default="")
    limit_value: Mapped[int]
    used: Mapped[int]
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]
    mail: Mapped[str | None]
    """``dedup`` of the mail that tells the tenant; None where nobody is told."""
    count: Mapped[int] = mapped_column(server_default=text("1"))
