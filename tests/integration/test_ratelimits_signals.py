"""Signals reach whom they concern, once per subject and window; overage is counted to the unit."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from api import create_api
from limiter import LeasedLimiter, Limiter, Scope
from operations import apitokens, mail, ratelimit_signals, ratelimit_usage, ratelimit_wire, ratelimits
from operations.access import SYSTEM, Actor, Forbidden
from operations.change import Invalid
from operations.platform import Platform
from operations.ratelimit_signals import Collector
from operations.ratelimits import Edit, Target
from tests.support import poll
from tests.support_operations import make

pytestmark = pytest.mark.engines
PIM = Actor("pim", "Pim", frozenset({"product_manager"}))


@pytest.fixture
def console(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Platform]:
    platform = make(database_url, redis_url, monkeypatch, tmp_path)
    with platform.database.session() as session:
        session.execute(text("INSERT INTO tenants (id, name, tier_code) VALUES ('acme', 'Acme', 'team')"))
        session.execute(text("INSERT INTO agents (id, tenant_id, name) VALUES ('bot', 'acme', 'Bot')"))
    ratelimit_wire.reconcile(platform)
    yield platform
    platform.close()


@pytest.fixture
def limiter(console: Platform) -> Iterator[Limiter]:
    with Limiter(console.redis, timeout=2.0) as made:
        assert made.wait_ready()
        yield made


def limit(limiter: Limiter, platform: Platform, key: str, amount: int, policy: str, **more: Any) -> None:
    """An override for Acme over a day, so that no window ends within a test but at midnight."""
    values = {"limit": amount, "policy": policy, "window_seconds": 86400, **more}
    ratelimits.save(platform, SYSTEM, [Edit(Target(key, Scope.TENANT, "acme"), values)], reason="a test")
    poll(lambda: limiter.core.effective(key, "acme", None).limit == amount)


def kinds(platform: Platform, **where: Any) -> list[tuple[str, str, str, str, int]]:
    found = ratelimit_usage.signals(platform, PIM, **where)
    return sorted((one.key, one.kind, one.policy, one.audience, one.count) for one in found)


def test_soft_tells_the_tenant_and_warn_only_admins_once(limiter: Limiter, console: Platform) -> None:
    for key, mode in (("api_calls", "HARD"), ("llm_tokens", "SOFT"), ("file_uploads", "WARN")):
        limit(limiter, console, key, 10, mode)
        for _ in range(14):
            limiter.check(key, "acme")
    collector = Collector(console)
    assert collector.collect() == 6
    assert collector.collect() == 0
    expected = [
        ("api_calls", "near", "HARD", "tenant", 1),
        ("api_calls", "over", "HARD", "tenant", 1),
        ("file_uploads", "near", "WARN", "admin", 1),
        ("file_uploads", "over", "WARN", "admin", 1),
        ("llm_tokens", "near", "SOFT", "tenant", 1),
        ("llm_tokens", "over", "SOFT", "tenant", 1),
    ]
    assert kinds(console) == expected
    # Other consoles reading the same streams, even at once, add nothing.
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: Collector(console).collect(), range(8)))
    assert kinds(console) == expected
    assert [row[0] for row in kinds(console, audience="admin", tenant="acme")] == ["file_uploads", "file_uploads"]
    assert kinds(console, tenant="nobody") == []
    over = next(one for one in ratelimit_usage.signals(console, PIM, "tenant", key="llm_tokens") if one.kind == "over")
    assert (over.tenant, over.agent, over.limit, over.used, over.source) == ("acme", None, 10, 11, "tenant:acme")
    with pytest.raises(Invalid):
        ratelimit_usage.signals(console, PIM, "everybody")
    with pytest.raises(Forbidden):
        ratelimit_usage.signals(console, Actor("f", "F", frozenset({"finance_manager"})))
    token = apitokens.create(console, SYSTEM, "t", frozenset({"analyst"}))
    with TestClient(create_api(console), headers={"Authorization": f"Bearer {token}"}) as client:
        for root in ("/infrastructure/ratelimits", "/ratelimit"):
            items = client.get(f"{root}/signals", params={"audience": "admin"}).json()["items"]
            assert {item["key"] for item in items} == {"file_uploads"}
        assert client.get("/ratelimit/signals", params={"audience": "x"}).status_code == 422


def test_again_in_the_same_window_is_counted_not_repeated(limiter: Limiter, console: Platform) -> None:
    limit(limiter, console, "llm_tokens", 5, "SOFT")
    collector = Collector(console)
    for _ in range(2):
        limiter.check("llm_tokens", "acme", cost=6)
        limiter.reset("llm_tokens", "acme")
    assert collector.collect() == 2
    assert kinds(console) == [("llm_tokens", "over", "SOFT", "tenant", 2)]
    seen = ratelimit_usage.signals(console, PIM)[0]
    assert seen.first_at < seen.last_at


def test_an_agents_own_limit_signals_the_agent(limiter: Limiter, console: Platform) -> None:
    edit = Edit(Target("llm_tokens", Scope.AGENT, "bot"), {"limit": 2, "policy": "SOFT"})
    ratelimits.save(console, SYSTEM, [edit], reason="a test")
    poll(lambda: limiter.core.effective("llm_tokens", "acme", "bot").limit == 2)
    limiter.check("llm_tokens", "acme", "bot", cost=3)
    Collector(console).collect()
    one = ratelimit_usage.signals(console, PIM)[0]
    assert (one.tenant, one.agent, one.source) == ("acme", "bot", "agent:acme/bot")


@pytest.mark.parametrize(("mode", "audience"), [("SOFT", "tenant"), ("WARN", "admin")])
def test_leased_calls_signal_and_count_overage_exactly(
    limiter: Limiter, console: Platform, mode: str, audience: str
) -> None:
    limit(limiter, console, "llm_tokens", 100, mode)
    leased = LeasedLimiter(limiter, block=30)
    answers = [leased.check("llm_tokens", "acme") for _ in range(137)]
    leased.close()
    assert sum(answer.over for answer in answers) == 37
    Collector(console).collect()
    assert kinds(console) == [
        ("llm_tokens", "near", mode, audience, 1),
        ("llm_tokens", "over", mode, audience, 1),
    ]
    assert recorded(console) == {("llm_tokens", "acme"): (137, 37, 0)}


def test_overage_is_recorded_to_the_unit_and_usage_never_shrinks(limiter: Limiter, console: Platform) -> None:
    limit(limiter, console, "llm_tokens", 100, "SOFT")
    costs = [7, 60, 30, 8, 1, 50]  # passes the limit in the middle of the fourth
    over = [limiter.check("llm_tokens", "acme", cost=cost).over for cost in costs]
    assert over == [0, 0, 0, 5, 1, 50]
    assert recorded(console) == {("llm_tokens", "acme"): (sum(costs), 56, 0)}
    leased = LeasedLimiter(limiter, block=1000)
    assert leased.check("llm_tokens", "acme", cost=4).over == 4
    assert recorded(console) == {("llm_tokens", "acme"): (sum(costs), 56, 0)}  # a lease is no usage
    leased.close()
    assert recorded(console) == {("llm_tokens", "acme"): (sum(costs) + 4, 60, 0)}


def test_leased_refusals_are_recorded(limiter: Limiter, console: Platform) -> None:
    limit(limiter, console, "file_uploads", 20, "HARD")
    leased = LeasedLimiter(limiter, block=10)
    allowed = sum(leased.check("file_uploads", "acme").allowed for _ in range(50))
    leased.close()
    assert allowed == 20
    assert recorded(console) == {("file_uploads", "acme"): (20, 0, 30)}


def recorded(platform: Platform) -> dict[tuple[str, str], tuple[int, int, int]]:
    """Billable usage as PostgreSQL has it, all hours together."""
    ratelimit_usage.collect(platform)
    with platform.database.session() as session:
        rows = session.execute(
            text("SELECT key, subject, sum(amount), sum(over), sum(blocked) FROM rate_limit_usage GROUP BY 1, 2")
        )
        return {(row[0], row[1]): (int(row[2]), int(row[3]), int(row[4])) for row in rows}


def test_a_proof_signals_nobody_and_the_table_is_bounded(
    limiter: Limiter, console: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    from operations import ratelimit_explain

    limit(limiter, console, "llm_tokens", 5, "SOFT")
    assert ratelimit_explain.prove(console, SYSTEM, "llm_tokens", "acme").right
    Collector(console).collect()
    assert kinds(console) == []
    monkeypatch.setattr(ratelimit_signals, "KEPT_ROWS", 3)
    for number in range(6):
        limiter.check("llm_tokens", f"tenant-{number}", cost=90_000)
    Collector(console).collect()
    assert [one.tenant for one in ratelimit_usage.signals(console, PIM)] != []
    assert len(ratelimit_usage.signals(console, PIM)) == 3


def mails(platform: Platform) -> list[mail.Letter]:
    return sorted(mail.recent(platform, SYSTEM), key=lambda one: one.id)


def address(platform: Platform, tenant: str, email: str | None) -> None:
    with platform.database.session() as session:
        session.execute(text("UPDATE tenants SET contact_email = :e WHERE id = :t"), {"e": email, "t": tenant})


def test_the_tenant_is_written_to_once_per_limit_window_and_kind(limiter: Limiter, console: Platform) -> None:
    address(console, "acme", "ops@acme.test")
    for key, mode in (("api_calls", "HARD"), ("llm_tokens", "SOFT"), ("file_uploads", "WARN")):
        limit(limiter, console, key, 10, mode)
        for _ in range(14):
            limiter.check(key, "acme")
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: Collector(console).collect(), range(6)))
    found = mails(console)
    assert sorted(one.subject for one in found) == [
        "Acme has passed its limit for LLM tokens",
        "Acme has reached its limit for API calls",
        "Acme has used 80 % of its limit for API calls",
        "Acme has used 80 % of its limit for LLM tokens",
    ]
    assert {one.recipient for one in found} == {"ops@acme.test"} and {one.tenant for one in found} == {"acme"}
    told = {(one.key, one.kind): one.told for one in ratelimit_usage.signals(console, PIM)}
    assert told[("llm_tokens", "over")] == "queued" and told[("file_uploads", "over")] == "admins"
    limiter.reset("api_calls", "acme")
    for _ in range(14):
        limiter.check("api_calls", "acme")
    Collector(console).collect()
    assert len(mails(console)) == 4, "the same window is told once, whatever happens in it"
    with console.database.session() as session:
        body = session.scalar(text("SELECT body FROM mails WHERE subject LIKE '%reached%'"))
    for words in ("Used:   10", "Limit:  10 per 24 hours", "UTC", "refused"):
        assert words in body, body


@pytest.mark.parametrize("email", [None, "", "not an address"])
def test_a_tenant_without_an_address_is_shown_as_such(limiter: Limiter, console: Platform, email: str | None) -> None:
    address(console, "acme", email)
    limit(limiter, console, "llm_tokens", 2, "SOFT")
    limiter.check("llm_tokens", "acme", cost=3)
    Collector(console).collect()
    assert mails(console) == []
    assert ratelimit_usage.signals(console, PIM)[0].told == ("" if email else "no address")


def test_short_windows_do_not_flood_a_mailbox(limiter: Limiter, console: Platform) -> None:
    address(console, "acme", "ops@acme.test")
    limit(limiter, console, "llm_tokens", 2, "SOFT", window_seconds=1)
    collector = Collector(console)

    def again() -> bool:
        limiter.check("llm_tokens", "acme", cost=3)
        collector.collect()
        return len(ratelimit_usage.signals(console, PIM)) >= 3

    poll(again)
    # Two where the hour ends meanwhile.
    assert 1 <= len(mails(console)) <= 2


def test_a_refusal_of_a_lease_signals_too_and_a_closed_limit_does_not(limiter: Limiter, console: Platform) -> None:
    limit(limiter, console, "file_uploads", 20, "HARD")
    leased = LeasedLimiter(limiter, block=10)
    for _ in range(50):
        leased.check("file_uploads", "acme")
    leased.close()
    limit(limiter, console, "voice_minutes", 0, "HARD")
    assert not limiter.check("voice_minutes", "acme").allowed
    Collector(console).collect()
    assert ("file_uploads", "over", "HARD", "tenant", 1) in kinds(console)
    assert {row[0] for row in kinds(console)} == {"file_uploads"}
