"""The sampler: one leader, takeover, nothing lost while PostgreSQL is away, rollups, retention."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from adapters.core import Health, Metric, Sample, State, utcnow
from operations import health, samples
from operations.access import SYSTEM
from operations.platform import Platform
from operations.sampler import Sampler
from operations.samples import Tick
from sandbox.engines import Postgres
from tests.support import ROOT, poll
from tests.support_operations import KEY, fake_adapters, make

pytestmark = pytest.mark.engines


@pytest.fixture
def store(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Platform]:
    platform = make(database_url, redis_url, monkeypatch, tmp_path)
    fake_adapters(platform)
    yield platform
    platform.close()


@pytest.fixture
def sampler(store: Platform) -> Iterator[Sampler]:
    made = store.sampler = Sampler(store, every=0.3)
    yield made
    made.stop()


def count(platform: Platform, query: str) -> int:
    with platform.database.session() as session:
        return int(session.scalar(text(query)) or 0)


def tick(at: datetime, state: State = State.HEALTHY, latency: float = 5.0) -> Tick:
    return Tick(at, {"redis": Sample(Health(state, "m", latency_ms=latency), (Metric("m", "M", 2.0, headline=True),))})


def test_samples_arrive_and_the_overview_lives(store: Platform, sampler: Sampler) -> None:
    sampler.start()
    poll(lambda: count(store, "SELECT count(DISTINCT at) FROM health_samples") >= 3, 15)
    assert count(store, "SELECT count(*) FROM samples") > 0
    seen = health.overview(store)
    assert (seen.state, seen.source, seen.stale) == (State.HEALTHY, "sampler", False)
    fake = store.adapters["redis"]
    fake.state = State.DOWN  # type: ignore[attr-defined]
    poll(lambda: count(store, "SELECT count(*) FROM state_changes WHERE service = 'redis' AND to_state = 'down'"), 15)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
def test_another_takes_over_when_the_leader_dies_or_hangs(
    store: Platform, sampler: Sampler, database_url: str, redis_url: str, end: signal.Signals
) -> None:
    code = (
        "import time\nfrom operations.platform import Platform\nfrom operations.settings import Settings\n"
        "from operations.sampler import Sampler\np = Platform(Settings())\ns = Sampler(p, every=1.0)\ns.start()\n"
        "while not s.is_leader: time.sleep(0.05)\nprint('leader', flush=True)\ntime.sleep(120)\n"
    )
    env = {
        **os.environ, "PILOTHOUSE_DATABASE_URL": database_url, "PILOTHOUSE_REDIS_URL": redis_url,
        "PILOTHOUSE_ENCRYPTION_KEYS": KEY, "PILOTHOUSE_OIDC_ISSUER": "http://127.0.0.1:1/realms/none",
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    with subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True, cwd=ROOT) as leader:
        try:
            assert leader.stdout is not None and leader.stdout.readline() == "leader\n"
            sampler.start()
            poll(lambda: sampler._role == "follower", 10)
            start = time.monotonic()
            leader.send_signal(end)
            poll(lambda: sampler.is_leader, 15)
            assert time.monotonic() - start < 15
        finally:
            leader.kill()


@pytest.mark.parametrize("how", ["stop", "hang"])
def test_losing_postgresql_loses_no_sample(
    store: Platform, sampler: Sampler, postgres: Postgres, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    taken: list[datetime] = []
    visit = sampler._visit

    def noted(slugs: set[str] | None, *, force: bool = False) -> Tick:
        made = visit(slugs, force=force)
        taken.append(made.at)
        return made

    monkeypatch.setattr(sampler, "_visit", noted)
    sampler.start()
    poll(lambda: len(taken) >= 3 and sampler.is_leader, 15)
    if how == "stop":
        postgres.stop()
    else:
        freeze(postgres, signal.SIGSTOP)
    try:
        poll(lambda: sampler.buffered >= 3, 30)
        own = health.overview(store)
        assert own.source == "this process" and own.state is State.HEALTHY
    finally:
        if how == "stop":
            postgres.start()
        else:
            freeze(postgres, signal.SIGCONT)
    before = len(taken)
    poll(lambda: sampler.is_leader and sampler.buffered == 0 and len(taken) > before, 40)
    sampler.stop()
    with store.database.session() as session:
        written = set(session.scalars(text("SELECT DISTINCT at FROM health_samples WHERE service = 'redis'")))
    assert set(taken) - written <= set(taken[-1:])  # the round under way when it was stopped may be missing


def freeze(postgres: Postgres, what: signal.Signals) -> None:
    """Signal the server and all its backends."""
    import psutil

    assert postgres.process is not None
    parent = psutil.Process(postgres.process.pid)
    for process in [parent, *parent.children(recursive=True)]:
        process.send_signal(what)


def test_writing_twice_is_writing_once(store: Platform) -> None:
    at = utcnow()
    rounds = [tick(at - timedelta(seconds=s), State.DOWN if s == 10 else State.HEALTHY) for s in (20, 10, 0)]
    for _ in range(2):
        samples.write(store.database, rounds)
    assert count(store, "SELECT count(*) FROM health_samples") == 3
    assert count(store, "SELECT count(*) FROM state_changes") == 2
    samples.write(store.database, [tick(at - timedelta(hours=1), State.DOWN)])  # a late one changes no present state
    assert count(store, "SELECT count(*) FROM service_now WHERE state = 'healthy'") == 1


def test_rollups_are_right_and_repeatable(store: Platform) -> None:
    hour = utcnow().replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    rounds = [
        tick(hour + timedelta(seconds=10 * n), State.DOWN if n % 10 == 0 else State.HEALTHY, float(n % 6))
        for n in range(360)
    ]
    samples.write(store.database, rounds)
    for _ in range(2):
        samples.roll_up(store.database, hour)
    with store.database.session() as session:
        row = session.execute(
            text("SELECT n, healthy, down, latency_min, latency_max, latency_sum FROM health_hour")
        ).one()
        assert tuple(row) == (360, 324, 36, 0.0, 5.0, 900.0)
        assert tuple(session.execute(text("SELECT n, min, max, sum FROM samples_hour")).one()) == (360, 2, 2, 720)
    assert count(store, "SELECT count(*) FROM health_minute") == 60
    found = health.availability(store, "redis", 1)
    assert (found.percent, found.measured) == (90.0, 360)
    for hours in (6, 48, 24 * 30):
        series = health.history(store, "redis", "latency_ms", hours)
        assert series.points and len(series.points) <= health.MAX_POINTS
        assert min(p.min for p in series.points) == 0 and max(p.max for p in series.points) == 5


def test_old_samples_go_and_partitions_stand_ahead(store: Platform) -> None:
    old = datetime.now(UTC) - timedelta(days=4)
    samples.write(store.database, [tick(old), tick(utcnow())])
    dropped = samples.housekeep(store.database)
    assert sorted(dropped) == [f"health_samples_{old:%Y%m%d}", f"samples_{old:%Y%m%d}"]
    assert samples.housekeep(store.database) == []
    assert count(store, "SELECT count(*) FROM health_samples") == 1
    ahead = utcnow() + timedelta(days=samples.DAYS_AHEAD)
    assert count(store, f"SELECT count(*) FROM pg_class WHERE relname = 'samples_{ahead:%Y%m%d}'") == 1


def test_refreshing_together_is_one_visit(store: Platform, sampler: Sampler) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: health.refresh(store, SYSTEM), range(8), timeout=30))
    assert store.adapters["redis"].visits == 1  # type: ignore[attr-defined]
