"""The HTTP API: who may do what on every route, versions, problem details, nothing secret."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api import create_api
from operations import apitokens
from operations.access import ROLES, SYSTEM, Permission
from operations.platform import Platform
from tests.support_operations import make

pytestmark = pytest.mark.engines
SECRET = "canary-51aa-secret"
P = Permission
OPEN = {("GET", "/health/live"), ("GET", "/health/ready")}
NEEDS: dict[tuple[str, str], Permission] = {
    ("GET", "/audit"): P.AUDIT_READ,
    ("GET", "/audit/chain"): P.AUDIT_READ,
    ("GET", "/health"): P.INFRA_VIEW,
    ("GET", "/health/services"): P.INFRA_VIEW,
    ("GET", "/health/{service}"): P.INFRA_VIEW,
    ("GET", "/infrastructure"): P.INFRA_VIEW,
    ("GET", "/infrastructure/health"): P.INFRA_VIEW,
    ("POST", "/infrastructure/refresh"): P.INFRA_VIEW,
    ("GET", "/infrastructure/changes"): P.INFRA_VIEW,
    ("GET", "/infrastructure/report.csv"): P.INFRA_VIEW,
    ("GET", "/infrastructure/report.json"): P.INFRA_VIEW,
    ("GET", "/infrastructure/{service}"): P.INFRA_VIEW,
    ("GET", "/infrastructure/{service}/history"): P.INFRA_VIEW,
    ("GET", "/infrastructure/{service}/config"): P.INFRA_VIEW,
    ("PUT", "/infrastructure/{service}/config"): P.INFRA_CONFIGURE,
    ("GET", "/infrastructure/temporal/workflows"): P.INFRA_VIEW,
    ("GET", "/infrastructure/postgresql/backups"): P.INFRA_VIEW,
    ("POST", "/infrastructure/postgresql/backups"): P.WORKFLOWS_OPERATE,
    ("GET", "/infrastructure/temporal/schedules"): P.INFRA_VIEW,
    ("POST", "/infrastructure/temporal/schedules"): P.WORKFLOWS_OPERATE,
    ("GET", "/infrastructure/temporal/schedules/{schedule}"): P.INFRA_VIEW,
    ("PUT", "/infrastructure/temporal/schedules/{schedule}"): P.WORKFLOWS_OPERATE,
    ("DELETE", "/infrastructure/temporal/schedules/{schedule}"): P.WORKFLOWS_OPERATE,
    ("POST", "/infrastructure/temporal/schedules/{schedule}/pause"): P.WORKFLOWS_OPERATE,
    ("POST", "/infrastructure/temporal/schedules/{schedule}/resume"): P.WORKFLOWS_OPERATE,
    ("POST", "/infrastructure/temporal/schedules/{schedule}/trigger"): P.WORKFLOWS_OPERATE,
    ("POST", "/infrastructure/temporal/schedules/{schedule}/backfill"): P.WORKFLOWS_OPERATE,
    ("GET", "/infrastructure/temporal/executions"): P.INFRA_VIEW,
    ("GET", "/infrastructure/temporal/executions/{execution}"): P.INFRA_VIEW,
    ("POST", "/infrastructure/temporal/executions"): P.WORKFLOWS_OPERATE,
    ("POST", "/infrastructure/temporal/executions/{execution}/signal"): P.WORKFLOWS_OPERATE,
    ("POST", "/infrastructure/temporal/executions/{execution}/cancel"): P.WORKFLOWS_OPERATE,
    ("POST", "/infrastructure/temporal/executions/{execution}/terminate"): P.WORKFLOWS_OPERATE,
    ("POST", "/infrastructure/temporal/executions/{execution}/reset"): P.WORKFLOWS_OPERATE,
    ("POST", "/infrastructure/temporal/executions/{execution}/again"): P.WORKFLOWS_OPERATE,
    ("GET", "/infrastructure/temporal/queues"): P.INFRA_VIEW,
    ("GET", "/infrastructure/temporal/queues/{queue}"): P.INFRA_VIEW,
    ("PUT", "/infrastructure/temporal/queues/{queue}/rate-limit"): P.WORKFLOWS_OPERATE,
    ("DELETE", "/infrastructure/temporal/queues/{queue}/rate-limit"): P.WORKFLOWS_OPERATE,
    ("GET", "/infrastructure/temporal/workers"): P.INFRA_VIEW,
    ("GET", "/infrastructure/temporal/settings"): P.INFRA_VIEW,
    ("GET", "/infrastructure/temporal/settings/{type}"): P.INFRA_VIEW,
    ("PUT", "/infrastructure/temporal/settings/{type}"): P.WORKFLOWS_CONFIGURE,
    ("DELETE", "/infrastructure/temporal/settings/{type}"): P.WORKFLOWS_CONFIGURE,
    ("GET", "/infrastructure/temporal/held-settings"): P.INFRA_VIEW,
    ("GET", "/infrastructure/temporal/settings-changes"): P.INFRA_VIEW,
    ("POST", "/infrastructure/temporal/settings-changes/{change}/revert"): P.WORKFLOWS_CONFIGURE,
    ("GET", "/tenants"): P.TENANTS_VIEW,
    ("GET", "/tenants/{tenant}"): P.TENANTS_VIEW,
    ("GET", "/tenants/{tenant}/usage"): P.TENANTS_VIEW,
    ("GET", "/subscriptions"): P.TENANTS_VIEW,
    ("PUT", "/tenants/{tenant}/tier"): P.BILLING_MANAGE,
    ("POST", "/tenants"): P.TENANTS_MANAGE,
    ("DELETE", "/tenants/{tenant}"): P.TENANTS_MANAGE,
    ("GET", "/tenants/{tenant}/progress"): P.TENANTS_VIEW,
    ("POST", "/tenants/{tenant}/offboarding/end"): P.TENANTS_MANAGE,
    ("POST", "/tenants/{tenant}/offboarding/keep"): P.TENANTS_MANAGE,
}
BODIES: dict[str, dict[str, Any]] = {
    "/tenants/{tenant}/tier": {"tier": "team", "seen": "free", "reason": "r"},
    "/tenants": {"id": "new", "name": "New", "tier": "free", "email": "new@example.test"},
    "/tenants/{tenant}/offboarding/end": {"reason": "r"},
    "/tenants/{tenant}/offboarding/keep": {"reason": "r"},
    "/infrastructure/postgresql/backups": {"reason": "r"},
    "/infrastructure/temporal/schedules": {"id": "new", "type": "usage-sync", "every_seconds": 3600},
    "/infrastructure/temporal/schedules/{schedule}": {"note": "n"},
    "/infrastructure/temporal/schedules/{schedule}/pause": {"note": "n"},
    "/infrastructure/temporal/schedules/{schedule}/resume": {"note": "n"},
    "/infrastructure/temporal/schedules/{schedule}/trigger": {"reason": "r"},
    "/infrastructure/temporal/schedules/{schedule}/backfill": {
        "from": "2026-01-01T00:00:00Z",
        "to": "2026-01-01T01:00:00Z",
    },
    "/infrastructure/temporal/executions": {"type": "Any", "task_queue": "any"},
    "/infrastructure/temporal/executions/{execution}/signal": {"name": "go"},
    "/infrastructure/temporal/executions/{execution}/cancel": {"reason": "r"},
    "/infrastructure/temporal/executions/{execution}/terminate": {"reason": "r"},
    "/infrastructure/temporal/executions/{execution}/reset": {"event": 4},
    "/infrastructure/temporal/executions/{execution}/again": {"reason": "r"},
    "/infrastructure/temporal/settings/{type}": {"retry_attempts": 3},
    "/infrastructure/temporal/queues/{queue}/rate-limit": {"requests_per_second": 1},
}
ASKS = ("/tenants", "/infrastructure/temporal/", "/infrastructure/postgresql/backups")
"""Routes that ask a service, which these tests run without: it not answering is a 502."""
RATE_LIMITS = ("/ratelimit", "/infrastructure/ratelimits")


@pytest.fixture
def store(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Platform]:
    platform = make(database_url, redis_url, monkeypatch, tmp_path)
    yield platform
    platform.close()


@pytest.fixture
def client(store: Platform) -> Iterator[TestClient]:
    with TestClient(create_api(store), raise_server_exceptions=False) as made:
        yield made


def bearer(platform: Platform, role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {apitokens.create(platform, SYSTEM, role, frozenset({role}))}"}


def operations(client: TestClient) -> list[tuple[str, str]]:
    paths: dict[str, Any] = client.get("/openapi.json").json()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def ask(client: TestClient, method: str, path: str, headers: dict[str, str] | None = None) -> Any:
    given = BODIES.get(path, {"values": {}, "reason": "r"})
    for name in ("service", "tenant", "key", "scope", "reference"):
        path = path.replace("{" + name + "}", {"service": "smtp"}.get(name, "none"))
    body = given if method in ("PUT", "POST") else None
    return client.request(method, path, headers=headers, json=body)


def test_without_a_token_only_liveness(client: TestClient) -> None:
    for method, path in operations(client):
        answer = ask(client, method, path)
        if (method, path) in OPEN:
            assert answer.status_code == 200, path
        else:
            assert answer.status_code == 401, (method, path)
            assert answer.headers["content-type"].startswith("application/problem+json")


@pytest.mark.parametrize("role", sorted(ROLES))
def test_each_role_on_each_route(client: TestClient, store: Platform, role: str) -> None:
    headers = bearer(store, role)
    for method, path in operations(client):
        if (method, path) in OPEN or path.startswith(RATE_LIMITS):
            continue
        answer = ask(client, method, path, headers)
        allowed = NEEDS[method, path] in ROLES[role]  # a new route must be named above
        assert (answer.status_code != 403) is allowed, (method, path, answer.status_code)
        away = path.startswith(ASKS) and answer.status_code == 502
        assert answer.status_code < 500 or away, (method, path, answer.text)


def test_the_span_of_a_history_is_chosen(client: TestClient, store: Platform) -> None:
    headers = bearer(store, "analyst")
    for hours, status in (("24", 200), ("168", 200), ("2", 422), ("many", 422)):
        assert client.get(f"/infrastructure/smtp/history?hours={hours}", headers=headers).status_code == status, hours


def test_a_wrong_token_is_refused(client: TestClient) -> None:
    for value in ("Bearer nonsense", "Basic abc", "Bearer ", "Bearer " + "x" * 5000):
        assert client.get("/infrastructure", headers={"Authorization": value}).status_code == 401


def test_configuration_carries_its_version(client: TestClient, store: Platform) -> None:
    headers = bearer(store, "infra_admin")
    seen = client.get("/infrastructure/email/config", headers=headers)
    tag = seen.headers["etag"]
    body = {"values": {"host": "one.example", "password": SECRET}, "reason": "r"}
    url = "/infrastructure/smtp/config"
    assert client.put(url, headers=headers, json=body).status_code == 428
    done = client.put(url, headers={**headers, "If-Match": tag}, json=body)
    assert done.status_code == 200 and done.headers["etag"] != tag
    stale = client.put(url, headers={**headers, "If-Match": tag}, json={**body, "values": {"host": "two"}})
    assert stale.status_code == 412 and stale.json()["type"]
    assert "one.example" in stale.text and "two" in stale.text
    wrong = client.put(
        url, headers={**headers, "If-Match": done.headers["etag"]}, json={"values": {"port": 0}, "reason": "r"}
    )
    assert wrong.status_code == 422 and wrong.json()["errors"][0]["field"] == "port"
    auditor = bearer(store, "security_auditor")
    told = [client.get(path, headers=headers).text for path in ("/infrastructure/smtp", url, "/infrastructure")]
    assert SECRET not in "".join([*told, client.get("/audit", headers=auditor).text, done.text, stale.text])


def test_a_configuration_is_matched_as_the_standard_says(client: TestClient, store: Platform) -> None:
    headers, url = bearer(store, "infra_admin"), "/infrastructure/smtp/config"
    tag = client.get(url, headers=headers).headers["etag"]

    def put(condition: str, host: str) -> int:
        body = {"values": {"host": host}, "reason": "r"}
        return int(client.put(url, headers={**headers, "If-Match": condition}, json=body).status_code)

    for condition, status in ((f"W/{tag}", 412), ('"98", "99"', 412), ("soon", 400), (f'"99", {tag}', 200), ("*", 200)):
        assert put(condition, f"host{status}.example") == status, condition
    lost = client.put("/infrastructure/nothing/config", headers={**headers, "If-Match": "*"}, json={"values": {}})
    assert lost.status_code == 404


def test_srs_names_and_unknown_ones(client: TestClient, store: Platform) -> None:
    headers = bearer(store, "ai_viewer")
    for name in ("database", "storage", "email", "temporal"):
        assert client.get(f"/infrastructure/{name}", headers=headers).status_code == 200, name
    lost = client.get("/infrastructure/nothing", headers=headers)
    assert lost.status_code == 404 and lost.headers["content-type"].startswith("application/problem+json")


def test_rate_limits_are_not_taken_for_a_service(client: TestClient, store: Platform) -> None:
    if ("GET", "/infrastructure/ratelimits") in operations(client):
        headers = bearer(store, "platform_admin")
        assert client.get("/infrastructure/ratelimits", headers=headers).status_code != 404


def test_lists_are_bounded(client: TestClient, store: Platform) -> None:
    headers = bearer(store, "platform_admin")
    for path in ("/audit", "/tenants", "/infrastructure/changes"):
        assert client.get(path, headers=headers, params={"limit": 100_000}).status_code == 422, path


def test_documentation_loads_nothing_from_outside(client: TestClient) -> None:
    page = client.get("/docs").text
    assert "/infrastructure/{service}/config" in page
    assert not [
        word for word in ("<script src", "cdn", "http-equiv", '<link rel="stylesheet" href="http') if word in page
    ]


def test_postgresql_away_is_503(client: TestClient, store: Platform) -> None:
    from operations.database import Database
    from sandbox.processes import free_port

    headers = bearer(store, "platform_admin")
    assert client.get("/tenants", headers=headers).status_code == 200
    store.database.close()
    store.database = Database(f"postgresql://postgres@127.0.0.1:{free_port()}/none")
    ready = client.get("/health/ready")
    assert ready.status_code == 503 and "127.0.0.1" not in ready.text
    answer = client.get("/tenants", headers=headers)
    assert answer.status_code == 503 and answer.headers["content-type"].startswith("application/problem+json")
