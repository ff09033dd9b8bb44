"""Policies from the console's operations through PostgreSQL and Redis to a limiter's decision."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from adapters.core import utcnow
from limiter import Limiter, Scope, keys
from operations import (
    access,
    audit,
    change,
    ratelimit_explain,
    ratelimit_history,
    ratelimit_usage,
    ratelimit_wire,
    ratelimit_yaml,
    ratelimits,
)
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
    document = ratelimit_yaml.export_yaml(tenants, PIM)
    assert ratelimit_yaml.preview_yaml(tenants, PIM, document) == ([], [])
    set_limit(tenants, Target("api_calls"), limit=2000)
    set_limit(tenants, Target("api_calls", Scope.TENANT, "acme"), limit=None)
    steps, _ = ratelimit_yaml.preview_yaml(tenants, PIM, document)
    assert sorted(step.kind for step in steps) == ["change", "delete"]
    newest = ratelimit_history.history(tenants, PIM, key="api_calls")
    ratelimit_history.revert(tenants, SYSTEM, newest[1].id)
    assert ratelimits.get(tenants, SYSTEM, Target("api_calls")).limit == 1000
    _, edits = ratelimit_yaml.preview_yaml(tenants, SYSTEM, document)
    ratelimit_yaml.import_yaml(tenants, SYSTEM, edits, reason="back")
    assert ratelimit_yaml.export_yaml(tenants, PIM) == document
    with pytest.raises(Invalid):
        ratelimit_yaml.preview_yaml(tenants, PIM, "ratelimits: {api_calls: {limit: -4}}")


@pytest.mark.parametrize(
    ("document", "field", "words"),
    [
        (
            "ratelimits: {k: {limit: 1, tenants: {a: {limit: 1, expires_at: 2030-02-30}}}}",
            "k.a.expires_at",
            "no moment",
        ),
        ("ratelimits: {k: {limit: !!int many}}", "document", "cannot be read"),
        ("ratelimits: {k: {limit: !!timestamp soon}}", "k/global.limit", "not a whole number"),
        ("[" * 3000, "document", "nested too deeply"),
        ("ratelimits: {k: {limit: 1, description: &a [*a]}}", "k.description", "not a single value"),
        ("ratelimits: {k: {limit: 1", "document", "is not YAML"),
        ("- 1", "ratelimits", "missing"),
    ],
)
def test_a_document_that_cannot_be_read_names_the_field(
    tenants: Platform, document: str, field: str, words: str
) -> None:
    with pytest.raises(Invalid) as refused:
        ratelimit_yaml.preview_yaml(tenants, PIM, document)
    assert refused.value.errors[0].field == field
    assert words in refused.value.errors[0].message


def test_a_whole_change_is_reverted_and_nothing_newer_is_lost(tenants: Platform) -> None:
    key, mine, team = Target("exports"), Target("exports", Scope.TENANT, "acme"), Target("exports", Scope.TIER, "team")
    made = [Edit(key, {"limit": 5}, 0), Edit(mine, {"limit": 3}, 0), Edit(team, {"limit": 4}, 0)]
    ratelimits.save(tenants, SYSTEM, made, reason="a new key")
    created = ratelimit_history.changes(tenants, PIM, key="exports")[0]
    assert (created.size, created.revertible, created.entries[0].subject) == (3, True, "ratelimit/exports/global")
    deleted = ratelimits.save(tenants, SYSTEM, [Edit(key, None)], reason="gone")
    assert len(deleted.done) == 3
    # The deletion taken back brings all three back, with what they said.
    ratelimit_history.revert(tenants, SYSTEM, ratelimit_history.changes(tenants, PIM, key="exports")[0].newest)
    found = ratelimits.listing(tenants, SYSTEM, key="exports", limit=10).rows
    assert {policy.target: policy.limit for policy in found} == {key: 5, mine: 3, team: 4}
    again = ratelimit_history.changes(tenants, PIM, key="exports")[0]
    assert (again.entries[0].action, again.size) == ("ratelimit.revert", 3)
    # Taking back what brought them back would delete two with their key: it is planned, and says so.
    set_limit(tenants, Target("exports", Scope.TENANT, "zero"), limit=9)
    plan = ratelimit_history.plan(tenants, SYSTEM, again.newest)
    assert (plan.lost, [edit.values for edit in plan.decided], plan.conflicts) == (3, [None], ())
    with pytest.raises(Conflict):  # an override came under it since
        ratelimit_history.revert(tenants, SYSTEM, again.newest)
    set_limit(tenants, Target("exports", Scope.TENANT, "zero"), limit=10)
    with pytest.raises(Conflict):  # and changed since the plan was looked at
        ratelimit_history.revert(tenants, SYSTEM, again.newest, shown=plan)
    assert ratelimits.get(tenants, SYSTEM, key).limit == 5
    plan = ratelimit_history.plan(tenants, SYSTEM, again.newest)
    assert len(ratelimit_history.revert(tenants, SYSTEM, again.newest, shown=plan).done) == 4
    with pytest.raises(Invalid, match="taken back already"):
        ratelimit_history.revert(tenants, SYSTEM, again.newest)


def test_a_revert_never_overwrites_a_newer_change_unseen(tenants: Platform) -> None:
    target = Target("api_calls", Scope.TENANT, "acme")
    set_limit(tenants, target, limit=5)
    first = ratelimit_history.history(tenants, PIM, key="api_calls")[0].id
    set_limit(tenants, target, limit=6)
    with pytest.raises(Conflict) as newer:
        ratelimit_history.revert(tenants, SYSTEM, first)
    assert newer.value.current["limit"] == 6
    plan = ratelimit_history.plan(tenants, SYSTEM, first)
    assert [(edit.values, stored and stored.limit) for edit, stored in plan.conflicts] == [(None, 6)]
    ratelimit_history.revert(tenants, SYSTEM, first, shown=plan)
    with pytest.raises(change.NotFound):
        ratelimits.get(tenants, SYSTEM, target)
    second = ratelimit_history.history(tenants, PIM, key="api_calls")[0].id
    ratelimit_history.revert(tenants, SYSTEM, second)  # a deletion taken back
    assert ratelimits.get(tenants, SYSTEM, target).limit == 6


def test_of_many_who_revert_the_same_change_one_does(tenants: Platform) -> None:
    set_limit(tenants, Target("api_calls"), limit=77)
    entry = ratelimit_history.history(tenants, PIM, key="api_calls")[0].id
    start = threading.Barrier(6)

    def attempt(_: int) -> str:
        start.wait(10)
        try:
            ratelimit_history.revert(tenants, SYSTEM, entry)
        except (Conflict, Invalid) as refused:
            return type(refused).__name__
        return "done"

    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(attempt, range(6)))
    assert said.count("done") == 1
    assert ratelimits.get(tenants, SYSTEM, Target("api_calls")).limit == 1000
    reverts = [one for one in ratelimit_history.history(tenants, PIM) if one.action == "ratelimit.revert"]
    assert len(reverts) == 1
    assert audit.verify_chain(tenants).ok
