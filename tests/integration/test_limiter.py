"""The limiter on a real Valkey: exact under load, right at the second, bounded when Redis is not there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import redis

from limiter import KeyPolicies, LeasedLimiter, Limiter, Mode, OnFailure, Rule, http, keys, publish, resolve, window
from limiter.aio import AsyncLimiter
from limiter.asgi import RateLimitMiddleware
from tests.support import poll

KEY = "api_calls"


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as made:
        yield made


class Clock:
    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def base(limit: int | None, mode: str = "HARD", window_seconds: int = 3600, **more: object) -> dict[str, object]:
    return {"limit": limit, "window_seconds": window_seconds, "policy": mode, **more}


@pytest.fixture
def make(client: redis.Redis) -> Iterator[Callable[..., Limiter]]:
    made: list[Limiter] = []

    def start(**options: object) -> Limiter:
        limiter = Limiter(client, **{"timeout": 2.0, **options})  # type: ignore[arg-type]
        made.append(limiter)
        assert options.get("watch") is False or limiter.wait_ready()
        return limiter

    yield start
    for limiter in made:
        limiter.close()


def test_the_script_equals_the_python_model(client, make) -> None:
    publish.apply(client, KEY, 1, base=base(10, window_seconds=10))
    clock, model, log = Clock(), (0, 0, 0), random.Random(7)
    limiter = make(clock=clock)
    for _ in range(800):
        clock.now += log.choice((0, 0.1, 0.4, 3))
        now, cost = round(clock.now * 1000), log.choice((1, 1, 2, 5))
        index, current, previous = window.roll(*model, now, 10_000)
        used = window.used(current, previous, window.elapsed(index, now, 10_000), 10_000)
        allowed = used + cost <= 10
        assert limiter.peek(KEY, "acme", cost=cost).allowed is allowed
        decision = limiter.check(KEY, "acme", cost=cost)
        assert (decision.allowed, decision.used) == (allowed, used + cost if allowed else used)
        model = (index, current + cost if allowed else current, previous)


@pytest.mark.parametrize(("mode", "allowed"), [("HARD", 5), ("SOFT", 8), ("WARN", 8)])
def test_modes(client, make, mode, allowed) -> None:
    overrides = {"tenant:none": {"limit": 0}, "tenant:all": {"limit": None}}
    publish.apply(client, KEY, 1, base=base(5, mode), overrides=overrides)
    limiter = make(clock=Clock())
    answers = [limiter.check(KEY, "acme") for _ in range(8)]
    assert sum(answer.allowed for answer in answers) == allowed
    assert [answer.over_limit for answer in answers] == [False] * 5 + [True] * 3
    assert [answer.warning for answer in answers] == [False] * 3 + [True] * 5
    assert not limiter.check(KEY, "none").allowed
    assert limiter.check(KEY, "all").remaining is None
    stats = Counter()
    for number in range(keys.SHARDS):
        minute = client.hgetall(keys.minutes(number, 1_800_000_000 // 60))
        stats.update({name.decode(): int(value) for name, value in minute.items()})
    assert stats[f"{KEY}|a"] == 6
    assert stats[f"{KEY}|{'b' if mode == 'HARD' else mode[0].lower()}"] == 3 + (mode == "HARD")
    number = keys.shard(KEY, "acme")
    kinds = [fields[b"kind"] for _, fields in client.xrange(keys.signals(number)) if fields[b"subject"] == b"acme"]
    assert kinds == [b"near", b"over"]


def test_an_override_ends_in_the_second_it_expires(client, make) -> None:
    clock = Clock()
    publish.apply(client, KEY, 1, base=base(5), overrides={"tenant:acme": {"limit": 50, "expires_at": clock.now + 10}})
    limiter = make(clock=clock)
    clock.now += 9.999
    assert limiter.peek(KEY, "acme").limit == 50
    clock.now += 0.001
    assert limiter.peek(KEY, "acme").limit == 5


def test_expiry_goes_by_the_server_even_when_our_clock_is_wrong(client, make) -> None:
    seconds, _ = client.time()
    publish.apply(client, KEY, 1, base=base(5), overrides={"tenant:a": {"limit": 50, "expires_at": seconds + 3600}})
    limiter = make()
    limiter.core.offset = 7200.0
    assert limiter.check(KEY, "a").limit == 50
    assert abs(limiter.core.offset) < 60


def _hammer(url: str, calls: int, queue) -> None:
    with redis.Redis.from_url(url) as client, Limiter(client, timeout=20.0) as limiter:
        limiter.wait_ready(30)
        answers = [limiter.check(KEY, "acme") for _ in range(calls)]
        queue.put(tuple(sum(getattr(a, name) for a in answers) for name in ("allowed", "over_limit", "degraded")))


@pytest.mark.parametrize("mode", ["HARD", "SOFT", "WARN"])
def test_32_processes_get_exactly_the_limit(client, redis_url, mode) -> None:
    publish.apply(client, KEY, 1, base=base(500, mode, window_seconds=86400 * 31))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=_hammer, args=(redis_url, 40, queue)) for _ in range(32)]
    for worker in workers:
        worker.start()
    results = [queue.get(timeout=90) for _ in workers]
    for worker in workers:
        worker.join(10)
    assert sum(degraded for _, _, degraded in results) == 0
    assert sum(allowed for allowed, _, _ in results) == (500 if mode == "HARD" else 1280)
    assert sum(over for _, over, _ in results) == 780


def test_changes_arrive_in_order_and_older_ones_are_ignored(client, make) -> None:
    assert publish.apply(client, KEY, 3, base=base(30), overrides={"tenant:a": {"limit": 3}})
    limiter = make()
    assert not publish.apply(client, KEY, 2, base=base(20), overrides={"tenant:a": {"limit": 2}})
    assert publish.apply(client, KEY, 4, overrides={"tenant:a": None})
    poll(lambda: limiter.peek(KEY, "a").limit == 30)
    assert json.loads(client.get(keys.config(KEY)))["limit"] == 30
    client.config_resetstat()
    for _ in range(20):
        limiter.check(KEY, "a")
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == 20


def test_survives_script_flush_lost_connections_and_a_lost_subscription(client, make) -> None:
    publish.apply(client, KEY, 1, base=base(1000))
    limiter = make()
    assert limiter.check(KEY, "a").allowed
    client.script_flush()
    assert not limiter.check(KEY, "a").degraded
    client.client_kill_filter(_type="normal", skipme=True)
    assert not limiter.check(KEY, "a").degraded
    client.client_kill_filter(_type="pubsub")
    publish.apply(client, KEY, 2, base=base(77))
    poll(lambda: limiter.peek(KEY, "a").limit == 77)
    assert limiter.check(KEY, "a").used == 4


def test_a_message_nobody_delivered_is_found_by_the_poll(client, make) -> None:
    publish.apply(client, KEY, 1, base=base(10))
    limiter = make()
    client.eval(
        "redis.call('SET', KEYS[1], ARGV[1]) redis.call('ZADD', KEYS[2], '9e15', '@')", 2,
        keys.config(KEY), keys.changes(KEY), json.dumps(base(11)),
    )  # fmt: skip
    client.hset(keys.VERSIONS, KEY, 9 * 10**15)
    poll(lambda: limiter.peek(KEY, "a").limit == 11, 5)


def test_an_emptied_redis_is_no_reason_to_admit_everything(client, make) -> None:
    publish.apply(client, KEY, 1, base=base(2))
    limiter = make()
    client.flushall()
    limiter.store.poll()
    assert [limiter.check(KEY, "a").allowed for _ in range(3)] == [True, True, False]


def test_a_replica_is_not_written_and_the_new_primary_is_found(client, make, redis_url) -> None:
    publish.apply(client, KEY, 1, base=base(10, on_redis_failure="deny"))
    limiter = make()
    assert limiter.check(KEY, "a").allowed
    client.replicaof("127.0.0.1", 1)
    try:
        refused = limiter.check(KEY, "a")
        assert refused.degraded
        assert not refused.allowed
    finally:
        client.replicaof("NO", "ONE")
    poll(lambda: not limiter.check(KEY, "a").degraded)


@contextlib.contextmanager
def listener(behave: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that accepts and then behaves badly."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                with contextlib.suppress(OSError):
                    peer, _ = server.accept()
                    threading.Thread(target=_quietly, args=(behave, peer), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        stop.set()


def _quietly(behave: Callable[[socket.socket], None], peer: socket.socket) -> None:
    with contextlib.suppress(OSError), peer:
        behave(peer)


def drip(peer: socket.socket) -> None:
    while peer.recv(1) and peer.send(b"$"):
        threading.Event().wait(0.03)


@pytest.mark.parametrize("behave", [lambda peer: peer.recv(10**6) and threading.Event().wait(5), drip,
                                    lambda peer: peer.sendall(b"garbage\r\n" * 100)])  # fmt: skip
@pytest.mark.parametrize("failure", [OnFailure.ALLOW, OnFailure.DENY])
def test_no_call_waits_longer_than_its_timeout(behave, failure) -> None:
    with listener(behave) as port, redis.Redis(port=port) as broken:
        with Limiter(broken, timeout=0.15, watch=False) as limiter:
            limiter.store.table.keys[KEY] = KeyPolicies(Rule(5, 60, Mode.HARD, on_failure=failure))
            limiter.store.table.complete = True
            for _ in range(3):
                limiter.core.paused.clear()
                started = time.monotonic()
                decision = limiter.check(KEY, "a")
                assert time.monotonic() - started < 0.5
                assert decision.degraded
                assert decision.allowed is (failure is OnFailure.ALLOW)
            assert limiter.core.failures == 3

        async def asynchronously() -> None:
            async with AsyncLimiter(redis.asyncio.Redis(port=port), timeout=0.15) as made:
                made.table.keys[KEY] = limiter.store.table.keys[KEY]
                made.table.complete = True
                started = time.monotonic()
                decision = await made.check(KEY, "a")
                assert time.monotonic() - started < 0.5
                assert decision.degraded

        asyncio.run(asynchronously())


def test_what_was_decided_without_redis_is_reported_when_it_is_back(client, make) -> None:
    publish.apply(client, KEY, 1, base=base(5))
    limiter = make()
    limiter.core.without_redis(KEY, None, 1, None)
    poll(lambda: any(client.hgetall(keys.fallback(int(time.time()) // 60 - back)) for back in (0, 1)))


def test_asyncio_decides_alike(client, redis_url, make) -> None:
    publish.apply(client, KEY, 1, base=base(5))
    limiter = make()

    async def work() -> None:
        async with redis.asyncio.Redis.from_url(redis_url) as other, AsyncLimiter(other, timeout=2.0) as asynchronous:
            assert await asynchronous.wait_ready()
            answers = await asyncio.gather(*(asynchronous.check(KEY, "a") for _ in range(8)))
            assert sum(answer.allowed for answer in answers) == 5
            assert (await asynchronous.peek(KEY, "a"))[:4] == limiter.peek(KEY, "a")[:4]
            client.script_flush()
            publish.apply(client, KEY, 2, base=base(9))
            async with asyncio.timeout(5):
                while (await asynchronous.check(KEY, "b")).limit != 9:
                    await asyncio.sleep(0.01)

    asyncio.run(work())


def test_leases_never_exceed_a_hard_limit_and_give_back_what_they_did_not_use(client, make) -> None:
    month, soft = 86400 * 31, {"tenant:s": {"limit": 10, "policy": "SOFT"}}
    publish.apply(client, KEY, 1, base=base(1000, window_seconds=month), overrides=soft)
    limiters = [make() for _ in range(3)]
    leased = [LeasedLimiter(limiter, block=100) for limiter in limiters]
    admitted = [0] * 3

    def work(number: int) -> None:
        admitted[number] = sum(leased[number].check(KEY, "a").allowed for _ in range(300))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in leased:
        one.close()
    assert sum(admitted) == limiters[0].peek(KEY, "a").used == 900
    answers = [leased[0].check(KEY, "a").allowed for _ in range(200)]
    assert answers == [True] * 100 + [False] * 100
    soft = [leased[0].check(KEY, "s") for _ in range(15)]
    assert all(answer.allowed for answer in soft)
    assert sum(answer.over for answer in soft) == 5
    assert not leased[0].check(KEY, "a").allowed
    publish.apply(client, KEY, 2, base=base(2000, window_seconds=86400 * 31))
    poll(lambda: leased[0].check(KEY, "a").allowed)
    leased[0].close()
    assert limiters[0].peek(KEY, "s").used == 15


def test_everything_of_a_decision_lies_in_one_cluster_slot() -> None:
    slots = redis.cluster.key_slot
    for who in ("acme", "a/b", "tenant with {braces}"):
        number = keys.shard(KEY, who)
        names = [make(number, 1) for make in (keys.minutes, keys.hours, keys.actives)]
        names += [make(number, KEY) for make in (keys.top, keys.near)]
        names += [keys.counter(number, KEY, who, 60), keys.blocked(number), keys.signals(number)]
        names.append(keys.settled(number, "0123456789abcdef"))
        assert len({slots(name.encode()) for name in names}) == 1
    assert len({slots(name(KEY).encode()) for name in (keys.config, keys.overrides, keys.changes)}) == 1
    assert len({slots(keys.blocked(number).encode()) for number in range(keys.SHARDS)}) > 60


def test_asgi_middleware_answers_429_with_the_fields(client, make) -> None:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient

    publish.apply(client, KEY, 1, base=base(1))
    app = Starlette(routes=[Route("/", lambda request: PlainTextResponse("hello"))])
    web = TestClient(RateLimitMiddleware(app, make(), lambda scope: (KEY, "acme", None, 1)))
    first, second = web.get("/"), web.get("/")
    assert first.text == "hello"
    assert first.headers["ratelimit-policy"] == '"api_calls";q=1;w=3600'
    assert first.headers["ratelimit"].startswith('"api_calls";r=0;t=')
    assert second.status_code == 429
    assert int(second.headers["retry-after"]) > 0
    assert second.json()["limit"] == 1
    assert "Retry-After" in http.headers(make().peek(KEY, "acme"))


def test_the_resolution_equals_the_decision_for_10000_combinations(client, make) -> None:
    from models import RateLimitPolicy
    from operations.ratelimit_rules import override_document, override_name, place, rule_of

    dice, clock = random.Random(20), Clock()
    limiter = make(clock=clock, watch=False)
    from datetime import UTC, datetime

    def row(**reference: str) -> RateLimitPolicy:
        expires = dice.choice((None, None, clock.now - 5, clock.now + 5, clock.now + 1000))
        full = not reference
        return RateLimitPolicy(
            key=KEY,
            limit_value=dice.choice((None, 0, 1, 7, 100)),
            window_seconds=60 if full else dice.choice((None, 10, 60)),
            policy=dice.choice(("HARD", "SOFT", "WARN") if full else (None, "HARD", "SOFT", "WARN")),
            active=dice.random() < 0.8,
            expires_at=None if full or expires is None else datetime.fromtimestamp(expires, UTC),
            **reference,
        )

    version, count = 0, 0
    for _ in range(250):
        clock.now += 1000
        rows = [row()]
        rows[0].scope = "GLOBAL"
        rows += [row(scope="TIER", tier_code=tier) for tier in ("free", "team") if dice.random() < 0.7]
        rows += [row(scope="TENANT", tenant_id=tenant) for tenant in ("a", "b") if dice.random() < 0.6]
        rows += [row(scope="AGENT", tenant_id="a", agent_id=agent) for agent in ("x", "y") if dice.random() < 0.6]
        table, version = KeyPolicies(), version + 1
        for one in rows:
            place(table, one)
        by_tier = {r.tier_code: rule_of(r).document() for r in rows if r.tier_code}
        document = {**rule_of(rows[0]).document(), "tiers": by_tier}
        names = {"tenant:a": None, "tenant:b": None, "agent:a/x": None, "agent:a/y": None}
        named = {override_name(r): override_document(r) for r in rows if r.tenant_id}
        publish.apply(client, KEY, version, base=document, overrides={**names, **named})
        tiers = {tenant: dice.choice(("free", "team")) for tenant in "ab"}
        publish.apply(client, keys.TENANTS, version, overrides={t: {"tier": tier} for t, tier in tiers.items()})
        limiter.store.poll()
        for _ in range(40):
            clock.now += dice.choice((0, 0.5, 1, 4))
            tenant, agent = dice.choice(("a", "b", "c")), dice.choice((None, "x", "y"))
            said = resolve(table, tenant, agent, tiers.get(tenant), clock.now)
            did = limiter.check(KEY, tenant, agent)
            assert (said.limit, said.mode, said.source, said.window_seconds) == did_of(did)
            blocks = said.limit is not None and (said.mode is Mode.HARD or said.limit == 0) and did.over > 0
            assert did.allowed is not blocks
            count += 1
    assert count == 10_000


def did_of(decision) -> tuple:
    return decision.limit, decision.policy, decision.source, decision.window_seconds
