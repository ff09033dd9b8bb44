"""The numbers last known of a service, with their moment: what its page shows while it does not answer."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute(
        "ALTER TABLE service_now ADD known jsonb NOT NULL DEFAULT '[]'::jsonb, ADD known_at timestamptz"
    )
    op.execute("UPDATE service_now SET known = metrics, known_at = checked_at WHERE metrics <> '[]'::jsonb")


def downgrade() -> None:
    op.execute("ALTER TABLE service_now DROP known, DROP known_at")
