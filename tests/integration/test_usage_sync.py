"""Usage brought home, turned into events and sent: each of them exact, whatever came before."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import text

from adapters.core import Unexpected, Unreachable, utcnow
from adapters.lago import Lago
from limiter import Limiter, keys
from limiter.lease import LeasedLimiter
from operations import (
    maintenance,
    outbox,
    ratelimit_usage,
    ratelimit_wire,
    tenant_leaving,
    tenant_parts,
    usage_plan,
    usage_sync,
)
from operations.platform import Platform
from operations.usage_plan import Planned
from tests.contract.openapi import serve
from tests.support_operations import make
from tests.support_usage import KEY, lago, subscribe

pytestmark = pytest.mark.engines

HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
SUBSCRIPTIONS = {"acme": "sub-acme", "bolt": "sub-bolt"}


@pytest.fixture
def billing(tmp_path: Path) -> Iterator[Any]:
    app = lago(tmp_path / "lago", SUBSCRIPTIONS)
    with serve(app) as app.state.url:
        yield app


@pytest.fixture
def console(
    billing: Any, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Platform]:
    monkeypatch.setenv("PILOTHOUSE_LAGO_URL", billing.state.url)
    monkeypatch.setenv("PILOTHOUSE_LAGO_API_KEY", KEY)
    platform = make(database_url, redis_url, monkeypatch, tmp_path)
    with platform.database.session() as session:
        session.execute(
            text(
                "INSERT INTO tenants (id, name, tier_code, lago_customer_id) VALUES"
                " ('acme', 'Acme', 'team', 'acme'), ('bolt', 'Bolt', 'team', 'bolt'), ('dune', 'Dune', 'free', 'dune')"
            )
        )
    yield platform
    platform.close()


def count(
    platform: Platform, subject: str, amount: int, over: int = 0, *, key: str = "api_calls", ago: int = 0
) -> None:
    """Let the limiter have counted so much in all, ``ago`` hours ago."""
    with platform.database.session() as session:
        session.execute(
            text(
                "INSERT INTO rate_limit_usage (key, subject, hour, amount, over) VALUES (:key, :subject, :hour,"
                " :amount, :over) ON CONFLICT (key, subject, hour) DO UPDATE SET amount = :amount, over = :over"
            ),
            {"key": key, "subject": subject, "hour": HOUR - timedelta(hours=ago), "amount": amount, "over": over},
        )


def plan(platform: Platform, rows: int = 2000) -> Planned:
    book = usage_plan.read_book(platform)
    return Planned() if book is None else usage_plan.plan(platform, book, rows=rows)


def planned(platform: Platform) -> list[tuple[Any, ...]]:
    with platform.database.session() as session:
        rows = session.execute(
            text("SELECT tenant_id, key, part, amount, over, subscription_id FROM usage_events ORDER BY id")
        )
        return [tuple(row) for row in rows]


def sums(billing: Any) -> dict[tuple[str, str], tuple[int, int]]:
    found = billing.state.lago.sums()
    return {place: (entry["units"], entry["over"]) for place, entry in found.items()}


# Bringing it home


def counted(platform: Platform) -> dict[str, tuple[int, int, int]]:
    with platform.database.session() as session:
        rows = session.execute(
            text("SELECT subject, sum(amount), sum(over), sum(blocked) FROM rate_limit_usage GROUP BY 1")
        )
        return {row[0]: (int(row[1]), int(row[2]), int(row[3])) for row in rows}


def write(redis: Redis, hour: int, subject: str, **letters: int) -> None:
    number = keys.shard("api_calls", subject)
    redis.hset(keys.hours(number, hour), mapping={f"{k}|api_calls|{subject}": v for k, v in letters.items()})


def test_usage_comes_home_after_an_outage_of_days_and_never_shrinks(console: Platform) -> None:
    ratelimit_wire.reconcile(console)
    now = int(time.time()) // 3600
    for back in (90, 40, 5, 0):
        write(console.redis, now - back, "acme", a=10, o=2, b=1)
    assert ratelimit_usage.collect(console) == 4
    assert counted(console) == {"acme": (40, 8, 4)}
    # The worker was away for a while: what was counted meanwhile is found, from the last hour known on.
    with console.database.session() as session:
        session.execute(text("DELETE FROM rate_limit_usage WHERE hour > now() - interval '30 hours'"))
    write(console.redis, now - 20, "acme", a=7)
    ratelimit_usage.collect(console)
    assert counted(console) == {"acme": (47, 8, 4)}
    # Redis was emptied in the middle of the hour: fewer units, more refusals. Each keeps its greater value.
    write(console.redis, now, "acme", a=3, o=0, b=30)
    ratelimit_usage.collect(console)
    assert counted(console) == {"acme": (47, 8, 33)}


def test_collectors_side_by_side_agree(console: Platform) -> None:
    now = int(time.time()) // 3600

    def grow(_step: int) -> int:
        for number in range(20):
            subject = f"tenant-{number}"
            hours = keys.hours(keys.shard("api_calls", subject), now)
            console.redis.hincrby(hours, f"a|api_calls|{subject}", 10)  # as limiters count: it never shrinks
            console.redis.hincrby(hours, f"o|api_calls|{subject}", 1)
        return ratelimit_usage.collect(console)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(grow, range(12)))
    write(console.redis, now, "tenant-0", a=999)
    ratelimit_usage.collect(console)
    found = counted(console)
    assert found["tenant-0"][0] == 999
    assert len(found) == 20
    assert all(counts == (120, 12, 0) for tenant, counts in found.items() if tenant != "tenant-0")


# Turning it into events


def test_parts_add_up_and_an_agent_counts_for_its_tenant(console: Platform) -> None:
    count(console, "acme", 10, 1)
    count(console, "acme/bot", 5)
    assert plan(console) == Planned(1, {"api_calls": 15})
    assert plan(console) == Planned()
    count(console, "acme", 12, 4)
    count(console, "acme/bot", 5, 2)  # what was over came home later than what was used
    plan(console)
    hour = f"{HOUR:%Y-%m-%dT%H}"
    assert planned(console) == [
        ("acme", "api_calls", 1, 15, 1, "sub-acme"),
        ("acme", "api_calls", 2, 2, 5, "sub-acme"),
    ]
    with console.database.session() as session:
        names = session.scalars(text("SELECT transaction_id FROM usage_events ORDER BY id")).all()
    assert names == [f"acme:api_calls:{hour}:1", f"acme:api_calls:{hour}:2"]


def test_planners_side_by_side_take_each_unit_once(console: Platform) -> None:
    for number in range(12):
        count(console, "acme" if number % 2 else "bolt", 10 + number, ago=number)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: plan(console, rows=5), range(8)))
    assert sum(row[3] for row in planned(console)) == sum(range(10, 22))
    assert len(planned(console)) == 12


def test_what_nobody_can_be_billed_for_waits_and_is_billed_later(console: Platform, billing: Any) -> None:
    count(console, "dune", 9, ago=3)
    count(console, "dune/bot", 1)
    count(console, "acme", 4, key="logins")
    count(console, "-", 2)
    done = plan(console)
    assert (done.events, done.unbillable) == (0, {"api_calls": 12, "logins": 4})
    with console.database.session() as session:
        why = session.execute(text("SELECT tenant_id, key, amount, reason FROM usage_unbillable ORDER BY 1, 2")).all()
    assert [tuple(row) for row in why] == [
        ("-", "api_calls", 2, "is no tenant here"),
        ("acme", "logins", 4, "no billable metric in Lago"),
        ("dune", "api_calls", 10, "has no active subscription in Lago"),
    ]
    subscribe(billing, "dune", "sub-dune", days_ago=0)
    assert plan(console).unbillable == {"api_calls": 2, "logins": 4}
    assert [row[3] for row in planned(console)] == [9, 1]
    # Lago bills nothing from before a subscription began: the event says the moment after that.
    with console.database.session() as session:
        began = session.scalars(text("SELECT at > now() - interval '1 minute' FROM usage_events")).all()
    assert began == [True, True]


# Sending it


def test_a_bad_event_keeps_no_other_back_and_is_offered_again(console: Platform, billing: Any) -> None:
    for back in range(1, 6):
        count(console, "acme", 10, ago=back)
    plan(console)
    with console.database.session() as session:
        session.execute(text("UPDATE usage_events SET subscription_id = '' WHERE part = 1 AND hour = :hour"),
                        {"hour": HOUR - timedelta(hours=3)})  # fmt: skip
    sent = usage_sync.send(console)
    assert (sent.events, sent.refused, sent.left) == (4, 1, 0)
    assert sums(billing) == {("sub-acme", "api_calls"): (40, 0)}
    assert usage_sync.send(console).events == 0  # not within the hour
    with console.database.session() as session:
        said, attempts = session.execute(
            text("SELECT last_error, attempts FROM usage_events WHERE sent_at IS NULL")
        ).one()
        session.execute(text("UPDATE usage_events SET subscription_id = 'sub-acme', refused_at = now() - interval '2 h'"
                             " WHERE sent_at IS NULL"))  # fmt: skip
    assert said == "external_subscription_id: value_is_mandatory" and attempts == 1
    assert usage_sync.send(console).events == 1
    assert sums(billing) == {("sub-acme", "api_calls"): (50, 0)} and usage_sync.waiting(console) == 0


def test_where_lago_does_not_name_the_culprit_it_is_found_by_halves(
    console: Platform, billing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for back in range(1, 10):
        count(console, "acme", back, ago=back)
    plan(console)
    whole = billing.state.lago._checked_event
    from sandbox.standins import lago as standin

    def unnamed(given: Any) -> Any:
        if given["properties"]["units"] == 4:
            raise standin.Problem(400, "odd_event")
        return whole(given)

    monkeypatch.setattr(billing.state.lago, "_checked_event", unnamed)
    sent = usage_sync.send(console)
    assert (sent.events, sent.refused) == (8, 1)
    assert sums(billing) == {("sub-acme", "api_calls"): (41, 0)}
    with console.database.session() as session:
        assert session.execute(text("SELECT amount, last_error FROM usage_events WHERE sent_at IS NULL")).one() == (
            4, "odd_event",
        )  # fmt: skip


def test_sent_twice_counts_once_and_an_outage_is_noted(
    console: Platform, billing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    count(console, "acme", 30, 3)
    count(console, "bolt", 20)
    plan(console)
    lost = Lago.send_events

    def answer_lost(self: Lago, *args: Any) -> Any:
        lost(self, *args)
        raise Unexpected("Lago answered HTTP 502.")

    with monkeypatch.context() as patch:
        patch.setattr(Lago, "send_events", answer_lost)
        with pytest.raises(Unexpected):
            usage_sync.send(console)
    with console.database.session() as session:
        assert session.scalars(text("SELECT DISTINCT last_error FROM usage_events")).all() == [
            "Lago answered HTTP 502."
        ]
    count(console, "acme", 31, 3)
    plan(console)
    sent = usage_sync.send(console)
    assert (sent.events, sent.units, sent.left) == (3, {"api_calls": 51}, 0)
    assert sums(billing) == {("sub-acme", "api_calls"): (31, 3), ("sub-bolt", "api_calls"): (20, 0)}


def test_a_database_from_yesterday_bills_only_what_lago_has_not(console: Platform, billing: Any) -> None:
    count(console, "acme", 10, 1)
    plan(console)
    usage_sync.send(console)
    with console.database.session() as session:  # as a restored backup would have it
        session.execute(text("DELETE FROM usage_events"))
        session.execute(text("UPDATE rate_limit_usage SET billed = 0, billed_over = 0"))
    count(console, "acme", 25, 4)
    for _ in range(2):
        plan(console)
        usage_sync.send(console)
    assert sums(billing) == {("sub-acme", "api_calls"): (25, 4)}
    assert [row[2:5] for row in planned(console)] == [(1, 10, 1), (2, 15, 3)]


def test_events_taken_long_ago_go_and_nothing_is_billed_again(console: Platform, billing: Any) -> None:
    old, young = 24 * 401, 24 * 399
    for ago in (old, young, old + 1, old + 2):
        count(console, "acme", 10, ago=ago)
    plan(console)
    while usage_sync.send(console).events:
        continue
    with console.database.session() as session:
        session.execute(text("UPDATE usage_events SET sent_at = hour + interval '1 hour'"))
        # One of these hours was never taken, of another some is not billed yet: a further part would need a new name.
        session.execute(
            text("UPDATE usage_events SET sent_at = NULL, refused_at = now() WHERE hour = :hour"),
            {"hour": HOUR - timedelta(hours=old + 1)},
        )
    count(console, "acme", 14, ago=old + 2)
    assert maintenance.clean_up(console).usage_events == 1
    assert maintenance.clean_up(console).usage_events == 0
    with console.database.session() as session:
        left = set(session.scalars(text("SELECT hour FROM usage_events")))
    assert left == {HOUR - timedelta(hours=ago) for ago in (young, old + 1, old + 2)}
    plan(console)
    with console.database.session() as session:
        further = session.execute(text("SELECT part, amount, hour FROM usage_events WHERE part > 1")).all()
    assert [tuple(row) for row in further] == [(2, 4, HOUR - timedelta(hours=old + 2))]
    usage_sync.send(console)
    assert sums(billing)["sub-acme", "api_calls"][0] == 44


def test_senders_side_by_side_send_each_event_once(console: Platform, billing: Any) -> None:
    for back in range(30):
        count(console, "acme" if back % 2 else "bolt", 10, ago=back)
    plan(console)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: usage_sync.send(console, 4).events, range(12)))
    assert sum(done) == 30 and usage_sync.waiting(console) == 0
    assert sums(billing) == {("sub-acme", "api_calls"): (150, 0), ("sub-bolt", "api_calls"): (150, 0)}


def test_who_leaves_is_billed_to_the_last_unit(console: Platform, billing: Any) -> None:
    count(console, "acme/bot", 12, 2, ago=5)
    count(console, "bolt", 20)
    write(console.redis, int(time.time()) // 3600, "acme", a=8)
    usage_sync.settle(console, "acme")
    assert sums(billing) == {("sub-acme", "api_calls"): (20, 2)}
    assert usage_sync.waiting(console) == 1  # the other tenant's, for the next run
    usage_sync.settle(console, "nobody")


def test_who_leaves_is_billed_for_calls_that_limiters_had_still_to_report(console: Platform, billing: Any) -> None:
    ratelimit_wire.reconcile(console)
    ratelimit_usage.collect(console)
    usage_sync.settle(console, "acme")
    owner = "tenant-offboarding/acme"
    tenant_leaving.mark(console, "acme", owner, utcnow(), "contract ended")
    with Limiter(console.redis, timeout=2.0) as limiter:
        assert limiter.check("api_calls", "acme").allowed
        leased = LeasedLimiter(limiter)
        assert all(leased.check("api_calls", "acme").allowed for _ in range(7))
        tenant_leaving.waited(console, "acme", owner)
        assert tenant_parts.remove(console, "acme", "lago", owner)
        assert not leased.check("api_calls", "acme").allowed
    assert sums(billing) == {("sub-acme", "api_calls"): (8, 0)}


def test_nobody_is_billed_for_the_last_time_before_limiters_were_told(
    console: Platform, billing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = "tenant-offboarding/acme"
    tenant_leaving.mark(console, "acme", owner, utcnow(), "contract ended")
    with monkeypatch.context() as patch:
        patch.setattr(outbox, "deliver", lambda *_, **__: False)
        tenant_leaving.waited(console, "acme", owner)
        with pytest.raises(Unreachable, match="have not been told yet that acme is being removed"):
            tenant_parts.remove(console, "acme", "lago", owner)
    assert tenant_parts.remove(console, "acme", "lago", owner)


def test_nobody_leaves_while_another_holds_what_is_to_be_billed(
    console: Platform, billing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    count(console, "acme", 12)
    plan(console)
    monkeypatch.setattr(usage_sync, "BUSY_SECONDS", 0)
    with console.database.session() as other:
        other.execute(text("SELECT id FROM usage_events FOR UPDATE"))
        with pytest.raises(Unexpected, match="not handed over yet"):
            usage_sync.settle(console, "acme")
    usage_sync.settle(console, "acme")
    assert sums(billing) == {("sub-acme", "api_calls"): (12, 0)}
