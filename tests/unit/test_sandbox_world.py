"""The demo world is the same for everyone, and hangs together."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from datetime import date, timedelta

import pytest

from sandbox.config import toml
from sandbox.demo import history
from sandbox.demo.world import KEYS, TIER, World, usage_of_day, world
from tests.support import ROOT

TODAY = date(2026, 3, 17)


@pytest.fixture(scope="module")
def made() -> World:
    return world(7, TODAY)


def test_same_seed_same_world_in_another_process(made: World) -> None:
    script = (
        "import hashlib; from datetime import date; from sandbox.demo.world import world\n"
        "print(hashlib.sha256(repr(world(7, date(2026, 3, 17))).encode()).hexdigest())"
    )
    import hashlib

    other = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == hashlib.sha256(repr(made).encode()).hexdigest()


def test_other_seed_other_world(made: World) -> None:
    assert world(8, TODAY).invoices != made.invoices


def test_forty_tenants_over_four_tiers_with_moves_and_failures(made: World) -> None:
    assert len(made.tenants) == 40
    assert {tenant.tier for tenant in made.tenants} == set(TIER)
    assert {"upgrade", "downgrade"} <= {one.move for one in made.subscriptions}
    assert any(one.status == "failed" and one.error for one in made.payments)
    assert any(one.overdue for one in made.invoices)
    assert len({one.service for one in made.incidents}) >= 6
    assert len({one.issued_on for one in made.invoices}) == 12


@pytest.mark.parametrize("offset", range(0, 400, 31))
def test_it_hangs_together_on_any_day(offset: int) -> None:
    one = world(offset, TODAY + timedelta(days=offset))
    tenants = {tenant.id: tenant for tenant in one.tenants}
    for subscription in one.subscriptions:
        assert subscription.tenant_id in tenants
        assert subscription.ended_at is None or subscription.ended_at >= subscription.started_at
        assert (subscription.status == "active") == (subscription.ended_at is None)
    for tenant in one.tenants:
        active = [sub for sub in one.subscriptions if sub.tenant_id == tenant.id and sub.status == "active"]
        assert len(active) == (0 if tenant.status == "closed" else 1)
        assert not active or active[0].plan == tenant.tier
        assert tenant.agents
    for invoice in one.invoices:
        assert invoice.amount_cents == sum(line.amount_cents for line in invoice.lines) >= 0
        assert invoice.issued_on <= one.today
    assert len({row.number for row in one.invoices}) == len(one.invoices)
    assert all(row.amount >= row.over >= 0 and row.blocked >= 0 and row.day < one.today for row in one.usage)
    for incident in one.incidents:
        assert incident.started_at < incident.ended_at


def test_a_limit_of_zero_blocks_and_no_limit_never_does(made: World) -> None:
    free = next(tenant for tenant in made.tenants if tenant.tier == "free")
    rows = [row for day in range(60) for row in usage_of_day(7, free, "free", TODAY + timedelta(days=day))]
    voice = [row for row in rows if row.key == "voice_minutes"]
    assert {row.key for row in rows} == set(KEYS)
    assert sum(row.amount for row in voice) == 0
    assert any(row.blocked for row in voice)
    large = [row for day in range(60) for row in usage_of_day(7, free, "enterprise", TODAY + timedelta(days=day))]
    assert not any(row.over or row.blocked for row in large)


def test_history_covers_its_time_without_gaps(made: World) -> None:
    from datetime import UTC, datetime

    now = datetime(2026, 3, 17, 12, 34, 56, tzinfo=UTC)
    for resolution, count in (("hour", history.HOURS), ("minute", history.MINUTES)):
        rows = list(history.health_rows(made, now, resolution))
        assert len(rows) == 12 * count
        assert len({row[:2] for row in rows}) == len(rows)
        assert all(row[2] == sum(row[3:8]) for row in rows)
        assert all(row[1] < now for row in rows)
    changes = list(history.state_change_rows(made, now))
    assert [row[1] for row in changes] == sorted(row[1] for row in changes)


def test_toml_is_toml() -> None:
    values = {"a": 'quote " and \\', "services": {"mcp": {"servers": [{"name": "x", "url": "y"}], "on": True, "n": 3}}}
    assert tomllib.loads(toml(values)) == values
