"""Tenants, configuration, audit, outbox, identity and monitoring."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

_STATES = "('healthy', 'degraded', 'no_answer', 'down', 'unconfigured', 'unknown')"

_METRIC_ROLLUP = """
CREATE TABLE {name} (
    service text NOT NULL, metric text NOT NULL, bucket timestamptz NOT NULL,
    n bigint NOT NULL, min double precision NOT NULL, max double precision NOT NULL, sum double precision NOT NULL,
    CONSTRAINT pk_{name} PRIMARY KEY (service, metric, bucket)
);
CREATE INDEX ix_{name}_bucket ON {name} (bucket);
"""

_HEALTH_ROLLUP = """
CREATE TABLE {name} (
    service text NOT NULL, bucket timestamptz NOT NULL, n bigint NOT NULL,
    healthy bigint NOT NULL, degraded bigint NOT NULL, no_answer bigint NOT NULL, down bigint NOT NULL,
    other bigint NOT NULL, latency_n bigint NOT NULL, latency_min double precision,
    latency_max double precision, latency_sum double precision NOT NULL,
    CONSTRAINT pk_{name} PRIMARY KEY (service, bucket)
);
CREATE INDEX ix_{name}_bucket ON {name} (bucket);
"""

_UP = f"""
CREATE TABLE tiers (
    code text NOT NULL CONSTRAINT pk_tiers PRIMARY KEY
        CONSTRAINT ck_tiers_code CHECK (code ~ '^[a-z0-9][a-z0-9_-]{{0,62}}$'),
    name text NOT NULL,
    rank bigint NOT NULL CONSTRAINT uq_tiers_rank UNIQUE,
    price_cents bigint CONSTRAINT ck_tiers_price CHECK (price_cents >= 0),
    currency text NOT NULL DEFAULT 'USD' CONSTRAINT ck_tiers_currency CHECK (currency ~ '^[A-Z]{{3}}$'),
    public boolean NOT NULL DEFAULT true,
    quotas jsonb NOT NULL DEFAULT '{{}}'::jsonb
);
CREATE TABLE tenants (
    id text NOT NULL CONSTRAINT pk_tenants PRIMARY KEY
        CONSTRAINT ck_tenants_id CHECK (id ~ '^[a-z0-9][a-z0-9_-]{{0,62}}$'),
    name text NOT NULL,
    tier_code text NOT NULL CONSTRAINT fk_tenants_tier_code REFERENCES tiers (code),
    status text NOT NULL DEFAULT 'active'
        CONSTRAINT ck_tenants_status CHECK (status IN ('trial', 'active', 'past_due', 'suspended', 'closed')),
    created_at timestamptz NOT NULL DEFAULT now(),
    lago_customer_id text, keycloak_realm text, somabrain_tenant text
);
CREATE INDEX ix_tenants_tier_code ON tenants (tier_code);
CREATE INDEX ix_tenants_lower_name ON tenants (lower(name) text_pattern_ops);
CREATE TABLE agents (
    id text NOT NULL CONSTRAINT pk_agents PRIMARY KEY,
    tenant_id text NOT NULL CONSTRAINT fk_agents_tenant_id REFERENCES tenants (id) ON DELETE CASCADE,
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ix_agents_tenant_id ON agents (tenant_id);
CREATE TABLE usage_daily (
    tenant_id text NOT NULL CONSTRAINT fk_usage_daily_tenant_id REFERENCES tenants (id) ON DELETE CASCADE,
    key text NOT NULL, day date NOT NULL,
    amount bigint NOT NULL DEFAULT 0, over bigint NOT NULL DEFAULT 0, blocked bigint NOT NULL DEFAULT 0,
    CONSTRAINT pk_usage_daily PRIMARY KEY (tenant_id, key, day),
    CONSTRAINT ck_usage_daily_amounts CHECK (amount >= 0 AND over >= 0 AND blocked >= 0)
);
CREATE INDEX ix_usage_daily_key_day ON usage_daily (key, day);

CREATE TABLE service_configs (
    slug text NOT NULL CONSTRAINT pk_service_configs PRIMARY KEY,
    "values" jsonb NOT NULL DEFAULT '{{}}'::jsonb,
    secrets_enc text,
    version bigint NOT NULL CONSTRAINT ck_service_configs_version CHECK (version >= 1),
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL
);
CREATE TABLE audit (
    id bigint NOT NULL CONSTRAINT pk_audit PRIMARY KEY,
    at timestamptz NOT NULL,
    actor_id text NOT NULL, actor_name text NOT NULL, action text NOT NULL, subject text NOT NULL,
    before jsonb, after jsonb, reason text NOT NULL DEFAULT '', request_id text,
    prev_hash text NOT NULL, hash text NOT NULL CONSTRAINT uq_audit_hash UNIQUE
);
CREATE INDEX ix_audit_subject_id ON audit (subject text_pattern_ops, id DESC);
CREATE INDEX ix_audit_at ON audit (at);
CREATE TABLE audit_head (
    one smallint NOT NULL CONSTRAINT pk_audit_head PRIMARY KEY CONSTRAINT ck_audit_head_one CHECK (one = 1),
    last_id bigint NOT NULL, hash text NOT NULL
);
INSERT INTO audit_head (one, last_id, hash) VALUES (1, 0, repeat('0', 64));
CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit rows are only ever added' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
CREATE TABLE outbox (
    id bigserial CONSTRAINT pk_outbox PRIMARY KEY,
    topic text NOT NULL, key text NOT NULL, payload jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), delivered_at timestamptz,
    attempts bigint NOT NULL DEFAULT 0 CONSTRAINT ck_outbox_attempts CHECK (attempts >= 0),
    next_attempt_at timestamptz NOT NULL DEFAULT now(), last_error text
);
CREATE INDEX ix_outbox_waiting ON outbox (topic, key, id) WHERE delivered_at IS NULL;
CREATE INDEX ix_outbox_delivered_at ON outbox (delivered_at) WHERE delivered_at IS NOT NULL;

CREATE TABLE sessions (
    id_hash text NOT NULL CONSTRAINT pk_sessions PRIMARY KEY,
    subject text NOT NULL, name text NOT NULL, email text NOT NULL DEFAULT '',
    roles jsonb NOT NULL DEFAULT '[]'::jsonb,
    id_token_enc text, refresh_token_enc text, token_expires_at timestamptz,
    expires_at timestamptz NOT NULL, revoked_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(), last_seen_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ix_sessions_expires_at ON sessions (expires_at);
CREATE INDEX ix_sessions_subject ON sessions (subject);
CREATE TABLE api_tokens (
    id bigserial CONSTRAINT pk_api_tokens PRIMARY KEY,
    name text NOT NULL,
    token_hash text NOT NULL CONSTRAINT uq_api_tokens_token_hash UNIQUE,
    owner text NOT NULL,
    roles jsonb NOT NULL DEFAULT '[]'::jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz, revoked_at timestamptz, last_used_at timestamptz
);
CREATE INDEX ix_api_tokens_owner ON api_tokens (owner);

CREATE TABLE health_samples (
    service text NOT NULL, at timestamptz NOT NULL,
    state text NOT NULL CONSTRAINT ck_health_samples_state CHECK (state IN {_STATES}),
    latency_ms double precision,
    CONSTRAINT pk_health_samples PRIMARY KEY (service, at)
) PARTITION BY RANGE (at);
CREATE TABLE samples (
    service text NOT NULL, metric text NOT NULL, at timestamptz NOT NULL, value double precision NOT NULL,
    CONSTRAINT pk_samples PRIMARY KEY (service, metric, at)
) PARTITION BY RANGE (at);
CREATE TABLE state_changes (
    id bigserial CONSTRAINT pk_state_changes PRIMARY KEY,
    service text NOT NULL, at timestamptz NOT NULL,
    from_state text NOT NULL CONSTRAINT ck_state_changes_from_state CHECK (from_state IN {_STATES}),
    to_state text NOT NULL CONSTRAINT ck_state_changes_to_state CHECK (to_state IN {_STATES}),
    message text NOT NULL DEFAULT ''
);
CREATE INDEX ix_state_changes_at ON state_changes (at DESC);
CREATE UNIQUE INDEX ix_state_changes_service_at ON state_changes (service, at);
CREATE TABLE service_now (
    service text NOT NULL CONSTRAINT pk_service_now PRIMARY KEY,
    state text NOT NULL CONSTRAINT ck_service_now_state CHECK (state IN {_STATES}),
    since timestamptz NOT NULL, message text NOT NULL, version text, latency_ms double precision,
    checked_at timestamptz NOT NULL, kind text, detail text NOT NULL DEFAULT '', advice text NOT NULL DEFAULT '',
    paused_until timestamptz, metrics jsonb NOT NULL DEFAULT '[]'::jsonb,
    metrics_error text NOT NULL DEFAULT '', sampled_by text NOT NULL DEFAULT ''
);
"""

_TABLES = (
    "service_now", "state_changes", "health_hour", "health_minute", "samples_hour", "samples_minute",
    "samples", "health_samples", "api_tokens", "sessions", "outbox", "audit_head", "audit",
    "service_configs", "usage_daily", "agents", "tenants", "tiers",
)


def upgrade() -> None:
    op.execute(_UP)
    for name in ("samples_minute", "samples_hour"):
        op.execute(_METRIC_ROLLUP.format(name=name))
    for name in ("health_minute", "health_hour"):
        op.execute(_HEALTH_ROLLUP.format(name=name))


def downgrade() -> None:
    for name in _TABLES:
        op.execute(f"DROP TABLE {name}")
    op.execute("DROP FUNCTION audit_append_only()")
