"""Every configuration as one YAML document, for people: what a backup holds besides the dump. Secrets are masked."""

from __future__ import annotations

from typing import Any

import yaml
from sqlalchemy import select

from adapters.core import services, utcnow
from models import Tier, WorkflowSettings
from operations import ratelimit_history
from operations import services as configured
from operations.access import SYSTEM
from operations.platform import Platform


def document(platform: Platform) -> str:
    """The configuration of every service, rate limits, workflow settings and tiers. Raises StoreUnavailable.

    Secrets appear as dots: their ciphertext is in the dump, and only there.
    """
    found: dict[str, Any] = {"exported_at": utcnow().isoformat(), "services": {}}
    for slug in services():
        view = configured.describe(platform, SYSTEM, slug)
        found["services"][slug] = {
            "version": view.version,
            "values": {field.name: {"value": _plain(field.value), "source": field.source} for field in view.fields},
        }
    with platform.database.session() as session:
        found["tiers"] = [
            {
                "code": tier.code, "name": tier.name, "rank": tier.rank, "price_cents": tier.price_cents,
                "currency": tier.currency, "public": tier.public, "quotas": tier.quotas,
            }
            for tier in session.scalars(select(Tier).order_by(Tier.rank).limit(1000))
        ]  # fmt: skip
        found["workflow_settings"] = [
            {
                "type": row.type, "timeout_seconds": row.timeout_seconds, "retry_attempts": row.retry_attempts,
                "backoff_multiplier": row.backoff_multiplier, "max_concurrent": row.max_concurrent,
                "version": row.version,
            }
            for row in session.scalars(select(WorkflowSettings).order_by(WorkflowSettings.type).limit(10_000))
        ]  # fmt: skip
    found["rate_limits"] = yaml.safe_load(ratelimit_history.export_yaml(platform, SYSTEM))
    return yaml.safe_dump(found, sort_keys=False, allow_unicode=True)


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int | float | str | type(None)):
        return value
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    return str(value)
