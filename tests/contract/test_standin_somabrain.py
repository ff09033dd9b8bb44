"""The SomaBrain stand-in keeps state, obeys writes and refuses what the service refuses."""

from __future__ import annotations

import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from sandbox.demo.world import world
from sandbox.standins import Host
from sandbox.standins import somabrain as standin
from tests.support import poll

KEY = "somabrain-key-for-tests"
WORLD = world(7, date(2026, 11, 1))


def made(folder: Path, *, seed: int | None = 7, key: str = KEY) -> TestClient:
    host = Host(url="", secrets={"somabrain_api_key": key} if key else {}, world=WORLD if seed is not None else None)
    app = standin.create(folder, seed, [], host=host, service="somabrain")
    return TestClient(app, headers={"authorization": f"Bearer {KEY}"})


@pytest.fixture
def http(tmp_path: Path) -> TestClient:
    return made(tmp_path)


def state(http: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = http.app.state.standin.state  # type: ignore[attr-defined]
    return found


def test_what_is_open_and_what_asks_for_the_key(http: TestClient) -> None:
    for path in ("/health", "/healthz", "/readyz", "/metrics"):
        assert http.get(path, headers={"authorization": ""}).status_code == 200, path
    for given in ("", "Bearer wrong", f"Basic {KEY}"):
        assert http.get("/api/config/", headers={"authorization": given}).status_code == 401
    assert http.get("/api/config/").json()["features"]["enable_sleep"] is True


def test_without_a_key_nothing_is_refused(tmp_path: Path) -> None:
    http = made(tmp_path, key="")
    assert http.get("/api/config/", headers={"authorization": ""}).status_code == 200


def test_health_follows_the_state(http: TestClient) -> None:
    body = http.get("/health").json()
    assert (body["status"], body["ready"]) == ("healthy", True)
    state(http)["circuit_open"] = True
    body = http.get("/health").json()
    assert body["status"] == "degraded" and body["components"]["memory"]["circuit_open"] is True
    state(http)["down"] = ["postgresql"]
    answer = http.get("/health")
    assert answer.status_code == 200 and answer.json()["status"] == "critical"
    assert answer.json()["infrastructure"]["postgresql"]["status"] == "unhealthy"
    assert http.get("/readyz").status_code == 503 and http.get("/healthz").status_code == 200


def test_the_world_is_remembered(http: TestClient) -> None:
    active = [tenant for tenant in WORLD.tenants if tenant.status == "active"]
    assert set(state(http)["tenants"]) == {tenant.id for tenant in active}
    text = http.get("/metrics").text
    for name in ("somabrain_memory_items ", "somabrain_wm_utilization 0.", "memory_outbox_pending ", '{phase="rem"}'):
        assert name in text
    tenant = active[0].id
    one = http.get("/api/memory/metrics", params={"tenant": tenant}).json()["wm_items"]
    assert 0 < one < http.get("/api/memory/metrics").json()["wm_items"]
    assert http.get(f"/api/quotas/{tenant}/status").json()["quotas"][0]["used"] == len(active[0].agents)
    limits = http.get(f"/api/rate-limits/{tenant}/status").json()
    assert limits["used"] + limits["remaining"] == limits["limit"]
    assert http.get("/api/quotas/nobody/status").status_code == 404


def test_an_empty_one(tmp_path: Path) -> None:
    http = made(tmp_path, seed=None)
    assert "somabrain_memory_items 0.0" in http.get("/metrics").text
    assert http.get("/api/memory/admin/outbox").json() == []
    assert http.get("/health").json()["status"] == "healthy"


def test_replayed_events_are_delivered(http: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = http.get("/api/memory/admin/outbox").json()
    assert failed and all(one["status"] == "failed" and one["last_error"] for one in failed)
    monkeypatch.setattr("sandbox.standins.somabrain_state.REPLAY_SECONDS", 0.05)
    ids = [one["id"] for one in failed]
    assert http.post("/api/memory/admin/outbox/replay", json={"ids": ids}).json() == {"ok": True, "updated": len(ids)}
    assert http.get("/api/memory/admin/outbox").json() == []

    def sent() -> set[int]:
        return {one["id"] for one in http.get("/api/memory/admin/outbox", params={"status": "sent"}).json()}

    poll(lambda: set(ids) <= sent())
    assert http.post("/api/memory/admin/outbox/replay", json={"ids": ids}).json()["updated"] == 0


@pytest.mark.parametrize("params", [{"status": "lost"}, {"limit": 0}, {"limit": 501}, {"offset": -1}, {"limit": "x"}])
def test_a_wrong_outbox_query_is_refused(http: TestClient, params: dict[str, Any]) -> None:
    assert http.get("/api/memory/admin/outbox", params=params).status_code in (400, 422)


def test_outbox_pages(http: TestClient) -> None:
    every = http.get("/api/memory/admin/outbox", params={"status": "sent"}).json()
    part = http.get("/api/memory/admin/outbox", params={"status": "sent", "limit": 2, "offset": 1}).json()
    assert part == every[1:3]


def test_sleep_ends_when_its_time_is_up(http: TestClient) -> None:
    before = dict(state(http)["runs"])
    assert http.get("/api/sleep/state").json()["state"] == "active"
    answer = http.post("/api/sleep/brain/mode", json={"target_state": "DEEP", "ttl_seconds": 60})
    assert answer.json() == {"ok": True, "tenant": "default", "new_state": "deep"}
    assert http.get("/api/sleep/state").json()["state"] == "deep"
    assert http.get("/api/sleep/state", headers={"x-tenant-id": "other"}).json()["state"] == "active"
    assert state(http)["runs"] == {"nrem": before["nrem"] + 1, "rem": before["rem"] + 1}
    state(http)["sleep"]["default"]["until"] = time.time() - 1
    assert http.get("/api/sleep/state").json()["state"] == "active"


@pytest.mark.parametrize(
    "body", [{"target_state": "coma"}, {"target_state": "deep", "ttl_seconds": 3601}, {"ttl_seconds": 0}, []]
)
def test_a_wrong_sleep_is_refused(http: TestClient, body: Any) -> None:
    assert http.post("/api/sleep/util/mode", json=body).status_code == 400
    assert http.get("/api/sleep/state").json()["state"] == "active"


def test_the_older_way_to_sleep(http: TestClient) -> None:
    items = state(http)["runs"]["nrem"]
    assert http.post("/sleep/run", json={"nrem": True, "rem": False}).json() == {"ok": True, "run": ["nrem"]}
    assert state(http)["runs"]["nrem"] == items + 1
    assert http.get("/sleep/status/all").json() == {"tenants": {}}


def test_brain_modes_and_modulators(http: TestClient) -> None:
    names = [one["mode"] for one in http.get("/api/brain/modes").json()]
    assert http.post("/api/brain/mode", json={"mode": names[1].lower()}).json()["new_mode"] == names[1]
    assert http.get("/api/brain/status").json()["active_mode"] == names[1]
    assert http.post("/api/brain/mode", json={"mode": "sideways"}).status_code == 400
    assert http.post("/api/neuromod/adjust", json={"dopamine": 0.9}).status_code == 200
    assert http.get("/api/neuromod/state").json()["dopamine"] == 0.9
    assert http.post("/api/neuromod/adjust", json={"dopamine": "much"}).status_code == 422


def test_retention_is_changed_and_applied(http: TestClient) -> None:
    tenant = next(iter(state(http)["tenants"]))
    base = f"/api/retention/{tenant}"
    memories = next(one for one in http.get(f"{base}/policies").json() if one["data_type"] == "memories")
    changed = http.patch(f"{base}/policies/{memories['id']}", json={"retention_days": 100, "action": "delete"}).json()
    assert (changed["retention_days"], changed["action"], changed["enabled"]) == (100, "delete", True)
    expected = http.get(f"{base}/cleanup/preview").json()["memories"]["estimated_records"]
    items = state(http)["tenants"][tenant]["items"]
    http.post(f"{base}/cleanup/run")
    assert state(http)["tenants"][tenant]["items"] == items
    http.post(f"{base}/cleanup/run", params={"dry_run": "false"})
    assert state(http)["tenants"][tenant]["items"] == items - expected
    assert http.get(f"{base}/cleanup/preview").json()["memories"]["estimated_records"] == 0
    after = http.get(f"{base}/policies/{memories['id']}").json()
    assert after["last_run_deleted"] == expected and after["last_run_at"]
    assert all(one["enabled"] is False for one in http.patch(f"{base}/policies", json={"enabled": False}).json())
    assert http.get(f"{base}/cleanup/preview").json() == {}


@pytest.mark.parametrize(
    "body", [{"retention_days": 0}, {"retention_days": "x"}, {"action": "burn"}, {"enabled": "no"}]
)
def test_a_wrong_policy_is_refused(http: TestClient, body: dict[str, Any]) -> None:
    assert http.patch("/api/retention/any/policies", json=body).status_code == 422
    assert http.patch("/api/retention/any/policies/none", json={}).status_code == 404


def test_state_survives_a_restart_and_reset_returns(tmp_path: Path) -> None:
    first = made(tmp_path)
    first.post("/api/brain/mode", json={"mode": "CREATIVE"})
    first.app.state.standin.save()  # type: ignore[attr-defined]
    second = made(tmp_path)
    assert second.get("/api/brain/status").json()["active_mode"] == "CREATIVE"
    second.app.state.standin.reset()  # type: ignore[attr-defined]
    assert second.get("/api/brain/status").json()["active_mode"] == "BALANCED"
