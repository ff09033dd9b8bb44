"""What the console explains is what the limiter does, for generated policies, tiers, expiries and subjects."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from adapters.core import utcnow
from limiter import Limiter, Mode, Scope, keys
from limiter.store import versions_of
from operations import ratelimit_explain, ratelimit_wire, ratelimits, tenants
from operations.access import SYSTEM
from operations.platform import Platform
from operations.ratelimits import Edit, Target
from tests.support import poll
from tests.support_operations import make

pytestmark = [pytest.mark.engines, pytest.mark.timeout(120)]

KEY = "api_calls"
TIERS = ("free", "starter", "team", "enterprise")
TENANTS = ("a", "b", "c")
AGENTS = {"a": ("x", "y"), "b": ("z",), "c": ()}
ROUNDS, EACH = 30, 10


@pytest.fixture
def console(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Platform]:
    platform = make(database_url, redis_url, monkeypatch, tmp_path)
    with platform.database.session() as session:
        session.execute(text("INSERT INTO tenants (id, name, tier_code) SELECT id, upper(id), 'free'"
                             " FROM unnest(ARRAY['a', 'b', 'c']) id"))  # fmt: skip
        session.execute(
            text("INSERT INTO agents (id, tenant_id, name) VALUES ('x','a','X'), ('y','a','Y'), ('z','b','Z')")
        )
    ratelimit_wire.reconcile(platform)
    yield platform
    platform.close()


def values(dice: random.Random, *, everyone: bool) -> dict[str, Any]:
    """A policy, perhaps inactive, unlimited, blocking or expired long ago, soon, or in a while."""
    found: dict[str, Any] = {
        "limit": dice.choice((None, 0, 1, 4, 50)),
        "policy": dice.choice(("HARD", "SOFT", "WARN") if everyone else (None, "HARD", "SOFT", "WARN")),
        # Windows so long that none ends while two answers are compared, but by the rarest accident.
        "window_seconds": dice.choice((86400, 2678400) if everyone else (None, 43200, 86400)),
        "active": dice.random() < 0.8,
        "warn_percent": dice.choice((80, 50) if everyone else (None, 50, 100)),
    }
    if not everyone:
        hours = dice.choice((None, None, -1, 1, 100))
        found["expires_at"] = None if hours is None else utcnow() + timedelta(hours=hours)
    return found


def edits(platform: Platform, dice: random.Random) -> list[Edit]:
    """Any state to any other: some policies set, some cleared."""
    chosen = [Edit(Target(KEY), values(dice, everyone=True))]
    targets = [Target(KEY, Scope.TIER, tier) for tier in TIERS]
    targets += [Target(KEY, Scope.TENANT, tenant) for tenant in TENANTS]
    targets += [Target(KEY, Scope.AGENT, agent) for agents in AGENTS.values() for agent in agents]
    there = {row.target for row in ratelimits.listing(platform, SYSTEM, key=KEY, limit=200).rows}
    for target in targets:
        if dice.random() < 0.5:
            chosen.append(Edit(target, values(dice, everyone=False)))
        elif target in there:
            chosen.append(Edit(target, None))
    return chosen


def test_explanations_equal_decisions(console: Platform) -> None:
    dice, compared = random.Random(8), 0
    seen: set[str] = set()
    with Limiter(console.redis, timeout=5.0) as limiter:
        assert limiter.wait_ready()
        for _ in range(ROUNDS):
            saved = ratelimits.save(console, SYSTEM, edits(console, dice), reason="a draw")
            assert saved.outcome.delivered
            if dice.random() < 0.5:
                move(console, dice)
            poll(lambda: current(console, limiter))
            for _ in range(EACH):
                tenant = dice.choice(TENANTS)
                agent = dice.choice((None, *AGENTS[tenant]))
                compare(console, limiter, tenant, agent)
                seen.add(ratelimit_explain.explain(console, SYSTEM, KEY, tenant, agent).source.partition(":")[0])
                compared += 1
    assert compared == ROUNDS * EACH
    assert seen >= {"agent", "tenant", "tier", "global"}


def move(platform: Platform, dice: random.Random) -> None:
    """A tenant to another tier, or the same."""
    tenant = dice.choice(TENANTS)
    seen = tenants.get(platform, SYSTEM, tenant).tier_code
    tenants.change_tier(platform, SYSTEM, tenant, dice.choice(TIERS), seen, "a draw")


def current(platform: Platform, limiter: Limiter) -> bool:
    """Whether the limiter has everything Redis has."""
    return not limiter.store.table.stale(versions_of(platform.redis.hgetall(keys.VERSIONS)))


def compare(platform: Platform, limiter: Limiter, tenant: str, agent: str | None) -> None:
    said = ratelimit_explain.explain(platform, SYSTEM, KEY, tenant, agent)
    did = limiter.check(KEY, tenant, agent)
    assert not did.degraded
    assert (said.limit, said.policy, said.source, said.window_seconds) == (
        did.limit, did.policy, did.source, did.window_seconds
    )  # fmt: skip
    assert [link.decides for link in said.chain].count(True) == (did.source != "none")
    assert said.used is not None
    fits = said.limit is None or said.used + 1 <= said.limit
    assert did.allowed is (fits or (said.policy != Mode.HARD and said.limit != 0))
    assert did.over_limit is (not fits)
    if did.allowed:
        assert did.used == said.used + 1
    again = ratelimit_explain.explain(platform, SYSTEM, KEY, tenant, agent)
    assert again.used == did.used
    assert again.remaining == did.remaining
    assert f"{'unlimited' if did.limit is None else f'{did.limit:,}'}" in again.sentence.lower()
