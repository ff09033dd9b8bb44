"""The overview: the sentence that matters, what depends on what, the number of queries, reports."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import event

from adapters.core import Health, Metric, Sample, State, services, utcnow
from operations import change, health, report, samples
from operations.access import SYSTEM
from operations.platform import Platform
from operations.samples import Tick
from tests.support_operations import fake_adapters, make

pytestmark = pytest.mark.engines


@pytest.fixture
def store(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Platform]:
    platform = make(database_url, redis_url, monkeypatch, tmp_path)
    fake_adapters(platform)
    yield platform
    platform.close()


def put(platform: Platform, ago: timedelta = timedelta(0), **states: State) -> None:
    found = {slug: Sample(Health(states.get(slug, State.HEALTHY), "=said", latency_ms=3.0)) for slug in services()}
    samples.write(platform.database, [Tick(utcnow() - ago, found)])


def test_nobody_measured(store: Platform) -> None:
    seen = health.overview(store)
    assert (seen.state, seen.sentence, seen.stale) == (State.UNKNOWN, "No service has been measured yet", True)


def test_the_worst_first_and_how_many_more(store: Platform) -> None:
    put(store, timedelta(minutes=12), temporal=State.DEGRADED)
    put(store, temporal=State.DEGRADED, smtp=State.UNCONFIGURED)
    seen = health.overview(store)
    affects = services()["temporal"].affects
    assert seen.sentence == f"Temporal degraded for 12 min; {affects} affected"
    assert seen.services[0].service.slug == "temporal" and seen.state is State.DEGRADED
    assert seen.counts[State.UNCONFIGURED] == 1 and sum(seen.counts.values()) == len(services())


def test_what_depends_on_what_is_down(store: Platform) -> None:
    needing = next(s for s in services().values() if s.depends_on)
    needed = needing.depends_on[0]
    put(store, **{needed: State.DOWN})
    assert needing.title in health.now(store, needed).affected
    assert services()[needed].title in health.now(store, needing.slug).depends_down


def test_the_numbers_last_known_stay_with_their_age_while_a_service_fails(store: Platform) -> None:
    count = Metric("points", "Vectors", 12.0, headline=True)

    def visit(ago: int, state: State, *metrics: Metric) -> Tick:
        said = Sample(Health(state, "said"), metrics)
        return Tick(utcnow() - timedelta(minutes=ago), {"qdrant": said})

    samples.write(store.database, [visit(9, State.HEALTHY, count), visit(8, State.DOWN)])
    for _ in range(2):  # and no visit without numbers forgets them
        seen = health.now(store, "qdrant")
        assert (seen.metrics, seen.headline, seen.known) == ((), None, (count,))
        assert seen.known_at is not None and abs(utcnow() - seen.known_at - timedelta(minutes=9)) < timedelta(seconds=5)
        samples.write(store.database, [visit(7, State.NO_ANSWER)])
        health._cache(store).clear()
    samples.write(store.database, [visit(6, State.HEALTHY, count)])
    health._cache(store).clear()
    seen = health.now(store, "qdrant")
    assert (seen.metrics, seen.known, seen.known_at) == ((count,), (), None)


def test_old_values_are_called_stale(store: Platform) -> None:
    put(store, timedelta(minutes=5))
    assert health.overview(store).stale


def test_fifty_people_cost_one_query(store: Platform) -> None:
    put(store)
    statements: list[str] = []
    event.listen(store.database.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda _: health.overview(store), range(50), timeout=30))
    assert len(statements) == 1


def test_unknown_service(store: Platform) -> None:
    with pytest.raises(change.NotFound):
        health.now(store, "nothing")


def test_report_is_safe_in_a_spreadsheet(store: Platform) -> None:
    put(store, redis=State.DOWN)
    rows = list(csv.DictReader(io.StringIO(report.as_csv(store, SYSTEM))))
    assert len(rows) == len(services()) and rows[0]["service"] == "redis"
    assert {row["message"] for row in rows} == {"'=said"}
    assert report.as_json(store, SYSTEM)["services"][0]["state"] == "down"


def test_refresh_without_a_sampler(store: Platform) -> None:
    health.refresh(store, SYSTEM)
    assert health.overview(store).state is State.HEALTHY
