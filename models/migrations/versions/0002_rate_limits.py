"""Rate limits, with the limits and tiers a platform starts from."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

_UP = """
CREATE TABLE rate_limit_keys (
    key text NOT NULL CONSTRAINT pk_rate_limit_keys PRIMARY KEY
        CONSTRAINT ck_rate_limit_keys_key CHECK (key = '@tenants' OR key ~ '^[a-z][a-z0-9_.-]{0,63}$'),
    version bigint NOT NULL DEFAULT 0
);
CREATE TABLE rate_limit_policies (
    id bigserial CONSTRAINT pk_rate_limit_policies PRIMARY KEY,
    key text NOT NULL CONSTRAINT fk_rate_limit_policies_key REFERENCES rate_limit_keys (key),
    scope text NOT NULL,
    tier_code text CONSTRAINT fk_rate_limit_policies_tier_code REFERENCES tiers (code),
    tenant_id text CONSTRAINT fk_rate_limit_policies_tenant_id REFERENCES tenants (id) ON DELETE CASCADE,
    agent_id text CONSTRAINT fk_rate_limit_policies_agent_id REFERENCES agents (id) ON DELETE CASCADE,
    limit_value bigint CONSTRAINT ck_rate_limit_policies_limit CHECK (limit_value BETWEEN 0 AND 1000000000000),
    window_seconds bigint CONSTRAINT ck_rate_limit_policies_window CHECK (window_seconds BETWEEN 1 AND 2678400),
    policy text CONSTRAINT ck_rate_limit_policies_policy CHECK (policy IN ('HARD', 'SOFT', 'WARN')),
    warn_percent bigint CONSTRAINT ck_rate_limit_policies_warn_percent CHECK (warn_percent BETWEEN 1 AND 100),
    on_redis_failure text CONSTRAINT ck_rate_limit_policies_on_redis_failure
        CHECK (on_redis_failure IN ('allow', 'deny')),
    active boolean NOT NULL DEFAULT true,
    expires_at timestamptz,
    description text NOT NULL DEFAULT '', reason text NOT NULL DEFAULT '', owner text NOT NULL DEFAULT '',
    version bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT '',
    CONSTRAINT ck_rate_limit_policies_scope CHECK (
        (scope = 'GLOBAL' AND tier_code IS NULL AND tenant_id IS NULL AND agent_id IS NULL
            AND window_seconds IS NOT NULL AND policy IS NOT NULL AND warn_percent IS NOT NULL
            AND on_redis_failure IS NOT NULL)
        OR (scope = 'TIER' AND tier_code IS NOT NULL AND tenant_id IS NULL AND agent_id IS NULL)
        OR (scope = 'TENANT' AND tenant_id IS NOT NULL AND tier_code IS NULL AND agent_id IS NULL)
        OR (scope = 'AGENT' AND agent_id IS NOT NULL AND tenant_id IS NOT NULL AND tier_code IS NULL)),
    CONSTRAINT uq_rate_limit_policies_key_scope
        UNIQUE NULLS NOT DISTINCT (key, scope, tier_code, tenant_id, agent_id)
);
CREATE INDEX ix_rate_limit_policies_expires_at ON rate_limit_policies (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX ix_rate_limit_policies_tenant_id ON rate_limit_policies (tenant_id);
CREATE TABLE rate_limit_usage (
    key text NOT NULL, subject text NOT NULL, hour timestamptz NOT NULL,
    amount bigint NOT NULL DEFAULT 0, over bigint NOT NULL DEFAULT 0, blocked bigint NOT NULL DEFAULT 0,
    CONSTRAINT pk_rate_limit_usage PRIMARY KEY (key, subject, hour),
    CONSTRAINT ck_rate_limit_usage_amounts CHECK (amount >= 0 AND over >= 0 AND blocked >= 0)
);
CREATE INDEX ix_rate_limit_usage_key_hour ON rate_limit_usage (key, hour);

INSERT INTO tiers (code, name, rank, price_cents, currency, public, quotas) VALUES
    ('free', 'Free', 1, 0, 'USD', true, '{"agents": 1, "users_per_agent": 3, "storage_gb": 0.5}'),
    ('starter', 'Starter', 2, 2900, 'USD', true, '{"agents": 5, "users_per_agent": 10, "storage_gb": 5}'),
    ('team', 'Team', 3, 9900, 'USD', true, '{"agents": 25, "users_per_agent": 50, "storage_gb": 50}'),
    ('enterprise', 'Enterprise', 4, NULL, 'USD', false,
        '{"agents": null, "users_per_agent": null, "storage_gb": null}')
ON CONFLICT DO NOTHING;
INSERT INTO rate_limit_keys (key, version) VALUES ('@tenants', 0), ('api_calls', 1), ('voice_minutes', 1),
    ('llm_tokens', 1), ('file_uploads', 1), ('memory_queries', 1),
    ('console_api', 1);
INSERT INTO rate_limit_policies
    (key, scope, limit_value, window_seconds, policy, warn_percent, on_redis_failure, description, version) VALUES
    ('api_calls', 'GLOBAL', 1000, 3600, 'HARD', 80, 'allow', 'Requests to the API', 1),
    ('voice_minutes', 'GLOBAL', 60, 86400, 'SOFT', 80, 'allow', 'Minutes of speech in and out', 1),
    ('llm_tokens', 'GLOBAL', 100000, 86400, 'SOFT', 80, 'allow', 'Tokens of language models', 1),
    ('file_uploads', 'GLOBAL', 50, 3600, 'HARD', 80, 'allow', 'Files taken in', 1),
    ('memory_queries', 'GLOBAL', 500, 3600, 'SOFT', 80, 'allow', 'Recalls from memory', 1),
    ('console_api', 'GLOBAL', 1200, 60, 'HARD', 80, 'allow', 'Requests to the API of Pilothouse itself, per token', 1);
INSERT INTO rate_limit_policies (key, scope, tier_code, limit_value, version)
SELECT v.key, 'TIER', v.tier, v.amount, 1 FROM (VALUES
    ('api_calls', 'free', 100::bigint), ('api_calls', 'starter', 1000), ('api_calls', 'team', 10000),
    ('api_calls', 'enterprise', NULL),
    ('voice_minutes', 'free', 0), ('voice_minutes', 'starter', 60), ('voice_minutes', 'team', 500),
    ('voice_minutes', 'enterprise', NULL),
    ('llm_tokens', 'free', 10000), ('llm_tokens', 'starter', 100000), ('llm_tokens', 'team', 1000000),
    ('llm_tokens', 'enterprise', NULL),
    ('file_uploads', 'free', 10), ('file_uploads', 'starter', 50), ('file_uploads', 'team', 500),
    ('file_uploads', 'enterprise', NULL),
    ('memory_queries', 'free', 50), ('memory_queries', 'starter', 500), ('memory_queries', 'team', 5000),
    ('memory_queries', 'enterprise', NULL)
) AS v (key, tier, amount) JOIN tiers t ON t.code = v.tier;
"""


def upgrade() -> None:
    op.execute(_UP)


def downgrade() -> None:
    for name in ("rate_limit_usage", "rate_limit_policies", "rate_limit_keys"):
        op.execute(f"DROP TABLE {name}")
