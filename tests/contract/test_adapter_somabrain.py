"""The SomaBrain adapter on the stand-in, and on a server that does everything wrong."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from adapters import somabrain_records as records
from adapters.core.errors import Denied, Unexpected
from adapters.core.model import State, Unit
from adapters.core.probe import probe
from adapters.somabrain import SomaBrain, SomaBrainConfig
from sandbox.demo.world import world
from sandbox.standins import Host
from sandbox.standins import somabrain as standin
from tests.contract.openapi import serve
from tests.support_adapters import fail_in_time, health_is_a_value
from tests.support_faulty import BODIES, FAULTS, FaultyServer, no_leaks

KEY = "somabrain-key-for-tests"
HEALTHY = {"status": "healthy", "ready": True, "components": {"memory": {"healthy": True}}}


@pytest.fixture
def app(tmp_path: Path) -> Any:
    host = Host(url="", secrets={"somabrain_api_key": KEY}, world=world(7, date(2026, 11, 1)))
    return standin.create(tmp_path, 7, [], host=host)


@pytest.fixture
def state(app: Any) -> dict[str, Any]:
    found: dict[str, Any] = app.state.standin.state
    return found


@pytest.fixture
def url(app: Any) -> Iterator[str]:
    with serve(app) as address:
        yield address


@pytest.fixture
def somabrain(url: str) -> Iterator[SomaBrain]:
    adapter = SomaBrain(SomaBrainConfig(url=url, api_key=SecretStr(KEY)))
    yield adapter
    adapter.close()


def test_health(somabrain: SomaBrain) -> None:
    health = somabrain.health()
    assert (health.state, health.version) == (State.HEALTHY, "3.0.2")
    assert health.message == "SomaBrain says: healthy; 7 of 7 parts are well."


@pytest.mark.parametrize(
    ("changes", "expected", "named"),
    [
        ({"circuit_open": True}, State.DEGRADED, "the memory circuit is open"),
        ({"down": ["kafka"]}, State.DEGRADED, "kafka is unhealthy"),
        ({"down": ["redis"]}, State.DOWN, "redis is unhealthy"),
    ],
)
def test_the_cause_is_named(
    somabrain: SomaBrain, state: dict[str, Any], changes: dict[str, Any], expected: State, named: str
) -> None:
    state.update(changes)
    health = somabrain.health()
    assert health.state is expected and named in health.message


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (HEALTHY | {"ready": False}, State.DOWN),
        (HEALTHY | {"components": {"memory": {"healthy": True, "circuit_open": True}}}, State.DEGRADED),
        ({"status": "degraded", "components": {"outbox": {"pending": 4212}}}, State.DEGRADED),
        ({"status": "critical"}, State.DOWN),
        ({"ok": True, "components": {"memory_circuit_open": False}}, State.HEALTHY),
        ({"ok": False, "components": {"postgres": {"ok": False}}}, State.DEGRADED),
        ({"status": "healthy", "infrastructure": None, "components": "fine"}, State.HEALTHY),
    ],
)
def test_the_body_decides(body: Any, expected: State) -> None:
    with FaultyServer(answer=lambda method, path: (200, body)) as server:
        adapter = SomaBrain(SomaBrainConfig(url=server.url))
        assert adapter.health().state is expected
        adapter.close()


def test_a_full_outbox_is_a_cause() -> None:
    told = records.report({"status": "degraded", "components": {"outbox": {"pending": 4212}}})
    assert told.causes == ("4,212 events wait in the outbox",)


def test_a_wrong_key_is_denied(somabrain: SomaBrain) -> None:
    other = SomaBrain(SomaBrainConfig(url=somabrain.config.url, api_key=SecretStr("wrong-key")))
    with pytest.raises(Denied) as caught:
        other.health()
    assert "wrong-key" not in f"{caught.value.sentence} {caught.value.detail}"
    other.close()


def test_unconfigured() -> None:
    sample = probe(SomaBrain(SomaBrainConfig()))
    assert sample.health.state is State.UNCONFIGURED
    assert "PILOTHOUSE_SOMABRAIN_URL" in sample.health.message


def test_metrics(somabrain: SomaBrain, state: dict[str, Any]) -> None:
    metrics = {metric.name: metric for metric in somabrain.metrics()}
    assert [m.name for m in metrics.values() if m.headline] == ["memory_use"]
    assert metrics["memory_use"].unit is Unit.PERCENT and 0 < metrics["memory_use"].value < 100
    assert metrics["memory_items"].value == sum(one["items"] for one in state["tenants"].values())
    assert metrics["outbox_pending"].value == sum(one["status"] == "pending" for one in state["outbox"])
    assert metrics["consolidation_runs"].value == sum(state["runs"].values())
    assert "nrem" in metrics["consolidation_runs"].note


def answers(changes: dict[str, tuple[int, Any]]) -> Any:
    def answer(method: str, path: str) -> tuple[int, Any]:
        return next((changed for start, changed in changes.items() if path.startswith(start)), (404, {}))

    return answer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("somabrain_memory_items 12\n", {"memory_items": 12, "outbox_pending": 3}),
        ("somabrain_wm_utilization NaN\nsomabrain_memory_items 12 1700000000\n", {"memory_items": 12}),
        (
            'somabrain_wm_utilization{tenant="a b\\"}"} 0.5\nsomabrain_wm_utilization{tenant="c"} 0.25',
            {"memory_use": 50},
        ),
        ("somabrain_wm_utilization 42.5\nsomabrain_memory_items_total 9", {"memory_use": 42.5}),
        ("somabrain_wm_utilization\nsomabrain_wm_utilization x\n\x00garbage{{{", {"wm_items": 8}),
        ("<html>no metrics here</html>", {"wm_items": 8}),
    ],
)
def test_prometheus_is_read_tolerantly(text: str, expected: dict[str, float]) -> None:
    others = {
        "/metrics": (200, text),
        "/health": (200, HEALTHY | {"components": {"outbox": {"pending": 3}}}),
        "/api/memory/metrics": (200, {"wm_items": 8, "circuit_open": False}),
    }
    with FaultyServer(answer=answers(others)) as server:
        adapter = SomaBrain(SomaBrainConfig(url=server.url))
        found = adapter.metrics()
        values = {metric.name: metric.value for metric in found}
        assert values.items() >= expected.items()
        assert [m.name for m in found if m.headline] == [next(iter(expected))]
        adapter.close()


def test_what_a_version_lacks_is_left_out() -> None:
    only = {"/health": (200, HEALTHY), "/api/memory/metrics": (200, {"wm_items": 8})}
    with FaultyServer(answer=answers(only)) as server:
        adapter = SomaBrain(SomaBrainConfig(url=server.url, api_key=SecretStr(KEY)))
        assert adapter.health().state is State.HEALTHY
        assert [(m.name, m.value, m.headline) for m in adapter.metrics()] == [("wm_items", 8, True)]
        assert adapter.settings() == []
        assert adapter.sleep_state() is None and adapter.outbox() is None and adapter.retention("acme") is None
        adapter.close()


def test_settings(somabrain: SomaBrain) -> None:
    settings = {(s.group, s.name): s.value for s in somabrain.settings()}
    assert settings["Features", "enable sleep"] == "True"
    assert settings["Limits", "hrr dim"] == "8192"
    assert settings["Brain", "active mode"] == "BALANCED"
    assert settings["Sleep", "state"] == "active"


def test_secrets_in_the_configuration_are_masked() -> None:
    body = {
        "features": {"redis_password": "hunter22", "max_tokens": 5},
        "jwt_secret": "hunter22",
        "deep": {"a": {"b": 1}},
    }
    with FaultyServer(answer=answers({"/api/config/": (200, body)})) as server:
        adapter = SomaBrain(SomaBrainConfig(url=server.url))
        settings = {s.name: s.value for s in adapter.settings()}
        assert "hunter22" not in repr(settings) and settings["max tokens"] == "5"
        adapter.close()


def test_sleep_outbox_and_retention(somabrain: SomaBrain, url: str, state: dict[str, Any]) -> None:
    auth = {"authorization": f"Bearer {KEY}"}
    httpx.post(f"{url}/api/sleep/brain/mode", json={"target_state": "deep", "ttl_seconds": 60}, headers=auth)
    asleep = somabrain.sleep_state()
    assert asleep is not None and asleep.state == "deep"
    assert asleep.since is not None and asleep.since.tzinfo is not None
    failed = somabrain.outbox()
    assert failed and all(one.status == "failed" and one.last_error and one.created_at for one in failed)
    assert somabrain.outbox("failed", tenant=failed[0].tenant, limit=1) == (failed[0],)
    assert len(somabrain.outbox("sent", limit=3) or ()) == 3
    policies = somabrain.retention(next(iter(state["tenants"])))
    assert policies and {one.data_type for one in policies} >= {"memories", "audit_logs"}
    assert all(one.enabled and one.retention_days > 0 for one in policies)


def test_a_tenant_cannot_leave_its_path(somabrain: SomaBrain, state: dict[str, Any]) -> None:
    somabrain.retention("a/../../config?x=1#y")
    assert "config" not in state["retention"]


def test_a_prefix_stands_before_every_path() -> None:
    with FaultyServer(answer=lambda method, path: (200, HEALTHY)) as server:
        adapter = SomaBrain(SomaBrainConfig(url=f"{server.url}/", prefix="/brain/"))
        adapter.health()
        assert server.requests == ["GET /brain/health"]
        adapter.close()


@pytest.mark.parametrize("fault", FAULTS + BODIES)
def test_health_is_a_value_whatever_happens(fault: str) -> None:
    health_is_a_value(fault, lambda url: SomaBrain(SomaBrainConfig(url=url, api_key=SecretStr(KEY))), KEY)


@pytest.mark.parametrize("fault", ["hang", "500", "401", "garbage", "huge", "reset", "unexpected", "invalid", "list"])
def test_everything_else_is_bounded_too(fault: str) -> None:
    with no_leaks(), FaultyServer(fault) as server:
        adapter = SomaBrain(SomaBrainConfig(url=server.url))
        fail_in_time(fault, adapter.metrics, adapter.settings, adapter.sleep_state, adapter.outbox)
        adapter.close()


@pytest.mark.parametrize(
    "body", [{}, {"status": "purple"}, {"status": 1}, {"ok": "yes"}, {"status": None, "ready": True}]
)
def test_a_health_that_says_nothing_is_unexpected(body: Any) -> None:
    with pytest.raises(Unexpected):
        records.report(body)


@pytest.mark.parametrize("row", [{}, None, {"id": "x"}, [], {"id": True}])
def test_unexpected_rows_are_named(row: Any) -> None:
    for read in (records.event, records.policy):
        with pytest.raises(Unexpected):
            read(row)


def test_times_nobody_can_read_are_not_told() -> None:
    for value in ("yesterday", 1e300, float("nan"), None, [], -(10**18)):
        assert records.moment(value) is None
