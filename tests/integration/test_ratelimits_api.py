"""Rate limits over HTTP, as the SRS writes the requests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from api import create_api
from limiter import Limiter, keys, publish
from operations import apitokens, audit, outbox, ratelimit_wire, tenants
from operations.access import SYSTEM
from operations.platform import Platform
from sandbox.inprocess import Services
from tests.support import poll


@pytest.fixture
def client(platform: Platform) -> Iterator[TestClient]:
    with platform.database.session() as session:
        session.execute(text("INSERT INTO tenants (id, name, tier_code) VALUES ('acme', 'Acme', 'team')"))
        session.execute(text("INSERT INTO agents (id, tenant_id, name) VALUES ('bot', 'acme', 'Bot')"))
    ratelimit_wire.reconcile(platform)
    token = apitokens.create(platform, SYSTEM, "t", frozenset({"infra_admin"}))
    with TestClient(create_api(platform), headers={"Authorization": f"Bearer {token}"}) as made:
        yield made


@pytest.mark.parametrize("root", ["/infrastructure/ratelimits", "/ratelimit"])
def test_put_as_the_srs_writes_it(client: TestClient, platform: Platform, root: str) -> None:
    body = {"limit": 2000, "window_seconds": 3600, "policy": "HARD"}
    assert client.put(f"{root}/api_calls", json=body).status_code == 428
    seen = client.get(f"{root}/api_calls")
    assert seen.json()["limit"] == 1000
    done = client.put(f"{root}/api_calls", json=body, headers={"If-Match": seen.headers["etag"]})
    assert done.status_code == 200
    assert done.json()["limit"] == 2000
    assert done.json()["delivered"] is True
    stale = client.put(f"{root}/api_calls", json=body, headers={"If-Match": seen.headers["etag"]})
    assert stale.status_code == 412
    assert stale.json()["current"]["limit"] == 2000
    bad = client.put(f"{root}/api_calls", json={"limit": -1}, headers={"If-Match": done.headers["etag"]})
    assert bad.status_code == 422
    assert bad.json()["errors"][0]["field"] == "limit"


def test_create_list_override_and_delete(client: TestClient) -> None:
    root = "/infrastructure/ratelimits"
    made = client.post(root, json={"key": "renders", "limit": 5, "policy": "WARN", "window_seconds": 60})
    assert made.status_code == 201
    assert client.get(made.headers["location"]).json()["policy"] == "WARN"
    assert client.post(root, json={"key": "renders", "limit": 5}).status_code == 409
    assert client.get(root, params={"limit": 2}).json()["total"] == 7
    put = client.put(f"{root}/renders/agents/bot", json={"limit": 0, "reason": "loops"})
    assert put.status_code == 201
    assert client.put(f"{root}/renders/tenants/nobody", json={"limit": 1}).status_code == 404
    assert client.put(f"{root}/renders/tiers/team", json={"limit": None}).status_code == 201
    said = client.get(f"{root}/renders/effective", params={"tenant": "acme", "agent": "bot"}).json()
    assert (said["limit"], said["source"]) == (0, "agent:acme/bot")
    assert [link["decides"] for link in said["chain"]] == [True, False, False]
    assert client.get(f"{root}/renders/agents").json()["total"] == 1
    assert client.delete(f"{root}/renders/agents/bot").status_code == 428
    assert client.delete(f"{root}/renders/agents/bot", headers={"If-Match": put.headers["etag"]}).status_code == 200
    assert client.get(f"{root}/renders/usage").json()["now"]["key"] == "renders"
    assert client.post(f"{root}/simulate", json={"key": "renders", "limit": 1}).json()["affected_total"] == 0
    assert client.post(f"{root}/reconcile").json()["total"] == 0


def test_the_api_is_limited_by_the_same_limiter(client: TestClient) -> None:
    first = client.get("/ratelimit")
    assert first.headers["ratelimit-policy"] == '"console_api";q=1200;w=60'
    tag = client.get("/ratelimit/console_api").headers["etag"]
    assert client.put("/ratelimit/console_api", json={"limit": 0}, headers={"If-Match": tag}).status_code == 200
    answers = [client.get("/ratelimit") for _ in range(50)]
    assert answers[-1].status_code == 429
    assert answers[-1].headers["content-type"].startswith("application/problem+json")
    assert client.get("/health/live").status_code == 200


def test_moving_a_tenant_to_another_tier_moves_its_limits_at_once(client: TestClient, platform: Platform) -> None:
    with Limiter(platform.redis, timeout=2.0) as limiter:
        assert limiter.wait_ready()
        assert limiter.peek("api_calls", "acme").limit == 10_000
        token = apitokens.create(platform, SYSTEM, "b", frozenset({"billing_admin"}))
        sales = {"Authorization": f"Bearer {token}"}
        body = {"tier": "free", "seen": "team", "reason": "downgraded"}
        assert client.put("/tenants/acme/tier", json=body).status_code == 403
        done = client.put("/tenants/acme/tier", json=body, headers=sales)
        assert done.status_code == 200, done.text
        assert (done.json()["tier_code"], done.json()["delivered"]) == ("free", True)
        poll(lambda: limiter.peek("api_calls", "acme").limit == 100, 2)
        assert limiter.check("api_calls", "acme").source == "tier:free"
        stale = client.put("/tenants/acme/tier", json=body, headers=sales)
        assert (stale.status_code, stale.json()["current"]) == (412, {"tier": "free"})
        unknown = client.put("/tenants/acme/tier", json={"tier": "gold", "seen": "free"}, headers=sales)
        assert unknown.status_code == 422
        assert client.put("/tenants/nobody/tier", json=body, headers=sales).status_code == 404
        newest = audit.entries(platform, SYSTEM, "tenant/acme")[0]
        assert (newest.before, newest.after, newest.reason) == ({"tier": "team"}, {"tier": "free"}, "downgraded")
    assert ratelimit_wire.reconcile(platform, repair=False).total == 0
    # An older announcement that comes late changes nothing.
    assert not publish.apply(platform.redis, keys.TENANTS, 1, overrides={"acme": {"tier": "enterprise"}})


def test_a_tier_changed_while_redis_was_away_is_delivered_on_its_return(
    client: TestClient, platform: Platform, standins: Services
) -> None:
    standins.fault("redis", "refuse")
    outcome = tenants.change_tier(platform, SYSTEM, "acme", "starter", "team", "no Redis")
    assert (outcome.delivered, outcome.waiting_for) == (False, "Redis")
    standins.fault("redis", None)
    poll(lambda: outbox.deliver_soon(platform, ratelimit_wire.TOPIC, keys.TENANTS))
    assert ratelimit_wire.reconcile(platform, repair=False).total == 0
