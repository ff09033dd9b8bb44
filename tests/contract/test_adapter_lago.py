"""The Lago adapter on the stand-in, and on a server that does everything wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from adapters import lago_records as records
from adapters.core.errors import AdapterError, Denied, Rejected, Unexpected
from adapters.core.model import Metric, State
from adapters.core.probe import probe
from adapters.lago import Lago, LagoConfig
from sandbox.demo import world
from sandbox.standins import Host
from sandbox.standins import lago as standin
from tests.contract.openapi import serve
from tests.support_adapters import health_is_a_value
from tests.support_faulty import BODIES, FAULTS, FaultyServer, no_leaks

KEY = "lago-key-for-tests"
TODAY = datetime.now(UTC).date()


def demo() -> world.World:
    return world.world(11, TODAY)


@pytest.fixture
def standin_options() -> dict[str, Any]:
    return {}


@pytest.fixture
def app(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    options = dict(getattr(request, "param", {}))
    seeded = options.pop("seeded", True)
    host = Host(url="", secrets={"lago_api_key": KEY}, world=demo() if seeded else None)
    return standin.create(tmp_path, 11 if seeded else None, [], host=host, **options)


@pytest.fixture
def lago(app: Any) -> Iterator[Lago]:
    with serve(app) as url:
        adapter = Lago(LagoConfig(url=url, api_key=SecretStr(KEY)))
        yield adapter
        adapter.close()


def by_name(metrics: Any) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


def test_health(lago: Lago) -> None:
    health = lago.health()
    assert (health.state, health.version) == (State.HEALTHY, standin.VERSION)
    assert "4 plans" in health.message


def test_a_wrong_key_is_denied(lago: Lago) -> None:
    other = Lago(LagoConfig(url=lago.config.url, api_key=SecretStr("wrong-key")))
    with pytest.raises(Denied) as caught:
        other.health()
    assert "wrong-key" not in f"{caught.value.sentence} {caught.value.detail}"
    other.close()


def test_unconfigured() -> None:
    sample = probe(Lago(LagoConfig()))
    assert sample.health.state is State.UNCONFIGURED
    assert "PILOTHOUSE_LAGO_URL" in sample.health.message


@pytest.mark.parametrize("app", [{"premium": False}, {"premium": True}], indirect=True, ids=["free", "premium"])
def test_metrics(lago: Lago, app: Any) -> None:
    metrics = lago.metrics()
    assert [m.name for m in metrics if m.headline] == ["mrr"]
    found = by_name(metrics)
    assert (found["mrr"].value, found["mrr"].currency) == (demo().mrr_cents, "USD")
    assert isinstance(found["mrr"].value, int)
    assert found["mrr"].note == ("" if app.state.lago.premium else "estimated")
    assert found["active_subscriptions"].value == sum(s.status == "active" for s in demo().subscriptions)
    assert found["customers"].value == len(demo().tenants)
    overdue = sum(i.amount_cents for i in demo().invoices if i.overdue)
    assert (found["overdue_balance"].value, found["overdue_balance"].currency) == (overdue, "USD")
    month = [i for i in demo().invoices if i.issued_on.replace(day=1) == TODAY.replace(day=1)]
    assert found["gross_revenue_month"].value == sum(i.amount_cents for i in month if i.status == "finalized")
    failed = [i for i in demo().invoices if (i.payment_status, i.status) == ("failed", "finalized")]
    assert found["failed_payments"].value == len(failed)


@pytest.mark.parametrize("app", [{"seeded": False}, {"seeded": False, "premium": True}], indirect=True)
def test_an_empty_lago(lago: Lago) -> None:
    found = by_name(lago.metrics())
    assert {name: metric.value for name, metric in found.items()} == dict.fromkeys(found, 0)
    assert lago.plans().items == () and lago.health().state is State.HEALTHY


def test_lists(lago: Lago) -> None:
    plans = {plan.code: plan for plan in lago.plans().items}
    assert (plans["starter"].amount_cents, plans["starter"].interval) == (2900, "monthly")
    active = lago.subscriptions()
    assert active.total == len(active.items) and not active.truncated
    ended = lago.subscriptions(("terminated",))
    assert {s.status for s in ended.items} == {"terminated"}
    late = lago.invoices(overdue=True, limit=2)
    assert all(i.overdue for i in late.items) and len(late.items) <= 2
    some = lago.invoices(limit=3)
    assert len(some.items) == 3 and some.truncated and some.total == len(demo().invoices)
    revenue = lago.gross_revenue(12)
    assert [row.month for row in revenue] == sorted(row.month for row in revenue)
    assert len(revenue) <= 12
    assert lago.mrr_history() is None


def test_a_payment_is_tried_again(lago: Lago) -> None:
    failed = lago.invoices(payment_statuses=("failed",), statuses=("finalized",)).items[0]
    lago.retry_payment(failed.id)
    assert failed.id not in {i.id for i in lago.invoices(payment_statuses=("failed",)).items}
    with pytest.raises(Rejected):
        lago.retry_payment(failed.id)


def test_settings(lago: Lago, app: Any) -> None:
    app.state.standin.state["webhook_endpoints"]["x"] = {
        "lago_id": "x",
        "webhook_url": "https://hooks.test/lago?token=hidden",
        "signature_algo": "hmac",
        "created_at": "2026-01-01T00:00:00Z",
    }
    settings = {(s.group, s.name): s.value for s in lago.settings()}
    assert settings["Organization", "default_currency"] == "USD"
    assert settings["Webhooks", "hooks.test/lago"] == "signed with hmac"
    assert "hidden" not in str(settings)


def test_paging_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"code": "p", "name": "p", "interval": "monthly", "amount_cents": 1, "amount_currency": "USD"}
    monkeypatch.setattr("adapters.lago.MAX_PAGES", 3)

    def answer(method: str, path: str) -> tuple[int, Any]:
        return 200, {"plans": [row], "meta": {"current_page": 1, "next_page": 2, "total_pages": 99, "total_count": 99}}

    with FaultyServer(answer=answer) as server:
        adapter = Lago(LagoConfig(url=server.url, api_key=SecretStr(KEY)))
        listed = adapter.plans()
        assert (len(listed.items), listed.total, listed.truncated) == (3, 99, True)
        assert len(server.requests) == 3
        adapter.close()


def test_the_licence_is_not_asked_for_again(lago: Lago, app: Any) -> None:
    assert lago.mrr().estimated
    app.state.lago.premium = True
    assert lago.mrr().estimated
    lago._unlicensed_until = 0.0
    assert not lago.mrr().estimated


def test_figures_this_version_has_not_are_left_out(app: Any) -> None:
    with serve(app) as url:
        import httpx

        inner = httpx.Client(base_url=url, headers={"authorization": f"Bearer {KEY}"})

        def answer(method: str, path: str) -> tuple[int, Any]:
            if "overdue_balance" in path or "organizations" in path:
                return 404, {"status": 404, "error": "Not Found"}
            got = inner.request(method, path)
            return got.status_code, got.json()

        with FaultyServer(answer=answer) as server:
            adapter = Lago(LagoConfig(url=server.url, api_key=SecretStr(KEY)))
            names = set(by_name(adapter.metrics()))
            assert "overdue_balance" not in names and {"mrr", "customers", "failed_payments"} <= names
            assert {s.group for s in adapter.settings()} == {"Taxes"}
            adapter.close()
        inner.close()


@pytest.mark.parametrize("fault", FAULTS + BODIES)
def test_health_is_a_value_whatever_happens(fault: str) -> None:
    health_is_a_value(fault, lambda url: Lago(LagoConfig(url=url, api_key=SecretStr(KEY))), KEY)


@pytest.mark.parametrize("fault", ["hang", "drip", "500", "garbage", "huge", "reset", "unexpected", "invalid", "404"])
def test_metrics_are_bounded_when_only_they_fail(app: Any, fault: str) -> None:
    with no_leaks(), FaultyServer(fault) as server:
        adapter = Lago(LagoConfig(url=server.url, api_key=SecretStr(KEY)))
        for call in (adapter.metrics, adapter.settings, adapter.plans, adapter.invoices):
            if fault in ("hang", "drip") and call != adapter.metrics:
                continue
            start = time.monotonic()
            try:
                assert call() == []  # only settings may be without any section
                assert (fault, call) == ("404", adapter.settings)
            except AdapterError as error:
                assert error.sentence
            assert time.monotonic() - start < 3
        adapter.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"plans": None, "meta": {"total_count": 1}},
        {"plans": [], "meta": None},
        {"plans": [], "meta": {}},
        {"plans": [None], "meta": {"total_count": 1}},
        {"plans": [{"code": "x"}], "meta": {"total_count": 1}},
        {"plans": "text", "meta": {"total_count": "many"}},
    ],
)
def test_unexpected_shapes_are_named(wrong: Any) -> None:
    with FaultyServer(answer=lambda method, path: (200, wrong)) as server:
        adapter = Lago(LagoConfig(url=server.url, api_key=SecretStr(KEY)))
        with pytest.raises(Unexpected):
            adapter.plans()
        adapter.close()


def plan(code: str, interval: str, amount: int, currency: str = "USD") -> records.Plan:
    return records.Plan(code, code, interval, amount, currency, False, "", 0)


def subscription(code: str, amount: int | None = None, status: str = "active") -> records.Subscription:
    return records.Subscription("s", "c", code, status, amount, None, None, None, None, None)


@pytest.mark.parametrize(
    ("interval", "amount", "expected"),
    [
        ("weekly", 1200, 5200),
        ("weekly", 100, 433),
        ("monthly", 2900, 2900),
        ("quarterly", 100, 33),
        ("semiannual", 3, 0),  # 0.5 to even
        ("semiannual", 9, 2),  # 1.5 to even
        ("yearly", 6, 0),
        ("yearly", 18, 2),
        ("yearly", 120000, 10000),
    ],
)
def test_an_interval_is_normalised_to_a_month(interval: str, amount: int, expected: int) -> None:
    assert records.estimate_mrr([subscription("p")], {"p": plan("p", interval, amount)}) == {"USD": expected}


def test_what_counts_for_mrr() -> None:
    plans = {"p": plan("p", "monthly", 100), "e": plan("e", "yearly", 1200, "EUR"), "x": plan("x", "daily", 1)}
    subs = [
        subscription("p"),
        subscription("p", 250),
        subscription("p", 0),
        subscription("p", status="terminated"),
        subscription("e"),
        subscription("x"),
        subscription("gone"),
    ]
    assert records.estimate_mrr(subs, plans) == {"USD": 350, "EUR": 100}


@given(st.lists(st.tuples(st.sampled_from(sorted(records.PER_MONTH)), st.integers(0, 10**9)), max_size=40))
def test_the_sum_is_exact_and_rounded_once(rows: list[tuple[str, int]]) -> None:
    plans = {f"{n}": plan(f"{n}", interval, amount) for n, (interval, amount) in enumerate(rows)}
    exact = sum((amount * records.PER_MONTH[interval] for interval, amount in rows), Fraction(0))
    found = records.estimate_mrr([subscription(code) for code in plans], plans).get("USD", 0)
    assert abs(found - exact) <= Fraction(1, 2)
    assert isinstance(found, int)


@pytest.mark.parametrize(("given_", "expected"), [(5, 5), ("7", 7), (2.5, 2), ("3.5", 4), (10.0, 10)])
def test_cents(given_: Any, expected: int) -> None:
    assert records.cents(given_) == expected


@pytest.mark.parametrize("wrong", [None, True, [], float("nan"), "ten", float("inf")])
def test_what_is_no_amount(wrong: Any) -> None:
    with pytest.raises(Unexpected):
        records.read(records.cents, wrong, "an amount")
