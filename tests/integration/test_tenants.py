"""Tenants, tiers and the search over them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from adapters.core import utcnow
from operations import search, subscriptions, tenants
from operations.access import ROLES, SYSTEM, Actor, Forbidden, Permission
from operations.change import NotFound
from operations.platform import Platform
from tests.support_operations import make

pytestmark = pytest.mark.engines
NAMES = {"acme": "Acme", "zacme": "Zacme", "percent": "100% Pure_", "beta": "beta", "alpha": "Alpha"}
STRANGER = Actor("x", "X", frozenset({"nothing"}))


@pytest.fixture
def store(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Platform]:
    platform = make(database_url, redis_url, monkeypatch, tmp_path)
    with platform.database.session() as session:
        for code, name, rank, price, quotas in (
            ("team", "Team", 20, 4900, '{"api_calls": 1000, "storage": null}'),
            ("free", "Free", 10, 0, '{"api_calls": 0}'),
            ("enterprise", "Enterprise", 30, None, "{}"),
        ):
            session.execute(
                text(
                    "INSERT INTO tiers (code, name, rank, price_cents, public, quotas) VALUES (:c,:n,:r,:p,true,:q) "
                    "ON CONFLICT (code) DO UPDATE SET name=:n, rank=:r, price_cents=:p, quotas=:q"
                ),
                {"c": code, "n": name, "r": rank, "p": price, "q": quotas},
            )
        for slug, name in NAMES.items():
            session.execute(
                text("INSERT INTO tenants (id, name, tier_code) VALUES (:i, :n, :t)"),
                {"i": slug, "n": name, "t": "free" if slug == "beta" else "team"},
            )
        session.execute(text("INSERT INTO agents (id, tenant_id, name) VALUES ('a1','acme','One'),('a2','acme','Two')"))
    yield platform
    platform.close()


def found(platform: Platform, words: str) -> list[str]:
    return [row.id for row in tenants.search(platform, SYSTEM, words).rows]


def test_all_by_name_whatever_its_case_and_a_page_of_them(store: Platform) -> None:
    assert found(store, "") == ["percent", "acme", "alpha", "beta", "zacme"]
    page = tenants.search(store, SYSTEM, "", limit=2, offset=1)
    assert ([row.id for row in page.rows], page.total) == (["acme", "alpha"], 5)
    assert len(tenants.search(store, SYSTEM, "", limit=-5, offset=-5).rows) == 1
    assert tenants.search(store, SYSTEM, "", limit=10**9, offset=10**12).rows == ()


def test_what_begins_with_the_words_comes_first_and_wildcards_are_letters(store: Platform) -> None:
    assert found(store, "ACME") == ["acme", "zacme"]
    assert found(store, "%") == ["percent"]
    assert found(store, "_") == ["percent"]
    assert found(store, "' OR 1=1 --") == []
    assert found(store, "a\x00cme") == ["acme", "zacme"]


def test_one_tenant_and_none(store: Platform) -> None:
    one = tenants.get(store, SYSTEM, "acme")
    assert (one.name, one.tier, one.tier_code, one.agents, one.status) == ("Acme", "Team", "team", 2, "active")
    for wrong in ("nobody", "", "\x00", "x" * 10_000):
        with pytest.raises(NotFound):
            tenants.get(store, SYSTEM, wrong)


def test_usage_of_the_days_asked_for_oldest_first(store: Platform) -> None:
    today = utcnow().date()
    with store.database.session() as session:
        for ago in (0, 1, 40):
            session.execute(
                text(
                    "INSERT INTO usage_daily (tenant_id, key, day, amount, over, blocked) VALUES ('acme','k',:d,:a,2,1)"
                ),
                {"d": today - timedelta(days=ago), "a": 100 + ago},
            )
    assert [(day.day, day.amount, day.over, day.blocked) for day in tenants.usage(store, SYSTEM, "acme", 30)["k"]] == [
        (today - timedelta(days=1), 101, 2, 1),
        (today, 100, 2, 1),
    ]
    assert len(tenants.usage(store, SYSTEM, "acme", 10**6)["k"]) == 3
    assert tenants.usage(store, SYSTEM, "nobody") == {}


def test_tiers_by_rank_with_their_tenants(store: Platform) -> None:
    tiers = [tier for tier in subscriptions.tiers(store, SYSTEM) if tier.code in ("free", "team", "enterprise")]
    assert [(tier.code, tier.price_cents, tier.tenants) for tier in tiers] == [
        ("free", 0, 1), ("team", 4900, 4), ("enterprise", None, 0),
    ]  # fmt: skip
    assert tiers[0].quotas == {"api_calls": 0}
    assert tiers[1].quotas == {"api_calls": 1000, "storage": None}


def test_without_the_permission_nothing(store: Platform) -> None:
    for ask in (
        lambda: tenants.search(store, STRANGER),
        lambda: tenants.get(store, STRANGER, "acme"),
        lambda: tenants.usage(store, STRANGER, "acme"),
        lambda: subscriptions.tiers(store, STRANGER),
    ):
        with pytest.raises(Forbidden):
            ask()


def test_the_search_finds_pages_and_tenants_those_that_begin_with_it_first(store: Platform) -> None:
    pages = [("redis", "Redis", "Data"), ("database", "PostgreSQL", "Data"), ("acmepage", "About acme", "Help")]
    hits = search.search(store, SYSTEM, " AcMe ", pages)
    assert [(hit.kind, hit.key) for hit in hits] == [("page", "acmepage"), ("tenant", "acme"), ("tenant", "zacme")]
    assert [hit.key for hit in search.search(store, SYSTEM, "data", pages)] == ["redis", "database"]
    assert search.search(store, SYSTEM, "  ", pages) == []
    assert len(search.search(store, SYSTEM, "a", [(str(n), f"A{n}", "S") for n in range(99)])) == 8 + 4
    blind = next(role for role, may in ROLES.items() if Permission.TENANTS_VIEW not in may)
    hits = search.search(store, Actor("b", "B", frozenset({blind})), "acme", pages)
    assert [hit.kind for hit in hits] == ["page"]
