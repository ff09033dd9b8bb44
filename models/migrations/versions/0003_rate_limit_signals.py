"""Who came near a limit, or passed one."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

_UP = """
CREATE TABLE rate_limit_signals (
    id bigserial CONSTRAINT pk_rate_limit_signals PRIMARY KEY,
    tenant text NOT NULL,
    agent text NOT NULL DEFAULT '',
    key text NOT NULL,
    kind text NOT NULL CONSTRAINT ck_rate_limit_signals_kind CHECK (kind IN ('near', 'over')),
    window_at timestamptz NOT NULL,
    policy text NOT NULL CONSTRAINT ck_rate_limit_signals_policy CHECK (policy IN ('HARD', 'SOFT', 'WARN')),
    audience text NOT NULL CONSTRAINT ck_rate_limit_signals_audience CHECK (audience IN ('tenant', 'admin')),
    source text NOT NULL DEFAULT '',
    limit_value bigint NOT NULL,
    used bigint NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    count bigint NOT NULL DEFAULT 1,
    CONSTRAINT uq_rate_limit_signals_window UNIQUE (key, tenant, agent, kind, window_at)
);
CREATE INDEX ix_rate_limit_signals_last_at ON rate_limit_signals (last_at);
CREATE INDEX ix_rate_limit_signals_tenant ON rate_limit_signals (tenant, last_at);
"""


def upgrade() -> None:
    op.execute(_UP)


def downgrade() -> None:
    op.execute("DROP TABLE rate_limit_signals")
