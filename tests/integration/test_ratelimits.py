"""Policies from the console's operations through PostgreSQL and Redis to a limiter's decision."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from adapters.core import utcnow
from limiter import Limiter, Scope, keys
from operations import access, audit, ratelimit_explain, ratelimit_history, ratelimit_usage, ratelimit_wire, ratelimits
from operations.access import SYSTEM, Actor, Forbidden
from operations.change import Conflict, Invalid
from operations.platform import Platform
from operations.ratelimits import Edit, Target
from tests.support import poll

PIM = Actor("pim", "Pim", frozenset({"product_manager"}))


@pytest.fixture
def tenants(platform: Platform) -> Platform:
    with platform.database.session() as session:
        session.execute(
            text("INSERT INTO tenants (id, name, tier_code) VALUES ('acme', 'Acme', 'team'), ('zero', 'Zero', 'free')")
        )
        session.execute(text("INSERT INTO agents (id, tenant_id, name) VALUES ('bot', 'acme', 'Bot')"))
    ratelimit_wire.reconcile(platform)
    return platform


@pytest.fixture
def limiter(tenants: Platform) -> Iterator[Limiter]:
    with Limiter(tenants.redis, timeout=2.0) as made:
        assert made.wait_ready()
        yield made


def set_limit(platform: Platform, target: Target, **values: Any) -> ratelimits.Saved:
    return ratelimits.save(platform, SYSTEM, [Edit(target, values)], reason="a test")


def test_srs_defaults_are_obeyed_after_one_reconciliation(limiter: Limiter, tenants: Platform) -> None:
    assert limiter.check("api_calls", "acme").limit == 10_000
    free = limiter.check("voice_minutes", "zero")
    assert not free.allowed
    assert free.limit == 0
    assert limiter.check("api_calls", "nobody").source == "global"
    assert ratelimit_wire.reconcile(tenants).total == 0


def test_a_change_reaches_redis_and_a_running_limiter(limiter: Limiter, tenants: Platform) -> None:
    saved = set_limit(tenants, Target("api_calls", Scope.TENANT, "acme"), limit=500)
    assert saved.outcome.delivered
    poll(lambda: limiter.peek("api_calls", "acme").limit == 500)
    set_limit(tenants, Target("api_calls", Scope.AGENT, "bot"), limit=7)
    poll(lambda: limiter.peek("api_calls", "acme", "bot").limit == 7)
    assert limiter.peek("api_calls", "acme").limit == 500
    ratelimits.save(tenants, SYSTEM, [Edit(Target("api_calls", Scope.AGENT, "bot"), None)], reason="over")
    poll(lambda: limiter.peek("api_calls", "acme", "bot").limit == 500)
    assert audit.verify_chain(tenants).ok


def test_stale_versions_conflict_and_bad_values_name_the_field(tenants: Platform) -> None:
    target = Target("api_calls")
    seen = ratelimits.get(tenants, SYSTEM, target).version
    ratelimits.save(tenants, SYSTEM, [Edit(target, {"limit": 2000}, seen)], reason="more")
    with pytest.raises(Conflict) as conflict:
        ratelimits.save(tenants, SYSTEM, [Edit(target, {"limit": 3000}, seen)], reason="mine")
    assert conflict.value.current["limit"] == 2000
    with pytest.raises(Invalid) as bad:
        edits = [Edit(target, {"limit": 5}), Edit(target, {"limit": -1, "policy": "SOMETIMES"})]
        ratelimits.save(tenants, SYSTEM, edits, reason="no")
    assert {error.field for error in bad.value.errors} == {"limit", "policy"}
    assert ratelimits.get(tenants, SYSTEM, target).limit == 2000
    with pytest.raises(Forbidden):
        ratelimits.save(tenants, PIM, [Edit(target, {"limit": 5})], reason="no")
    assert access.Permission.RATELIMIT_VIEW in PIM.permissions


def test_reconcile_repairs_whatever_was_done_to_redis(tenants: Platform) -> None:
    set_limit(tenants, Target("api_calls", Scope.TENANT, "acme"), limit=500)
    redis = tenants.redis
    redis.set(keys.config("api_calls"), '{"limit": 1, "version": 900}')
    redis.hset(keys.overrides("api_calls"), "tenant:acme", "not json")
    redis.hset(keys.overrides("api_calls"), "tenant:zero", '{"limit": 5, "version": 1}')
    redis.delete(keys.config("llm_tokens"))
    seen = ratelimit_wire.reconcile(tenants, repair=False)
    assert seen.total == 4
    assert not seen.repaired
    assert ratelimit_wire.reconcile(tenants).total == 4
    assert ratelimit_wire.reconcile(tenants).total == 0
    redis.flushall()
    assert ratelimit_wire.reconcile(tenants).total > 5
    with Limiter(redis, timeout=2.0) as limiter:
        assert limiter.wait_ready()
        assert limiter.peek("api_calls", "acme").limit == 500


def test_explanation_use_and_proof(limiter: Limiter, tenants: Platform) -> None:
    until = utcnow() + timedelta(days=1)
    set_limit(tenants, Target("api_calls", Scope.TENANT, "acme"), limit=500, expires_at=until)
    poll(lambda: limiter.peek("api_calls", "acme").limit == 500)
    limiter.check("api_calls", "acme", cost=3)
    said = ratelimit_explain.explain(tenants, PIM, "api_calls", "acme")
    assert said.limit == 500
    assert said.used == 3
    assert "override for Acme" in said.sentence
    assert "tier Team says 10,000" in said.sentence
    for key, tenant in (("api_calls", "acme"), ("voice_minutes", "acme"), ("voice_minutes", "zero")):
        proof = ratelimit_explain.prove(tenants, SYSTEM, key, tenant)
        assert proof.right, proof
    assert ratelimit_explain.prove(tenants, SYSTEM, "api_calls", "acme").rejected_at == 501
    assert ratelimit_explain.reset(tenants, SYSTEM, "api_calls", "acme") == 3
    assert limiter.peek("api_calls", "acme").used == 0


def test_live_usage_blocked_log_and_what_if(limiter: Limiter, tenants: Platform) -> None:
    set_limit(tenants, Target("file_uploads", Scope.TENANT, "zero"), limit=5)
    poll(lambda: limiter.peek("file_uploads", "zero").limit == 5)
    answers = [limiter.check("file_uploads", "zero").allowed for _ in range(7)]
    assert answers == [True] * 5 + [False] * 2
    now = ratelimit_usage.live(tenants, PIM)
    assert ("zero", 5) in {(row.tenant, row.used) for row in now.near}
    assert now.subscribers >= 1
    assert len(ratelimit_usage.blocked(tenants, PIM, tenant="zero")) == 2
    assert ratelimit_usage.collect(tenants) == 1
    assert ratelimit_usage.collect(tenants) == 1
    what = ratelimit_usage.simulate(tenants, PIM, "file_uploads", limit=3, tenant="zero")
    assert what.over_total == 4
    assert what.affected[0].tenant == "zero"


def test_history_revert_and_yaml_round_trip(tenants: Platform) -> None:
    document = ratelimit_history.export_yaml(tenants, PIM)
    assert ratelimit_history.preview_yaml(tenants, PIM, document) == ([], [])
    set_limit(tenants, Target("api_calls"), limit=2000)
    set_limit(tenants, Target("api_calls", Scope.TENANT, "acme"), limit=None)
    steps, _ = ratelimit_history.preview_yaml(tenants, PIM, document)
    assert sorted(step.kind for step in steps) == ["change", "delete"]
    newest = ratelimit_history.history(tenants, PIM, key="api_calls")
    ratelimit_history.revert(tenants, SYSTEM, newest[1].id)
    assert ratelimits.get(tenants, SYSTEM, Target("api_calls")).limit == 1000
    assert ratelimit_history.import_yaml(tenants, SYSTEM, document, reason="back") is not None
    assert ratelimit_history.export_yaml(tenants, PIM) == document
    with pytest.raises(Invalid):
        ratelimit_history.preview_yaml(tenants, PIM, "ratelimits: {api_calls: {limit: -4}}")
