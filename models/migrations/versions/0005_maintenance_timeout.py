"""A run of maintenance may take four hours: making, proving and removing backups may take an hour each, tried again.

Where somebody has changed its settings, they stay. Redis follows by the reconciliation, as for every difference.
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"

_CHANGE = """
UPDATE workflow_settings SET timeout_seconds = {then}, version = nextval('workflow_settings_version'), updated_at = now()
WHERE type = 'maintenance' AND timeout_seconds = {now} AND updated_by = 'Pilothouse'
"""


def upgrade() -> None:
    op.execute(_CHANGE.format(now=3600, then=14400))


def downgrade() -> None:
    op.execute(_CHANGE.format(now=14400, then=3600))
