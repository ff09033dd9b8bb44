"""What the console explains is what the limiter does: 10,000 generated combinations, expiries passing meanwhile."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from adapters.core import utcnow
from limiter import Decision, Limiter, Mode, Scope, keys
from limiter.store import versions_of
from operations import ratelimit_explain, ratelimit_wire, ratelimits
from operations.access import SYSTEM
from operations.platform import Platform
from operations.ratelimit_explain import Explanation
from operations.ratelimits import Edit, Target
from tests.support import poll
from tests.support_operations import make

pytestmark = [pytest.mark.engines, pytest.mark.timeout(300)]

KEYS, TENANTS, AGENTS = 500, ("a", "b", "c", "d"), ("x", "y")
TIERS = ("free", "starter", "team", "enterprise")
COMBINATIONS = 10_000
THREADS = 4


@pytest.fixture
def console(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Platform]:
    platform = make(database_url, redis_url, monkeypatch, tmp_path)
    with platform.database.session() as session:
        for number, tenant in enumerate(TENANTS):
            session.execute(
                text("INSERT INTO tenants (id, name, tier_code) VALUES (:id, upper(:id), :tier)"),
                {"id": tenant, "tier": TIERS[number % 3]},
            )
            for agent in AGENTS:
                session.execute(
                    text("INSERT INTO agents (id, tenant_id, name) VALUES (:id, :tenant, upper(:id))"),
                    {"id": tenant + agent, "tenant": tenant},
                )
    yield platform
    platform.close()


def world(platform: Platform, dice: random.Random) -> None:
    """Policies of every key at every scope; those that expire did lately, or do while they are compared."""
    now = utcnow()

    def row(key: str, scope: str, **reference: str) -> dict[str, Any]:
        everyone = scope == "GLOBAL"
        seconds = dice.choice((None, None, -3600, dice.uniform(-30, 0), dice.uniform(0, 60), dice.uniform(0, 60), 1e6))
        return {
            "key": key, "scope": scope, "tier_code": None, "tenant_id": None, "agent_id": None, **reference,
            "limit_value": dice.choice((None, 0, 1, 2, 50)),
            "window_seconds": dice.choice((86400, 2678400) if everyone else (None, 43200, 86400)),
            "policy": dice.choice(("HARD", "SOFT", "WARN") if everyone else (None, "HARD", "SOFT", "WARN")),
            "warn_percent": dice.choice((80, 50) if everyone else (None, 50, 100)),
            "on_redis_failure": "deny" if everyone else None,
            "active": dice.random() < 0.8,
            "expires_at": None if everyone or seconds is None else now + timedelta(seconds=seconds),
        }  # fmt: skip

    rows = []
    for number in range(KEYS):
        key = f"k{number}"
        rows.append(row(key, "GLOBAL"))
        rows += [row(key, "TIER", tier_code=tier) for tier in TIERS if dice.random() < 0.5]
        for tenant in TENANTS:
            if dice.random() < 0.5:
                rows.append(row(key, "TENANT", tenant_id=tenant))
            for agent in AGENTS:
                if dice.random() < 0.4:
                    rows.append(row(key, "AGENT", tenant_id=tenant, agent_id=tenant + agent))
    with platform.database.session(seconds=30) as session:
        known = text("INSERT INTO rate_limit_keys (key) SELECT unnest(CAST(:keys AS text[]))")
        session.execute(known, {"keys": [f"k{number}" for number in range(KEYS)]})
        session.execute(
            text(
                "INSERT INTO rate_limit_policies (key, scope, tier_code, tenant_id, agent_id, limit_value,"
                " window_seconds, policy, warn_percent, on_redis_failure, active, expires_at, version) VALUES (:key,"
                " :scope, :tier_code, :tenant_id, :agent_id, :limit_value, :window_seconds, :policy, :warn_percent,"
                " :on_redis_failure, :active, :expires_at, 1)"
            ),
            rows,
        )
    ratelimit_wire.reconcile(platform)


def server_time(platform: Platform) -> datetime:
    seconds, micros = platform.redis.time()
    return datetime.fromtimestamp(seconds + micros / 1e6, UTC)


def alike(said: Explanation, did: Decision) -> bool:
    """Whether a decision is the one that was explained just before."""
    assert not did.degraded
    assert said.used is not None
    fits = said.limit is None or said.used + 1 <= said.limit
    allowed = fits or (said.policy != Mode.HARD and said.limit != 0)
    return (
        (said.limit, said.policy, said.source, said.window_seconds)
        == (did.limit, did.policy, did.source, did.window_seconds)
        and [link.decides for link in said.chain].count(True) == (did.source != "none")
        and (did.allowed, did.over_limit) == (allowed, not fits)
        and did.used == said.used + allowed
        and did.warning is (did.limit is not None and did.used * 100 >= did.limit * said.warn_percent)
    )


Who = tuple[str, str, str | None]


def compare(console: Platform, limiter: Limiter, some: list[Who]) -> Counter[str]:
    """Every explanation beside the decision made just after it; how often each kind of rule decided."""
    seen: Counter[str] = Counter()
    for key, tenant, agent in some:
        for _ in range(3):
            said = ratelimit_explain.explain(console, SYSTEM, key, tenant, agent)
            did = limiter.check(key, tenant, agent)
            if alike(said, did):
                break
            # Nothing but a rule that expired in between may be the reason.
            assert said.valid_until is not None and said.valid_until <= server_time(console), (said, did)
            seen["passed"] += 1
        else:
            pytest.fail(f"{key} {tenant} {agent} never agreed: {said} {did}")
        seen[said.source.partition(":")[0]] += 1
        seen["with one expired"] += any("expired" in link.sentence for link in said.chain)
    return seen


def test_the_explanation_equals_the_decision_for_10000_combinations(console: Platform) -> None:
    dice = random.Random(20)
    world(console, dice)
    everybody: list[Who] = [(f"k{n}", tenant, agent) for n in range(KEYS) for tenant in TENANTS
                            for agent in (None, tenant + "x", tenant + "y")]  # fmt: skip
    dice.shuffle(everybody)
    everybody += dice.sample(everybody, COMBINATIONS - len(everybody))  # again, later
    # Those of one key in one thread, so that nobody else uses anything between an explanation and its decision.
    shares = [[who for who in everybody if int(who[0][1:]) % THREADS == n] for n in range(THREADS)]
    with Limiter(console.redis, timeout=5.0) as limiter, ThreadPoolExecutor(THREADS) as pool:
        assert limiter.wait_ready(30)
        found = list(pool.map(lambda share: compare(console, limiter, share), shares))
    seen = sum(found, Counter())
    assert sum(seen[source] for source in ("agent", "tenant", "tier", "global", "none")) == COMBINATIONS
    assert min(seen[name] for name in ("agent", "tenant", "tier", "global", "none", "with one expired")) > 100, seen
    assert seen["passed"] < 50


def test_explanations_go_by_the_servers_clock(console: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    ratelimits.save(
        console, SYSTEM, [Edit(Target("k"), {"limit": 5, "window_seconds": 3600, "policy": "HARD"})], reason="x"
    )
    until = utcnow() + timedelta(seconds=3600)
    with console.database.session() as session:
        session.execute(
            text("INSERT INTO rate_limit_policies (key, scope, tenant_id, limit_value, expires_at, version)"
                 " VALUES ('k', 'TENANT', 'a', 50, :until, 1)"), {"until": until},
        )  # fmt: skip
    ratelimit_wire.reconcile(console)
    with Limiter(console.redis, timeout=5.0) as limiter:
        assert limiter.wait_ready()
        poll(lambda: not limiter.store.table.stale(versions_of(console.redis.hgetall(keys.VERSIONS))))
        monkeypatch.setattr(ratelimit_explain, "utcnow", lambda: utcnow() + timedelta(hours=2))
        assert limiter.check("k", "a").limit == ratelimit_explain.explain(console, SYSTEM, "k", "a").limit == 50
        assert ratelimit_explain.effective_many(console, [("k", "a", None)])[0].limit == 50


def test_the_sentence_quotes_rules_in_force_only(console: Platform) -> None:
    targets = Target("k"), Target("k", Scope.TIER, "free"), Target("k", Scope.TENANT, "a")
    values = (
        {"limit": 7, "window_seconds": 3600, "policy": "HARD"}, {"limit": 10_000, "active": False},
        {"limit": 500, "expires_at": utcnow() - timedelta(hours=1)},
    )  # fmt: skip
    edits = [Edit(target, value) for target, value in zip(targets, values, strict=True)]
    ratelimits.save(console, SYSTEM, edits, reason="x")
    said = ratelimit_explain.explain(console, SYSTEM, "k", "a")
    assert said.sentence == "7 per hour, from the limit for everyone."
    assert [link.sentence.rsplit(": ", 1)[1] for link in said.chain] == ["expired.", "not active.", "this one decides."]
    with console.database.session() as session:
        session.execute(text("UPDATE rate_limit_policies SET active = true, expires_at = NULL"))
    said = ratelimit_explain.explain(console, SYSTEM, "k", "a")
    assert said.sentence.startswith(
        "500 per hour, from the override for A set by Pilothouse; tier Free says 10,000; the limit for everyone"
    )
