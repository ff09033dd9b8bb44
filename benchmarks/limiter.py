"""The limiter beside the `limits` library and a bare PING on one server; propagation; memory."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import redis
from cryptography.fernet import Fernet
from limits import RateLimitItemPerHour
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from benchmarks.table import Row, milliseconds, quantile
from limiter import LeasedLimiter, Limiter, publish
from limiter.table import Fetched, Table
from operations import database, ratelimit_wire, ratelimits
from operations.access import SYSTEM
from operations.platform import Platform
from operations.settings import Settings
from sandbox.engines import Postgres, Valkey
from sandbox.processes import free_port

KEY = "api_calls"
ROUNDS = 9
CALLS = 1500
LIMITERS, PROCESSES, SAVES = 200, 10, 100


@contextmanager
def _server() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        engine = Valkey(Path(folder) / "valkey", free_port(), durable=False)
        engine.start()
        try:
            yield engine.url
        finally:
            engine.kill()


def _rate(work: Callable[[], object], calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        work()
    return calls / (time.perf_counter() - started)


def throughput(url: str) -> list[Row]:
    """Decisions per second, the contestants taking turns so that a busy machine is busy for all."""
    client = redis.Redis.from_url(url)
    base = {"limit": 1000, "window_seconds": 3600, "policy": "HARD", "tiers": {"team": {"limit": 10**9}}}
    publish.apply(client, KEY, 1, base=base, overrides={"agent:acme/bot": {"limit": 10**11}})
    publish.apply(client, "@tenants", 1, overrides={"acme": {"tier": "team"}})
    limiter = Limiter(client, timeout=5)
    limiter.wait_ready()
    leased = LeasedLimiter(limiter, block=1000)
    other, item = SlidingWindowCounterRateLimiter(RedisStorage(url)), RateLimitItemPerHour(10**9)
    contestants: dict[str, tuple[Callable[[], object], int]] = {
        "ping": (client.ping, CALLS),
        "limits": (lambda: other.hit(item, "acme"), CALLS),
        "check": (lambda: limiter.check(KEY, "acme", "bot"), CALLS),
        "leased": (lambda: leased.check(KEY, "acme", "bot"), CALLS * 30),
    }
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(ROUNDS):
        for name, (work, calls) in contestants.items():
            rates[name].append(_rate(work, calls))
    leased.close()
    limiter.close()

    def ratio(one: str, two: str) -> float:
        return quantile([a / b for a, b in zip(rates[one], rates[two], strict=True)], 0.5)

    middle = {name: quantile(values, 0.5) for name, values in rates.items()}
    level, leases = ratio("check", "limits"), ratio("leased", "limits")
    return [
        Row("PING by redis-py", f"{middle['ping']:,.0f}/s"),
        Row("limits, sliding window counter", f"{middle['limits']:,.0f}/s"),
        Row("check", f"{middle['check']:,.0f}/s"),
        Row("leased check", f"{middle['leased']:,.0f}/s"),
        Row("check against limits", f"{level:.2f} ×", "at least level", level >= 1),
        Row("check against PING", f"{ratio('check', 'ping'):.2f} ×"),
        Row("leased against limits", f"{leases:.0f} ×", "at least 20 ×", leases >= 20),
    ]


def _listen(url: str, first: int, count: int, limits: Any, moments: Any, ready: Any, stop: Any) -> None:
    client = redis.Redis.from_url(url)
    limiters = [Limiter(client, timeout=5) for _ in range(count)]
    for number, limiter in enumerate(limiters, first):
        _note(limiter, number, limits, moments)
    for limiter in limiters:
        limiter.wait_ready(30)
    ready.put(True)
    stop.wait()
    for limiter in limiters:
        limiter.close()


class _Noting(Table):
    """A table that notes when a limit came into force: watching 200 of them would cost more than what they do."""

    __slots__ = ()
    notes: ClassVar[dict[int, Callable[[int], None]]] = {}
    """What to call with a new limit, by the table's id."""

    def apply(self, key: str, fetched: Fetched, everything: Iterable[tuple[str, str]] | None = None) -> None:
        super().apply(key, fetched, everything)
        if key == KEY and KEY in self.keys:
            base = self.keys[KEY].base
            if base is not None and base.limit is not None:
                self.notes[id(self)](base.limit)


def _note(limiter: Limiter, number: int, limits: Any, moments: Any) -> None:
    def note(limit: int) -> None:
        if limits[number] != limit:
            moments[number] = time.monotonic()
            limits[number] = limit

    _Noting.notes[id(limiter.store.table)] = note
    limiter.store.table.__class__ = _Noting


@contextmanager
def _listeners(url: str) -> Iterator[Callable[[int], list[float]]]:
    """LIMITERS limiters in PROCESSES processes; a function that tells when each of them obeyed a limit."""
    context = multiprocessing.get_context("fork")
    ready, stop = context.Queue(), context.Event()
    limits, moments = context.Array("q", LIMITERS, lock=False), context.Array("d", LIMITERS, lock=False)
    each = LIMITERS // PROCESSES
    workers = [
        context.Process(target=_listen, args=(url, number * each, each, limits, moments, ready, stop))
        for number in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()

    def obeyed(limit: int) -> list[float]:
        end = time.monotonic() + 30
        while any(found != limit for found in limits):
            if time.monotonic() > end:
                raise TimeoutError(f"{sum(found != limit for found in limits)} limiters never obeyed")
            time.sleep(0.005)
        return list(moments)

    try:
        for _ in workers:
            ready.get(timeout=60)
        yield obeyed
    finally:
        stop.set()
        for worker in workers:
            worker.join(10)


def propagation(url: str) -> list[Row]:
    """From Save, and from writing the policy, to the new limit in force in every subscribed limiter."""
    client = redis.Redis.from_url(url)
    policy = {"window_seconds": 3600, "policy": "HARD"}
    publish.apply(client, KEY, 50, base={"limit": 1, **policy})
    published: list[float] = []
    with _listeners(url) as obeyed:
        for number in range(SAVES):
            started = time.monotonic()
            publish.apply(client, KEY, 100 + number, base={"limit": 5000 + number, **policy})
            published += [at - started for at in obeyed(5000 + number)]
    saved, answered = _saves(url)
    worst = quantile(saved, 0.99)
    among = f"in {LIMITERS} limiters of {PROCESSES} processes"
    return [
        Row(f"Save to obeyed {among}, p50", milliseconds(quantile(saved, 0.5))),
        Row("the same, p99", milliseconds(worst), "under 50 ms", worst < 0.05),
        Row("Save until it answers (PostgreSQL on disk, outbox delivered), p50", milliseconds(quantile(answered, 0.5))),
        Row(f"publish to obeyed {among}, p50", milliseconds(quantile(published, 0.5))),
        Row("the same, p99", milliseconds(quantile(published, 0.99))),
    ]


def _saves(url: str) -> tuple[list[float], list[float]]:
    """Delays from calling ``ratelimits.save`` to each limiter, and to the call's end, on a durable PostgreSQL."""
    with tempfile.TemporaryDirectory() as folder:
        engine = Postgres(Path(folder) / "postgresql", free_port())
        engine.start()
        try:
            store = engine.create_database("bench")
            database.migrate(store)
            nobody, secret = "http://127.0.0.1:1/realms/none", Fernet.generate_key().decode()
            settings = Settings(database_url=store, redis_url=url, encryption_keys=secret, oidc_issuer=nobody)
            platform = Platform(settings)
            ratelimit_wire.reconcile(platform)
            edits = [ratelimits.Edit(ratelimits.Target(KEY), {"limit": 9000 + number}) for number in range(SAVES)]
            for edit in edits[:3]:  # a console that runs has its connections
                ratelimits.save(platform, SYSTEM, [edit], reason="measured")
            delays: list[float] = []
            answered: list[float] = []
            with _listeners(url) as obeyed:
                for number, edit in enumerate(edits):
                    started = time.monotonic()
                    ratelimits.save(platform, SYSTEM, [edit], reason="measured")
                    answered.append(time.monotonic() - started)
                    delays += [at - started for at in obeyed(9000 + number)]
            platform.close()
        finally:
            engine.kill()
    return delays, answered


def memory(url: str) -> list[Row]:
    """What a limiter with 5,000 overrides keeps in memory."""
    client = redis.Redis.from_url(url)
    overrides = {f"tenant:tenant-{n}": {"limit": n, "expires_at": 1.9e9 + n} for n in range(5000)}
    publish.apply(client, "memory", 1, base={"limit": 1, "window_seconds": 60, "policy": "HARD"}, overrides=overrides)
    tracemalloc.start()
    with Limiter(client, timeout=5) as limiter:
        before = tracemalloc.get_traced_memory()[0]
        limiter.wait_ready(30)
        kept = tracemalloc.get_traced_memory()[0] - before
        count = len(limiter.store.table.keys["memory"].tenants)
    tracemalloc.stop()
    return [Row(f"memory of a limiter with {count:,} overrides, all different", f"{kept / 2**20:.1f} MiB")]


def run() -> list[Row]:
    """All rows, on a Valkey of their own."""
    with _server() as url:
        return [*throughput(url), *propagation(url), *memory(url)]
