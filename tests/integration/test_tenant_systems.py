"""A tenant in each of its systems: made, made again, removed, removed again, half made, and with the service away."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, cast

import pytest
from sqlalchemy import text

from adapters.core import AdapterError, Rejected, Unreachable
from adapters.lago import Lago
from adapters.qdrant import Qdrant
from adapters.s3 import S3, S3Config
from limiter import keys
from models import AuditEntry, Tenant
from operations.platform import Platform
from operations.tenant_systems import SYSTEMS, TenantSpec
from operations.tenant_systems import s3 as s3_system
from sandbox.inprocess import Services

SPEC = TenantSpec("acme-labs", "Acme Labs", "team", "ops@acme.test")
NAMES = tuple(SYSTEMS)
REMOTE = tuple(name for name in NAMES if name != "ratelimit")


@pytest.fixture(autouse=True)
def _tiers(platform: Platform) -> None:
    rows = [("free", "Free", 1), ("starter", "Starter", 2), ("team", "Team", 3), ("enterprise", "Enterprise", 4)]
    with platform.database.session() as session:
        for code, name, rank in rows:
            session.execute(
                text("INSERT INTO tiers (code, name, rank) VALUES (:code, :name, :rank) ON CONFLICT DO NOTHING"),
                {"code": code, "name": name, "rank": rank},
            )


def reconfigure(platform: Platform, slug: str, **values: Any) -> None:
    """Give one adapter other settings for the rest of the test."""
    adapter = platform.adapters[slug]
    platform.adapters[slug] = type(adapter)(adapter.config.model_copy(update=values))
    adapter.close()


@pytest.mark.parametrize("name", NAMES)
def test_made_and_removed_as_often_as_one_likes(platform: Platform, name: str) -> None:
    system = SYSTEMS[name]
    assert not system.present(platform, SPEC.tenant)
    first = system.make(platform, SPEC)
    assert first.identifier
    assert first.detail.endswith(".")
    assert not first.skipped
    assert system.present(platform, SPEC.tenant)
    again = system.make(platform, SPEC)
    assert (again.identifier, again.also, again.skipped) == (first.identifier, first.also, False)
    assert system.present(platform, SPEC.tenant)
    assert not system.present(platform, "acme")
    assert system.remove(platform, SPEC.tenant)
    assert not system.present(platform, SPEC.tenant)
    assert not system.remove(platform, SPEC.tenant)
    assert system.make(platform, SPEC).identifier == first.identifier
    assert system.present(platform, SPEC.tenant)
