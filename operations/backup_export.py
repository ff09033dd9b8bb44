"""Every configuration as one YAML document, for people: what a backup holds besides the dump. Secrets are masked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

import yaml
from pydantic import SecretStr
from sqlalchemy import exc, select, text
from sqlalchemy.orm import Session

from adapters.core import AdapterError, services, utcnow
from models import Tier, WorkflowSettings
from operations import ratelimit_yaml, stopping
from operations import services as configured
from operations.access import SYSTEM
from operations.backup_tools import BackupFailed
from operations.database import Database, PoolSettings
from operations.platform import Platform

SNAPSHOT = re.compile(r"[0-9A-Fa-f-]{1,64}")


class _AtSnapshot(Database):
    """The database as one exported snapshot shows it, read only."""

    problem: AdapterError | None = None

    def __init__(self, url: SecretStr, snapshot: str) -> None:
        super().__init__(url, pool=PoolSettings(1, 1), application_name="pilothouse-export")
        self._snapshot = snapshot

    @contextmanager
    def session(self, *, seconds: float | None = None) -> Iterator[Session]:
        """As the console's own, in the snapshot. Raises BackupFailed where that is gone."""
        stopping.check()
        try:
            with super().session(seconds=seconds) as session:
                session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
                try:
                    session.execute(text(f"SET TRANSACTION SNAPSHOT '{self._snapshot}'"))
                except exc.DBAPIError as error:
                    raise BackupFailed("The snapshot of the backup is gone.", detail=str(error.orig)) from error
                yield session
        except AdapterError as error:
            self.problem = self.problem or error
            raise


def document(platform: Platform, snapshot: str) -> str:
    """The configuration of every service, rate limits, workflow settings and tiers, as of an exported snapshot.

    Secrets appear as dots: their ciphertext is in the dump, and only there. Raises StoreUnavailable, BackupFailed.
    """
    if not SNAPSHOT.fullmatch(snapshot):
        raise BackupFailed("PostgreSQL gave the snapshot a name that is none.", detail=snapshot[:100])
    then = copy(platform)
    then.database = database = _AtSnapshot(platform.database.dsn, snapshot)
    try:
        found = _document(then)
    finally:
        database.close()
    if database.problem is not None:  # for people, values last known would do; not for a backup
        raise database.problem
    return found


def _document(platform: Platform) -> str:
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
    found["rate_limits"] = yaml.safe_load(ratelimit_yaml.export_yaml(platform, SYSTEM))
    return yaml.safe_dump(found, sort_keys=False, allow_unicode=True)


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int | float | str | type(None)):
        return value
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    return str(value)
