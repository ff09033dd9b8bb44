"""Policies on their way from PostgreSQL to limiters when Redis lost them, or holds what nobody wrote."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from adapters.core import utcnow
from limiter import Limiter, Scope, keys, publish, usage
from operations import ratelimit_usage, ratelimit_wire, ratelimits
from operations.access import SYSTEM
from operations.platform import Platform
from operations.ratelimits import Edit, Target
from tests.support import poll
from tests.support_operations import make

pytestmark = [pytest.mark.engines, pytest.mark.timeout(120)]

KEY, OTHER = "api_calls", "llm_tokens"
TENANTS = 1200
"""More than one chunk of a repair."""


@pytest.fixture
def console(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Platform]:
    platform = make(database_url, redis_url, monkeypatch, tmp_path)
    with platform.database.session() as session:
        session.execute(
            text("INSERT INTO tenants (id, name, tier_code) SELECT 't' || n, 'T ' || n, 'team'"
                 " FROM generate_series(1, :n) n"), {"n": TENANTS},
        )  # fmt: skip
        session.execute(
            text("INSERT INTO rate_limit_policies (key, scope, tenant_id, limit_value, version)"
                 " SELECT :key, 'TENANT', 't' || n, n, 1 FROM generate_series(1, :n) n"), {"key": KEY, "n": TENANTS},
        )  # fmt: skip
    ratelimit_wire.reconcile(platform)
    yield platform
    platform.close()


def save(platform: Platform, target: Target, **values: object) -> None:
    saved = ratelimits.save(platform, SYSTEM, [Edit(target, values or None)], reason="a test")
    assert saved.outcome.delivered


def test_a_save_after_redis_was_emptied_brings_everything_back_at_once(console: Platform) -> None:
    save(console, Target("doomed"), limit=4)
    seen: list[tuple[int | None, ...]] = []
    with Limiter(console.redis, timeout=5.0) as limiter:
        assert limiter.wait_ready()
        whole = dict(limiter.store.table.keys)
        other = limiter.peek(OTHER, "t1").limit
        table = limiter.store.table
        real = type(table).apply

        def watched(self: object, *arguments: object) -> None:
            real(self, *arguments)  # type: ignore[arg-type]
            if KEY in table.keys:
                found = table.keys[KEY].tenants
                seen.append(tuple(rule.limit if (rule := found.get(f"t{n}")) else None for n in (2, 700, TENANTS)))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(table), "apply", watched)
            console.redis.flushall()
            save(console, Target(KEY, Scope.TENANT, "t1"), limit=77)
            poll(lambda: limiter.peek(KEY, "t1").limit == 77)
        assert set(seen) <= {(2, 700, TENANTS)}, "nobody saw a part"
        assert [limiter.peek(KEY, f"t{n}").limit for n in (700, TENANTS)] == [700, TENANTS]
        assert limiter.peek(OTHER, "t1").limit == other
        with Limiter(console.redis, timeout=5.0) as fresh:
            assert fresh.wait_ready()
            assert fresh.store.table.keys.keys() == whole.keys()
            assert fresh.peek(OTHER, "t1").limit == other
        # A key that is deleted while Redis has forgotten it goes from limiters that know it.
        assert limiter.peek("doomed", "t1").limit == 4
        console.redis.flushall()
        save(console, Target("doomed"))
        poll(lambda: limiter.peek("doomed", "t1").source == "none")
    assert ratelimit_wire.reconcile(console, repair=False).total == 0


def test_strange_names_and_types_are_reported_removed_and_stop_nothing(console: Platform) -> None:
    redis = console.redis
    redis.hset(keys.VERSIONS, mapping={"Bad Key": "1", "": "2", "x" * 300: "3"})
    redis.set(keys.config("Bad Key"), "{}")
    redis.delete(keys.overrides(KEY))
    redis.set(keys.overrides(KEY), "no hash")
    redis.lpush("elsewhere", "untouched")
    redis.delete(keys.config("llm_tokens"))
    seen = ratelimit_wire.reconcile(console, repair=False)
    assert not seen.repaired
    assert {(one.key, one.name) for one in seen.differences} >= {
        ("Bad Key", "name"), ("", "name"), ("x" * 80, "name"), (KEY, "type"), ("llm_tokens", "policy")
    }  # fmt: skip
    assert ratelimit_wire.reconcile(console).repaired
    assert ratelimit_wire.reconcile(console, repair=False).total == 0
    assert not {"Bad Key", "", "x" * 300} & set(redis.hkeys(keys.VERSIONS))
    assert not redis.exists(keys.config("Bad Key"))
    assert redis.lrange("elsewhere", 0, -1) == ["untouched"]
    redis.delete(keys.VERSIONS)
    redis.set(keys.VERSIONS, "no hash")
    assert [one.name for one in ratelimit_wire.reconcile(console, repair=False).differences] == ["type"]
    ratelimit_wire.reconcile(console)
    with Limiter(redis, timeout=5.0) as limiter:
        assert limiter.wait_ready()
        assert limiter.peek(KEY, "t700").limit == 700


def test_removed_overrides_are_pruned_after_a_day(console: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = [Edit(Target(KEY, Scope.TENANT, f"t{n}"), None) for n in range(1, 601)]
    assert ratelimits.save(console, SYSTEM, gone, reason="a test").outcome.delivered
    size = console.redis.hlen(keys.overrides(KEY))
    ratelimit_wire.reconcile(console)
    assert console.redis.hlen(keys.overrides(KEY)) == size, "not yet"
    monkeypatch.setattr(ratelimit_wire, "PRUNED_AFTER_SECONDS", -1)
    assert ratelimit_wire.reconcile(console).total == 0
    assert console.redis.hlen(keys.overrides(KEY)) == TENANTS - 600
    assert ratelimit_wire.reconcile(console, repair=False).total == 0


def test_usage_of_a_host_whose_clock_is_behind_comes_home(console: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    import limiter.core

    real = limiter.core.time.time
    with monkeypatch.context() as patch, Limiter(console.redis, timeout=5.0) as behind:
        patch.setattr(limiter.core.time, "time", lambda: real() - 5 * 3600)
        assert behind.wait_ready()
        assert behind.check(OTHER, "t9", cost=3).allowed
    ratelimit_usage.collect(console)
    with console.database.session() as session:
        rows = session.execute(text("SELECT amount, hour FROM rate_limit_usage WHERE subject = 't9'")).all()
    assert [row.amount for row in rows] == [3]
    assert rows[0].hour > utcnow() - timedelta(hours=2)


def test_tenants_tiers_come_back_too(console: Platform) -> None:
    publish.apply(console.redis, keys.TENANTS, 10**6, overrides={"t5": {"tier": "enterprise"}})
    for name in (keys.changes(keys.TENANTS), keys.config(keys.TENANTS)):
        console.redis.delete(name)
    ratelimit_wire.reconcile(console)
    with Limiter(console.redis, timeout=5.0) as limiter:
        assert limiter.wait_ready()
        assert limiter.store.table.tiers["t5"] == "team"
        assert len(limiter.store.table.tiers) == TENANTS
    assert usage.leaders(console.redis, [KEY]) == []
