"""/metrics: with its own permission, in Prometheus' format, with PostgreSQL and without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.testclient import TestClient

from adapters.core import State, services
from api import metrics
from operations import apitokens, health
from operations.access import ROLES, SYSTEM, Permission
from operations.database import Database
from operations.platform import Platform
from sandbox.processes import free_port
from tests.support_operations import fake_adapters, make

pytestmark = pytest.mark.engines


@pytest.fixture
def store(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Platform]:
    platform = make(database_url, redis_url, monkeypatch, tmp_path)
    fake_adapters(platform)["lago"].state = State.DOWN
    health.refresh(platform, SYSTEM)
    yield platform
    platform.close()


@pytest.fixture
def client(store: Platform) -> Iterator[TestClient]:
    with TestClient(Starlette(routes=[metrics.route(store)])) as made:
        yield made


def bearer(platform: Platform, role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {apitokens.create(platform, SYSTEM, role, frozenset({role}))}"}


def test_who_may_read_them(client: TestClient, store: Platform) -> None:
    for header in ({}, {"Authorization": "Basic x"}, {"Authorization": "Bearer "}, {"Authorization": "Bearer wrong"}):
        answer = client.get("/metrics", headers=header)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert "pilothouse_" not in answer.text
    for role, may in ROLES.items():
        answer = client.get("/metrics", headers=bearer(store, role))
        assert answer.status_code == (200 if Permission.METRICS_READ in may else 403), role


def test_what_they_say(client: TestClient, store: Platform) -> None:
    answer = client.get("/metrics", headers=bearer(store, "analyst"))
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    states = {
        (sample.labels["service"], sample.labels["state"]): sample.value
        for sample in families["pilothouse_service_state"].samples
    }
    assert len(states) == len(services()) * len(State)
    assert (states["lago", "down"], states["lago", "healthy"], states["redis", "healthy"]) == (1, 0, 1)
    assert {s.labels["service"] for s in families["pilothouse_service_metric"].samples} == set(services()) - {"lago"}
    assert families["pilothouse_outbox_waiting"].samples[0].value == 0
    assert "process_cpu_seconds" in families


def test_postgresql_away_is_a_sentence_not_a_traceback(client: TestClient, store: Platform) -> None:
    headers = bearer(store, "analyst")
    store.database.close()
    store.database = Database(f"postgresql://postgres:hidden@127.0.0.1:{free_port()}/none")
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code in (200, 503)
    assert "Traceback" not in answer.text
    assert "hidden" not in answer.text
