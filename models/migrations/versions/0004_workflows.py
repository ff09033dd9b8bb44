"""Workflow settings and places, mails, billing events, backups, and a tenant's names in all systems."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"

_UP = """
CREATE TABLE workflow_settings (
    type text CONSTRAINT pk_workflow_settings PRIMARY KEY
        CONSTRAINT ck_workflow_settings_type CHECK (type ~ '^[A-Za-z0-9][A-Za-z0-9_.:/ -]{0,199}$'),
    timeout_seconds bigint
        CONSTRAINT ck_workflow_settings_timeout CHECK (timeout_seconds BETWEEN 1 AND 31536000),
    retry_attempts bigint
        CONSTRAINT ck_workflow_settings_attempts CHECK (retry_attempts BETWEEN 1 AND 100),
    backoff_multiplier double precision
        CONSTRAINT ck_workflow_settings_backoff CHECK (backoff_multiplier BETWEEN 1 AND 10),
    max_concurrent bigint
        CONSTRAINT ck_workflow_settings_concurrent CHECK (max_concurrent BETWEEN 0 AND 10000),
    version bigint NOT NULL,
    reason text NOT NULL DEFAULT '',
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT '',
    CONSTRAINT ck_workflow_settings_complete CHECK (
        type <> 'default' OR (timeout_seconds IS NOT NULL AND retry_attempts IS NOT NULL
        AND backoff_multiplier IS NOT NULL AND max_concurrent IS NOT NULL))
);
INSERT INTO workflow_settings (type, timeout_seconds, retry_attempts, backoff_multiplier, max_concurrent, version,
    reason, updated_by) VALUES
    ('default', 300, 3, 2.0, 100, 1, 'the defaults', 'Pilothouse'),
    ('tenant-offboarding', 7776000, NULL, NULL, NULL, 1, 'it waits for weeks', 'Pilothouse'),
    ('maintenance', 3600, NULL, NULL, NULL, 1, 'a backup takes its time', 'Pilothouse');

CREATE TABLE workflow_slots (
    workflow_id text NOT NULL,
    run_id text NOT NULL,
    type text NOT NULL,
    state text NOT NULL CONSTRAINT ck_workflow_slots_state CHECK (state IN ('waiting', 'running')),
    asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    taken_at timestamptz,
    told_at timestamptz,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT pk_workflow_slots PRIMARY KEY (workflow_id, run_id)
);
CREATE SEQUENCE workflow_settings_version START 2;
CREATE INDEX ix_workflow_slots_type ON workflow_slots (type, state, asked_at);

CREATE TABLE mails (
    id bigserial CONSTRAINT pk_mails PRIMARY KEY,
    dedup text NOT NULL CONSTRAINT uq_mails_dedup UNIQUE,
    kind text NOT NULL,
    tenant_id text CONSTRAINT fk_mails_tenant_id_tenants REFERENCES tenants (id) ON DELETE SET NULL,
    recipient text NOT NULL,
    subject text NOT NULL,
    body text NOT NULL,
    status text NOT NULL DEFAULT 'queued'
        CONSTRAINT ck_mails_status CHECK (status IN ('queued', 'sent', 'failed', 'canceled')),
    attempts bigint NOT NULL DEFAULT 0,
    last_error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    sent_at timestamptz,
    failed_at timestamptz
);
CREATE INDEX ix_mails_created_at ON mails (created_at);
CREATE INDEX ix_mails_status ON mails (status) WHERE status = 'queued';
ALTER TABLE rate_limit_signals ADD COLUMN mail text;

CREATE TABLE usage_events (
    id bigserial CONSTRAINT pk_usage_events PRIMARY KEY,
    tenant_id text NOT NULL,
    key text NOT NULL,
    hour timestamptz NOT NULL,
    part bigint NOT NULL,
    amount bigint NOT NULL,
    over bigint NOT NULL DEFAULT 0,
    transaction_id text NOT NULL CONSTRAINT uq_usage_events_transaction_id UNIQUE,
    subscription_id text NOT NULL,
    at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    sent_at timestamptz,
    attempts bigint NOT NULL DEFAULT 0,
    last_error text,
    refused_at timestamptz,
    CONSTRAINT ck_usage_events_amount CHECK (amount >= 0 AND over >= 0 AND amount + over > 0),
    CONSTRAINT uq_usage_events_part UNIQUE (tenant_id, key, hour, part)
);
CREATE INDEX ix_usage_events_waiting ON usage_events (id) WHERE sent_at IS NULL;
CREATE INDEX ix_usage_events_sent_at ON usage_events (sent_at);

CREATE TABLE usage_unbillable (
    tenant_id text NOT NULL,
    key text NOT NULL,
    amount bigint NOT NULL,
    over bigint NOT NULL,
    since timestamptz NOT NULL,
    reason text NOT NULL,
    CONSTRAINT pk_usage_unbillable PRIMARY KEY (tenant_id, key)
);

-- What was counted before usage was handed to billing is not billed after the fact.
ALTER TABLE rate_limit_usage
    ADD COLUMN billed bigint NOT NULL DEFAULT 0,
    ADD COLUMN billed_over bigint NOT NULL DEFAULT 0;
UPDATE rate_limit_usage SET billed = amount, billed_over = over;
CREATE INDEX ix_rate_limit_usage_unbilled ON rate_limit_usage (hour) WHERE amount > billed OR over > billed_over;

CREATE TABLE backups (
    id text CONSTRAINT pk_backups PRIMARY KEY,
    status text NOT NULL DEFAULT 'running'
        CONSTRAINT ck_backups_status CHECK (status IN ('running', 'stored', 'proved', 'failed', 'expired')),
    started_at timestamptz NOT NULL DEFAULT now(),
    stored_at timestamptz,
    proved_at timestamptz,
    expired_at timestamptz,
    bucket text,
    prefix text,
    size_bytes bigint,
    sha256 text,
    tables jsonb NOT NULL DEFAULT '{}'::jsonb,
    error text
);
CREATE INDEX ix_backups_started_at ON backups (started_at);

ALTER TABLE tenants DROP CONSTRAINT ck_tenants_status;
ALTER TABLE tenants ADD CONSTRAINT ck_tenants_status CHECK (
    status IN ('trial', 'active', 'past_due', 'suspended', 'closed', 'provisioning', 'offboarding'));
ALTER TABLE tenants
    ADD COLUMN contact_email text,
    ADD COLUMN lago_subscription_id text,
    ADD COLUMN keycloak_group text,
    ADD COLUMN qdrant_collection text,
    ADD COLUMN s3_prefix text,
    ADD COLUMN lifecycle jsonb;
"""

_DOWN = """
UPDATE tenants SET status = 'suspended' WHERE status IN ('provisioning', 'offboarding');
ALTER TABLE tenants DROP CONSTRAINT ck_tenants_status;
ALTER TABLE tenants ADD CONSTRAINT ck_tenants_status CHECK (
    status IN ('trial', 'active', 'past_due', 'suspended', 'closed'));
ALTER TABLE tenants
    DROP COLUMN contact_email,
    DROP COLUMN lago_subscription_id,
    DROP COLUMN keycloak_group,
    DROP COLUMN qdrant_collection,
    DROP COLUMN s3_prefix,
    DROP COLUMN lifecycle;
ALTER TABLE rate_limit_usage DROP COLUMN billed, DROP COLUMN billed_over;
ALTER TABLE rate_limit_signals DROP COLUMN mail;
DROP SEQUENCE workflow_settings_version;
DROP TABLE workflow_settings, workflow_slots, mails, usage_events, usage_unbillable, backups;
"""


def upgrade() -> None:
    op.execute(_UP)


def downgrade() -> None:
    op.execute(_DOWN)
