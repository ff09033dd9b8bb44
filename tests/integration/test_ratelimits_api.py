"""Rate limits over HTTP, as the SRS writes the requests."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from adapters.core import utcnow
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


ROOT = "/infrastructure/ratelimits"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", f"{ROOT}/api_calls/tenants/acme", {"window_seconds": 60}),
        ("PUT", f"{ROOT}/renders", {"window_seconds": 60}),
        ("POST", ROOT, {"key": "renders"}),
    ],
)
def test_a_new_policy_must_say_its_limit(client: TestClient, method: str, path: str, body: dict[str, object]) -> None:
    said = client.request(method, path, json=body)
    assert said.status_code == 422, said.text
    assert said.json()["errors"][0]["field"] == "limit"
    assert client.get(path if method == "PUT" else f"{ROOT}/renders").status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", f"{ROOT}/a%00b", None, 404),
        ("PUT", f"{ROOT}/a%00b", {"limit": 1}, 422),
        ("GET", f"{ROOT}/a%00b/effective", None, 404),
        ("GET", f"{ROOT}/a%00b/usage", None, 404),
        ("GET", f"{ROOT}/api_calls/effective?tenant=a%00b", None, 404),
        ("GET", f"{ROOT}/api_calls/effective?tenant=acme&agent=a%00b", None, 404),
        ("GET", f"{ROOT}/api_calls/tenants/a%00b", None, 404),
        ("PUT", f"{ROOT}/api_calls/tenants/a%00b", {"limit": 1}, 422),
        ("PUT", f"{ROOT}/api_calls/tenants/acme", {"limit": 1, "owner": "a\x00b"}, 201),
        ("GET", f"{ROOT}?key=a%00b&q=%00", None, 200),
        ("GET", f"{ROOT}/signals?tenant=a%00b", None, 200),
        ("POST", f"{ROOT}/simulate", {"key": "a\x00b", "limit": 1}, 404),
        ("POST", f"{ROOT}/simulate", {"key": "api_calls", "limit": 1, "tier": "a\x00b"}, 404),
        ("POST", f"{ROOT}/simulate", {"key": "api_calls", "limit": 1, "tier": "gold"}, 404),
        ("POST", f"{ROOT}/simulate", {"key": "api_calls", "limit": 1, "tenant": "nobody"}, 404),
        ("POST", ROOT, {"key": "signals", "limit": 1}, 422),
        ("PUT", f"{ROOT}/signals", {"limit": 1}, 422),
    ],
)
def test_names_that_cannot_be_are_refused_and_not_a_failure(
    client: TestClient, method: str, path: str, body: dict[str, object] | None, status: int
) -> None:
    said = client.request(method, path, json=body)
    assert said.status_code == status, said.text


def test_if_match_as_the_standard_says(client: TestClient) -> None:
    path = f"{ROOT}/api_calls/tenants/acme"
    exists = {"If-Match": "*"}
    assert client.put(path, json={"limit": 1}, headers=exists).status_code == 412, "it asks for one that is there"
    assert client.delete(path, headers=exists).status_code == 404
    assert client.delete(path, headers={"If-Match": '"3"'}).status_code == 404
    made = client.put(path, json={"limit": 1})
    assert made.status_code == 201
    weak = client.put(path, json={"limit": 2}, headers={"If-Match": f"W/{made.headers['etag']}"})
    assert (weak.status_code, client.get(path).json()["limit"]) == (412, 1)
    assert client.put(path, json={"limit": 2}, headers=exists).json()["limit"] == 2
    assert client.put(path, json={"limit": 3}, headers={"If-Match": "soon"}).status_code == 400
    now = client.get(path).headers["etag"]
    assert client.put(path, json={"limit": 3}, headers={"If-Match": f'W/{now}, "99"'}).status_code == 412
    assert client.put(path, json={"limit": 3}, headers={"If-Match": f'"99", {now}'}).json()["limit"] == 3
    assert client.delete(path, headers={"If-Match": made.headers["etag"]}).status_code == 412
    assert client.delete(path, headers=exists).status_code == 200


@pytest.mark.parametrize(
    ("body", "field", "allowed"),
    [
        ({"limit": True}, "limit", "a whole number"),
        ({"limit": "5"}, "limit", "a whole number"),
        ({"limit": 1.5}, "limit", "a whole number"),
        ({"limit": -1}, "limit", "at least 0"),
        ({"limit": 1, "warn_percent": 101}, "warn_percent", "at most 100"),
        ({"limit": 1, "policy": "hard"}, "policy", "'HARD', 'SOFT' or 'WARN'"),
        ({"limit": 1, "description": "d" * 501}, "description", "at most 500 letters"),
        ({"limit": 1, "burst": 5}, "burst", "no such field"),
        ({"limit": 1, "expires_at": "soon"}, "expires_at", "a moment such as 2030-01-31T12:00:00Z"),
    ],
)
def test_a_bad_value_is_named_with_what_would_do(
    client: TestClient, body: dict[str, object], field: str, allowed: str
) -> None:
    said = client.put(f"{ROOT}/api_calls/tenants/acme", json=body)
    assert said.status_code == 422, said.text
    (wrong,) = said.json()["errors"]
    assert (wrong["field"], wrong["allowed"]) == (field, allowed)


def test_of_a_request_id_only_so_much_is_kept_for_ever(client: TestClient, platform: Platform) -> None:
    long = {"x-request-id": "r" * 5000, "x-reason": "a long number"}
    assert client.put(f"{ROOT}/api_calls/tenants/acme", json={"limit": 1}, headers=long).status_code == 201
    assert client.post(f"{ROOT}/reconcile", headers=long).status_code == 200
    kept = {entry.reason: entry.request_id for entry in audit.entries(platform, SYSTEM, limit=2)}
    assert kept["a long number"] == "r" * 100


def test_lists_are_filtered_and_paged(client: TestClient, platform: Platform) -> None:
    with platform.database.session() as session:
        session.execute(text("INSERT INTO tenants (id, name, tier_code) SELECT 'n' || n, 'Number ' || n, 'free'"
                             " FROM generate_series(1, 12) n"))  # fmt: skip
    soon = (utcnow() + timedelta(days=2)).isoformat()
    late = (utcnow() + timedelta(days=60)).isoformat()
    for n in range(1, 13):
        body = {"limit": n, "active": n != 5, "owner": "sales" if n == 7 else ""}
        body |= {"expires_at": soon if n == 9 else late if n == 3 else None}
        assert client.put(f"{ROOT}/api_calls/tenants/n{n}", json=body).status_code == 201
    assert client.put(f"{ROOT}/api_calls/agents/bot", json={"limit": 1}).status_code == 201

    def found(**query: object) -> list[str]:
        return [row["tenant"] for row in client.get(ROOT, params=query).json()["items"]]

    tenants = [f"n{n}" for n in range(1, 13)]
    everyone = found(applies_to="TENANT")
    assert sorted(everyone) == sorted(tenants)
    assert everyone[:2] == ["n9", "n3"], "soon expiring first"
    assert len(found(applies_to=["TENANT", "AGENT"])) == 13
    assert found(applies_to="AGENT") == ["acme"]
    assert found(applies_to="TENANT", active=False) == ["n5"]
    assert found(applies_to="TENANT", expiring_days=7) == ["n9"]
    assert found(applies_to="TENANT", expiring_days=90) == ["n9", "n3"]
    assert found(applies_to="TENANT", q="sales") == ["n7"]
    assert found(applies_to="TENANT", q="umber 12") == ["n12"]
    pages = [found(applies_to="TENANT", limit=5, offset=at) for at in (0, 5, 10, 15)]
    assert [len(page) for page in pages] == [5, 5, 2, 0]
    assert [row for page in pages for row in page] == everyone
    paged = client.get(f"{ROOT}/api_calls/tenants", params={"limit": 5, "offset": 10, "q": "number"}).json()
    assert (len(paged["items"]), paged["total"], paged["offset"]) == (2, 12, 10)
    assert client.get(ROOT, params={"limit": 201}).status_code == 422


def test_a_repair_on_demand_is_on_record_and_a_dry_run_changes_nothing(client: TestClient, platform: Platform) -> None:
    platform.redis.delete(keys.config("api_calls"))
    before = len(audit.entries(platform, SYSTEM, "ratelimit/redis"))
    dry = client.post(f"{ROOT}/reconcile", params={"dry_run": True}).json()
    assert (dry["total"], dry["repaired"]) == (1, False)
    assert client.post(f"{ROOT}/reconcile", params={"dry_run": True}).json()["total"] == 1
    done = client.post(f"{ROOT}/reconcile", headers={"X-Reason": "it was wiped"}).json()
    assert (done["total"], done["repaired"]) == (1, True)
    assert client.post(f"{ROOT}/reconcile").json()["total"] == 0
    entries = audit.entries(platform, SYSTEM, "ratelimit/redis")
    assert len(entries) == before + 1
    assert (entries[0].action, entries[0].reason) == ("ratelimit.reconcile", "it was wiped")
    assert entries[0].before == {"differences": 1, "keys": ["api_calls"]}


def test_guessing_tokens_spends_the_allowance_of_the_address(client: TestClient, platform: Platform) -> None:
    assert client.get(ROOT).status_code == 200  # this token is known from now on
    tag = client.get(f"{ROOT}/console_api").headers["etag"]
    assert client.put(f"{ROOT}/console_api", json={"limit": 20}, headers={"If-Match": tag}).status_code == 200
    poll(lambda: platform.limiter.peek("console_api", "somebody").limit == 20)
    guesses = [client.get(ROOT, headers={"Authorization": f"Bearer guess-{n}"}).status_code for n in range(40)]
    assert set(guesses[:10]) == {401}
    assert guesses[-10:] == [429] * 10, "a new token each time is still the same address"
    free = [client.get("/openapi.json", headers={"Authorization": "Bearer open"}).status_code for _ in range(3)]
    assert free == [429] * 3, "what needs no token makes nobody known"
    assert client.get(ROOT).status_code == 200, "who has shown to be somebody has an allowance of its own"
    counters = set(platform.redis.scan_iter("rl:*:c:console_api:*"))
    assert len(counters) == 2, counters
