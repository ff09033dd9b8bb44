"""What can go wrong around a limiter: lost data, odd documents, lost answers, forks, clocks, time that is up."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
import redis
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from limiter import KeyPolicies, LeasedLimiter, Limiter, Mode, OnFailure, Rule, keys, publish, usage
from limiter.aio import AsyncLimiter
from limiter.asgi import RateLimitMiddleware
from limiter.link import LostReplyError
from tests.support import poll

pytestmark = pytest.mark.timeout(90)

KEY, OTHER = "api_calls", "llm_tokens"
MONTH = 31 * 86400


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as made:
        yield made


@pytest.fixture
def make(client: redis.Redis) -> Iterator[Callable[..., Limiter]]:
    with ExitStack() as stack:

        def start(**options: object) -> Limiter:
            limiter = stack.enter_context(Limiter(client, **{"timeout": 2.0, **options}))  # type: ignore[arg-type]
            assert options.get("watch") is False or limiter.wait_ready()
            return limiter

        yield start


def base(limit: int | None, mode: str = "HARD", window_seconds: int = 3600, **more: object) -> dict[str, object]:
    return {"limit": limit, "window_seconds": window_seconds, "policy": mode, **more}


# -- data lost


def test_one_change_after_redis_was_emptied_lifts_no_other_limit(client, make) -> None:
    publish.apply(client, KEY, 1, base=base(2), overrides={"tenant:x": {"limit": 0}})
    publish.apply(client, OTHER, 1, base=base(2))
    limiter = make()
    client.flushall()
    publish.apply(client, KEY, 2, base=base(3))
    poll(lambda: limiter.peek(KEY, "a").limit == 3)
    time.sleep(1.2)  # a poll
    assert limiter.peek(OTHER, "a").limit == 2
    client.client_kill_filter(_type="pubsub")
    time.sleep(0.5)
    assert limiter.store.connected.wait(5)
    assert limiter.peek(OTHER, "a").limit == 2


def test_a_part_of_a_lost_key_is_not_taken_for_the_whole(client, make) -> None:
    publish.apply(client, KEY, 1, base=base(2), overrides={"tenant:x": {"limit": 0}})
    limiter = make()
    client.flushall()
    with pytest.raises(publish.Missing):
        publish.apply(client, KEY, 2, overrides={"tenant:y": {"limit": 5}}, must_exist=True)
    assert not client.exists(keys.overrides(KEY))
    publish.apply(client, KEY, 3, base=base(2), overrides={"tenant:x": {"limit": 0}}, more_follows=True)
    limiter.store.poll()
    assert not client.exists(keys.VERSIONS)
    assert limiter.peek(KEY, "x").limit == 0
    publish.apply(client, KEY, 3, overrides={"tenant:y": {"limit": 5}})
    poll(lambda: limiter.peek(KEY, "y").limit == 5)
    assert (limiter.peek(KEY, "x").limit, limiter.peek(KEY, "z").limit) == (0, 2)


def test_what_was_written_without_telling_is_fetched_with_what_is_told(client, make) -> None:
    publish.apply(client, KEY, 1, base=base(2))
    limiter = make()
    publish.apply(client, KEY, 2, overrides={"tenant:x": {"limit": 0}}, more_follows=True)
    publish.apply(client, KEY, 2, overrides={"tenant:y": {"limit": 5}})
    poll(lambda: limiter.peek(KEY, "y").limit == 5)
    assert limiter.peek(KEY, "x").limit == 0


def test_a_key_whose_documents_are_lost_keeps_its_limit_and_an_unknown_one_is_not_unlimited(client, make) -> None:
    publish.apply(client, KEY, 1, base=base(2))
    limiter = make(unloaded=OnFailure.DENY)
    for name in (keys.config(KEY), keys.overrides(KEY), keys.changes(KEY)):
        client.delete(name)
    limiter.store.reload()
    assert limiter.peek(KEY, "a").limit == 2
    fresh = make(unloaded=OnFailure.DENY)
    decision = fresh.check(KEY, "a")
    assert (decision.allowed, decision.degraded) == (False, True)
    publish.apply(client, KEY, 2, base=base(4))
    poll(lambda: fresh.peek(KEY, "a").limit == 4)


@pytest.mark.parametrize("verdict", OnFailure)
def test_a_limiter_that_starts_while_redis_is_empty_decides_as_unloaded_and_counts(client, make, verdict) -> None:
    limiter = make(unloaded=verdict)
    decision = limiter.check(KEY, "a")
    assert (decision.allowed, decision.limit, decision.source) == (verdict is OnFailure.ALLOW, None, "none")
    assert decision.degraded
    poll(lambda: usage.without_redis(client, [int(time.time()) // 60 - n for n in (0, 1)]))
    publish.apply(client, OTHER, 1, base=base(2))
    poll(lambda: limiter.peek(OTHER, "a").limit == 2)
    known = limiter.check(KEY, "a")
    assert known.allowed and not known.degraded, "now it is a key without any limit"


def test_a_deleted_key_is_told(client, make) -> None:
    publish.apply(client, KEY, 1, base=base(2), overrides={"tenant:a": {"limit": 1}})
    limiter = make()
    publish.apply(client, KEY, 2, remove_base=True, overrides={"tenant:a": None})
    poll(lambda: limiter.peek(KEY, "a").source == "none")


def test_removed_overrides_are_forgotten_and_nobody_misses_it(client, make) -> None:
    some = {f"tenant:t{n}": {"limit": n} for n in range(20)}
    publish.apply(client, KEY, 1, base=base(1000), overrides=some)
    late = make(watch=False)
    late.check(KEY, "t3")
    assert late.peek(KEY, "t3").limit == 3
    publish.apply(client, KEY, 2, overrides={name: None for name in some if name != "tenant:t4"})
    assert publish.prune(client, KEY, list(some), 3600) == 0
    assert client.hlen(keys.overrides(KEY)) == 20
    assert publish.prune(client, KEY, list(some), -1) == 19
    assert client.hkeys(keys.overrides(KEY)) == [b"tenant:t4"]
    assert {name.decode() for name in client.zrange(keys.changes(KEY), 0, -1)} == {
        "@", "@base", "@epoch", "@pruned", "tenant:t4"
    }  # fmt: skip
    late.store.poll()  # it knew of none of the removals
    assert (late.peek(KEY, "t3").limit, late.peek(KEY, "t4").limit) == (1000, 4)


# -- odd documents and messages


ODD = ["5", "[]", "null", "x", '"a"', '{"tier": 5}', '{"tier": {}}', "[" * 100_000]


@pytest.mark.parametrize("document", ODD)
def test_an_odd_document_among_tenants_costs_only_that_tenant(client, make, document) -> None:
    publish.apply(client, KEY, 1, base={**base(2), "tiers": {"team": {"limit": 9}}})
    publish.apply(client, keys.TENANTS, 1, overrides={"a": {"tier": "team"}, "b": {"tier": "team"}})
    before = make()
    client.hset(keys.overrides(keys.TENANTS), "b", document)
    limiter = make()
    assert limiter.peek(KEY, "a").limit == 9
    before.store.reload()
    assert before.peek(KEY, "b").limit in (9, 2)
    publish.apply(client, keys.TENANTS, 2, overrides={"b": {"tier": "team"}})
    poll(lambda: limiter.peek(KEY, "b").limit == 9)


BAD_RULES = [
    {"limit": 5, "warn_percent": "x"}, {"limit": -1}, {"limit": 5, "window_seconds": -5}, {"limit": "many"}, {},
    {"limit": 5, "expires_at": float("nan")}, {"limit": 5, "expires_at": float("inf")}, {"limit": 5, "active": "no"},
    {"limit": 5, "policy": ["HARD"]}, {"limit": 5, "expires_at": "soon"}, {"limit": 10**400}, {"limit": []},
]  # fmt: skip


@pytest.mark.parametrize("rule", BAD_RULES, ids=repr)
def test_a_rule_that_is_none_is_refused_and_the_last_good_one_stays(client, make, rule) -> None:
    publish.apply(client, KEY, 1, base=base(2), overrides={"tenant:a": {"limit": 7}})
    limiter = make()
    publish.apply(client, KEY, 2, overrides={"tenant:a": rule, "tenant:b": {"limit": 3}})
    poll(lambda: limiter.check(KEY, "b").limit == 3)
    assert limiter.check(KEY, "a").limit == 7
    assert f"{KEY} tenant:a" in limiter.store.table.refused
    limiter.store.reload()
    assert limiter.check(KEY, "a").limit == 7


MESSAGES = ["5", "null", "x", "[]", "[1,2,3,4,5,6]", '["api_calls",[],{},"",5,{}]', "[" * 100_000,
            '[{},"1","2","3","",{}]', '["api_calls","1e999","1","1","",{}]', "\udcff\udcfe"]  # fmt: skip


def test_no_message_ends_the_thread_that_hears_of_changes(client, make, redis_url) -> None:
    publish.apply(client, KEY, 1, base=base(2))
    limiter = make()
    thread = limiter.store._thread

    async def alike() -> None:
        async with redis.asyncio.Redis.from_url(redis_url) as other, AsyncLimiter(other, timeout=2.0) as asynchronous:
            assert await asynchronous.wait_ready()
            task = asynchronous._task
            for message in MESSAGES:
                for channel in (keys.CHANGES, keys.CHANNEL):
                    client.publish(channel, message.encode(errors="surrogateescape"))
            loaded = limiter.store.table.at(KEY)
            half = [KEY, str(loaded.revision), str(loaded.revision + 1), str(loaded.epoch), 5, ["tenant:a", 5]]
            client.publish(keys.CHANGES, json.dumps(half))
            publish.apply(client, KEY, 2, base=base(77))
            async with asyncio.timeout(10):
                while (await asynchronous.peek(KEY, "a")).limit != 77:
                    await asyncio.sleep(0.01)
            assert asynchronous._task is task
            assert not task.done()

    asyncio.run(alike())
    poll(lambda: limiter.peek(KEY, "a").limit == 77)
    assert limiter.store._thread is thread
    assert thread.is_alive()


def test_wrong_types_and_versions_in_redis_cost_only_their_key(client, make) -> None:
    publish.apply(client, KEY, 1, base=base(2))
    publish.apply(client, OTHER, 1, base=base(3))
    client.delete(keys.overrides(KEY))
    client.set(keys.overrides(KEY), "not a hash")
    publish.apply(client, OTHER, 2, base=base(4))
    client.zadd(keys.changes(KEY), {"tenant:x": 9e15})  # so that the wrong one is looked at
    client.hset(keys.VERSIONS, mapping={"Bad Key": "many", b"\xff\xfe": "7"})
    client.set(keys.fallback(int(time.time()) // 60), "not a hash either")
    limiter = make(unloaded=OnFailure.DENY)
    assert limiter.check(OTHER, "a").limit == 4
    assert limiter.check(KEY, "a").degraded
    assert not limiter.check(KEY, "a").allowed
    publish.apply(client, OTHER, 3, base=base(5))
    poll(lambda: limiter.check(OTHER, "a").limit == 5)
    time.sleep(1.2)
    assert limiter.store.connected.is_set()


# -- answers lost


@contextmanager
def cut_after_sending(limiter: Limiter) -> Iterator[None]:
    """Requests are carried out, and their answers never come."""
    real = limiter.wire.run

    def lost(*arguments: object) -> bytes:
        real(*arguments)  # type: ignore[arg-type]
        raise LostReplyError("cut")

    limiter.wire.run = lost  # type: ignore[method-assign]
    try:
        yield
    finally:
        limiter.wire.run = real  # type: ignore[method-assign]


def recorded(client: redis.Redis, who: str) -> dict[str, int]:
    hour = int(client.time()[0]) // 3600
    found = {}
    for at in (hour - 1, hour):
        for name, value in client.hgetall(keys.hours(keys.shard(KEY, who), at)).items():
            found[name.decode()] = found.get(name.decode(), 0) + int(value)
    return found


def test_a_lease_whose_answer_is_lost_is_settled_once(client, make) -> None:
    publish.apply(client, KEY, 1, base=base(10_000, window_seconds=MONTH))
    limiter = make()
    leased = LeasedLimiter(limiter, block=50, ttl=0.2)
    limiter.store.on_poll.remove(leased._sweep)
    assert leased.check(KEY, "a").allowed
    limiter.check(KEY, "a", cost=400)
    time.sleep(0.3)
    with cut_after_sending(limiter):
        assert leased.check(KEY, "a").degraded
        leased._sweep(None)
        leased._sweep(None)
    limiter.core.paused.clear()
    assert leased.check(KEY, "a").allowed
    leased._sweep(None)
    leased.close()
    assert limiter.peek(KEY, "a").used == 402
    assert recorded(client, "a")[f"a|{KEY}|a"] == 402


def test_nobody_decides_by_a_lease_that_may_have_been_given_back(client, make) -> None:
    publish.apply(client, KEY, 1, base=base(2000, window_seconds=MONTH))
    limiter = make()
    leased = LeasedLimiter(limiter, block=50, ttl=60)
    assert leased.check(KEY, "a").allowed
    with cut_after_sending(limiter):
        assert leased.check(KEY, "a", cost=60).degraded  # more than is left: it settles and asks
    limiter.core.paused.clear()
    admitted = sum(leased.check(KEY, "a").allowed for _ in range(3000))
    leased._sweep(None)
    leased.close()
    assert admitted + 1 == limiter.peek(KEY, "a").used == recorded(client, "a")[f"a|{KEY}|a"]
    assert admitted + 1 <= 2000


def test_a_close_that_failed_can_be_repeated(client, make) -> None:
    publish.apply(client, KEY, 1, base=base(2000, window_seconds=MONTH))
    limiter = make()
    leased = LeasedLimiter(limiter, block=50, ttl=60)
    for who in ("a", "b", "c"):
        assert leased.check(KEY, who).allowed
    with cut_after_sending(limiter), pytest.raises(redis.RedisError):
        leased.close()
    leased.close()
    assert [limiter.peek(KEY, who).used for who in ("a", "b", "c")] == [1, 1, 1]
    assert [recorded(client, who)[f"a|{KEY}|{who}"] for who in ("a", "b", "c")] == [1, 1, 1]


@contextmanager
def proxy(port: int, behave: Callable[[socket.socket, socket.socket, bytes], bool]) -> Iterator[int]:
    """In between: every request goes on; ``behave`` may answer it otherwise (True) before its answer would."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve(peer: socket.socket) -> None:
            with peer, socket.create_connection(("127.0.0.1", port)) as there:
                while asked := peer.recv(65536):
                    there.sendall(asked)
                    answer = there.recv(65536)
                    if behave(peer, there, asked):
                        return
                    peer.sendall(answer)

        def accept() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(peer,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]


def test_a_decision_whose_answer_is_lost_counts_once_at_most(client, redis_url) -> None:
    """The connection ends when the request was carried out: it is not sent again."""
    publish.apply(client, KEY, 1, base=base(1000, on_redis_failure="deny"))
    port = client.connection_pool.connection_kwargs["port"]
    cut = threading.Event()

    def behave(_peer: socket.socket, _there: socket.socket, asked: bytes) -> bool:
        return cut.is_set() and b"EVALSHA" in asked

    with proxy(port, behave) as between, redis.Redis(port=between) as broken:
        policies = KeyPolicies(Rule(1000, 3600, Mode.HARD, on_failure=OnFailure.DENY))
        with Limiter(broken, timeout=2.0, watch=False) as limiter:
            limiter.store.table.keys[KEY] = policies
            limiter.store.table.complete = True
            assert limiter.check(KEY, "a").used == 1
            cut.set()
            lost = limiter.check(KEY, "a")
            assert (lost.degraded, lost.allowed) == (True, False)
            cut.clear()
            limiter.core.paused.clear()
            assert limiter.peek(KEY, "a").used == 2

        async def alike() -> None:
            other = redis.asyncio.Redis(port=between)
            limiter = AsyncLimiter(other, timeout=2.0)
            assert await limiter.wait_ready()
            assert (await limiter.check(KEY, "b")).used == 1
            cut.set()
            assert (await limiter.check(KEY, "b")).degraded
            cut.clear()
            limiter.core.paused.clear()
            assert (await limiter.peek(KEY, "b")).used == 2
            await limiter.close()
            await other.aclose()

        asyncio.run(alike())


def test_connections_that_died_while_idle_are_seen_beforehand(client, make, redis_url) -> None:
    publish.apply(client, KEY, 1, base=base(1000, on_redis_failure="deny"))
    limiter = make()
    for number in range(20):
        assert limiter.check(KEY, "a").used == number + 1
        client.client_kill_filter(_type="normal", skipme=True)

    async def alike() -> None:
        async with redis.asyncio.Redis.from_url(redis_url) as other, AsyncLimiter(other, timeout=2.0) as asynchronous:
            assert await asynchronous.wait_ready()
            for number in range(20):
                assert (await asynchronous.check(KEY, "b")).used == number + 1
                client.client_kill_filter(_type="normal", skipme=True)

    asyncio.run(alike())


def test_an_error_redis_answers_is_no_reason_to_leave_it_alone(client, make, redis_url) -> None:
    publish.apply(client, KEY, 1, base=base(1000, on_redis_failure="deny"))
    limiter = make()
    client.set(keys.counter(keys.shard(KEY, "bad"), KEY, "bad", 3600), "no hash")
    for _ in range(20):
        assert limiter.check(KEY, "bad").degraded
        assert not limiter.check(KEY, "good").degraded

    async def alike() -> None:
        async with redis.asyncio.Redis.from_url(redis_url) as other, AsyncLimiter(other, timeout=2.0) as asynchronous:
            assert await asynchronous.wait_ready()
            for _ in range(20):
                assert (await asynchronous.check(KEY, "bad")).degraded
                assert not (await asynchronous.check(KEY, "good")).degraded

    asyncio.run(alike())


# -- forks


def in_child(work: Callable[[], object]) -> object:
    """What ``work`` answers in a child."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=lambda: queue.put(work()))
    child.start()
    answer = queue.get(timeout=30)
    child.join(10)
    return answer


def test_a_child_hears_of_changes_and_uses_nothing_of_its_parents(client, make, redis_url) -> None:
    publish.apply(client, KEY, 1, base=base(100))
    limiter = make()
    shared = Limiter(client, timeout=2.0, share=limiter)
    leased = LeasedLimiter(limiter, block=5, ttl=60)
    assert limiter.check(KEY, "a").limit == shared.check(KEY, "a").limit == 100
    assert leased.check(KEY, "lent").allowed  # five are lent: one is used
    limiter.core.without_redis(KEY, None, 1, None)
    held = [limiter.core._lock, limiter.store._lock, leased._lock]
    for lock in held:
        lock.acquire()

    def child() -> object:
        with redis.Redis.from_url(redis_url) as own:
            unreported = sum(limiter.core.take_unreported().values())
            first = limiter.peek(KEY, "a").limit
            publish.apply(own, KEY, 2, base=base(55))
            end = time.monotonic() + 10
            while limiter.peek(KEY, "a").limit != 55 and time.monotonic() < end:
                time.sleep(0.01)
            used = leased.check(KEY, "lent").used
            leased.close()
            return first, limiter.peek(KEY, "a").limit, shared.peek(KEY, "a").limit, unreported, used

    pid = os.getpid()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=lambda: queue.put(child()))
    process.start()
    for lock in held:
        lock.release()
    assert queue.get(timeout=30) == (100, 55, 55, 0, 6)
    process.join(10)
    assert os.getpid() == pid
    poll(lambda: limiter.peek(KEY, "a").limit == 55)
    leased.close()
    assert limiter.peek(KEY, "lent").used == 2
    shared.close()


def test_a_child_hears_of_what_changed_before_its_first_call(client, make) -> None:
    publish.apply(client, KEY, 1, base=base(100))
    limiter = make()
    changed = multiprocessing.get_context("fork").Event()

    def child() -> object:
        changed.wait(10)
        return limiter.check(KEY, "a").limit

    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=lambda: queue.put(child()))
    process.start()
    publish.apply(client, KEY, 2, base=base(55))
    changed.set()
    assert queue.get(timeout=30) == 55
    process.join(10)


def test_an_asyncio_limiter_goes_on_in_a_child(client, redis_url) -> None:
    publish.apply(client, KEY, 1, base=base(100))
    limiter = AsyncLimiter(redis.asyncio.Redis.from_url(redis_url), timeout=2.0)

    async def use() -> int | None:
        return (await limiter.check(KEY, "a")).limit

    async def parent() -> None:
        assert await limiter.wait_ready()
        assert await use() == 100
        assert in_child(lambda: asyncio.run(use())) == 100
        assert (await limiter.check(KEY, "a")).used == 3
        await limiter.close()

    asyncio.run(parent())


# -- time that is up


@contextmanager
def silent() -> Iterator[int]:
    """A server that takes everything and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        peers: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    peers.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        for peer in peers:
            peer.close()


LATE = 0.12
"""What a busy machine may add."""


def took(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def test_one_deadline_for_everything_a_call_does() -> None:
    with silent() as port, redis.Redis(port=port) as broken:
        with Limiter(broken, timeout=0.2, watch=False) as unloaded:
            assert took(lambda: unloaded.check(KEY, "a")) < 0.2 + LATE
            assert took(lambda: unloaded.check(KEY, "a")) < LATE, "it was left alone"
        with Limiter(broken, timeout=0.2, watch=False) as limiter:
            table = limiter.store.table
            table.keys[KEY], table.complete = KeyPolicies(Rule(5000, 60, Mode.SOFT)), True
            limiter._start()
            leased = LeasedLimiter(limiter)
            lease = leased._begin(limiter.core.prepare(KEY, "a", None, time.time()))  # type: ignore[arg-type]
            lease.counts, lease.spent, lease.until = [5, 0, 0, 0], 5, time.monotonic() + 9
            leased._leases[KEY, "a", None] = lease
            table.generation += 1
            table.keys[KEY] = KeyPolicies(Rule(6000, 60, Mode.SOFT))
            assert took(lambda: leased.check(KEY, "a")) < 0.2 + LATE


def test_rounds_of_one_call_share_its_time(client, make) -> None:
    publish.apply(client, KEY, 1, base=base(100))
    limiter = make(timeout=0.3)
    limiter.check(KEY, "a")
    real = limiter.wire.run

    def slow(*arguments: object) -> bytes:
        time.sleep(0.2)
        real(*arguments)  # type: ignore[arg-type]
        return b"2:0:0:0:%d:0" % (time.time() * 1000)

    limiter.wire.run = slow  # type: ignore[method-assign]
    assert took(lambda: limiter.check(KEY, "a")) < 0.2 + 0.3 + LATE


def test_without_redis_and_policies_an_asyncio_limiter_waits_once() -> None:
    async def run() -> None:
        async with AsyncLimiter(redis.asyncio.Redis(port=1), timeout=0.2) as limiter:
            times = []
            for _ in range(5):
                started = time.monotonic()
                assert (await limiter.check(KEY, "a")).degraded
                times.append(time.monotonic() - started)
            assert times[0] < 0.2 + LATE
            assert sum(times[1:]) < LATE

    asyncio.run(run())


def test_the_wait_before_subscribing_again_starts_short_each_time(client, make) -> None:
    publish.apply(client, KEY, 1, base=base(100))
    limiter = make()
    waits: list[float] = []
    real = limiter.store._stop.wait

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return real(seconds)

    limiter.store._stop.wait = wait  # type: ignore[method-assign, assignment]
    for _ in range(4):
        seen = len(waits)
        client.client_kill_filter(_type="pubsub")
        poll(lambda seen=seen: len(waits) > seen)
        assert limiter.store.connected.wait(5)
    assert waits == [0.05] * 4


# -- clocks


@pytest.mark.parametrize("leases", [False, True])
def test_usage_is_filed_under_the_servers_hour(client, make, monkeypatch, leases) -> None:
    publish.apply(client, KEY, 1, base=base(100_000))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3 * 3600 - 60)
    limiter = make()
    for number in range(3):
        assert limiter.check(KEY, f"a{number}").allowed
    if leases:
        leased = LeasedLimiter(limiter, block=10)
        assert leased.check(KEY, "a0").allowed
        leased.close()
    monkeypatch.setattr(time, "time", lambda: real() - 7 * 3600)  # stepped while it runs
    limiter.check(KEY, "b")
    assert abs(limiter.core.now() - real()) < 5
    hour = int(client.time()[0]) // 3600
    found = {who: units["a"] for at in (hour - 1, hour) for _, who, units in usage.recorded(client, at)}
    assert found == {"a0": 2 if leases else 1, "a1": 1, "a2": 1} | ({"b": 1} if "b" in found else {})

    async def alike() -> None:
        kwargs = client.connection_pool.connection_kwargs
        other = redis.asyncio.Redis(port=kwargs["port"])
        async with AsyncLimiter(other, timeout=2.0) as asynchronous:
            assert await asynchronous.wait_ready()
            await asynchronous.check(KEY, "c")
        await other.aclose()

    asyncio.run(alike())
    assert any(who == "c" for at in (hour - 1, hour, hour + 1) for _, who, _ in usage.recorded(client, at))


# -- who is near


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(client: redis.Redis) -> Clock:
    """In step with the server's, at the start of a minute: readers go by the server's."""
    return Clock(int(client.time()[0]) // 60 * 60)


@pytest.mark.parametrize("before", [300, 5000])
@pytest.mark.parametrize("leases", [False, True])
def test_those_of_windows_long_over_hide_nobody(client, make, clock, before, leases) -> None:
    publish.apply(client, KEY, 1, base=base(100, window_seconds=20))
    limiter = make(clock=clock)
    now, clock.now = clock.now, clock.now - 120
    for number in range(before):
        limiter.check(KEY, f"old{number}", cost=100)
    clock.now = float(client.time()[0])
    while clock.now % 20 > 10:
        time.sleep(0.2)
        clock.now = float(client.time()[0])
    assert clock.now >= now
    if leases:
        leased = LeasedLimiter(limiter, block=1)
        leased.check(KEY, "now", cost=95)
    else:
        limiter.check(KEY, "now", cost=95)
    found = usage.leaders(client, [KEY])
    assert [(one.subject, one.used) for one in found] == [("now", 95)]
    for number in range(keys.SHARDS):
        assert client.zcard(keys.near(number, KEY)) <= 50
        assert client.zcard(keys.top(number, KEY)) <= 50


def test_the_nearest_are_found_among_many_and_windows_just_over_weigh_less(client, make) -> None:
    some = {"tenant:long": {"limit": 100, "window_seconds": MONTH}}
    publish.apply(client, KEY, 1, base=base(1000, window_seconds=3600), overrides=some)
    limiter = make()
    limiter.check(KEY, "long", cost=97)
    for number in range(4000):
        limiter.check(KEY, f"t{number}", cost=1 + number % 10)
    limiter.check(KEY, "near", cost=960)
    found = {one.subject: one.used for one in usage.leaders(client, [KEY])}
    assert found["near"] == 960
    assert found["long"] == 97
    assert len(found) >= 100
    assert limiter.reset(KEY, "near")
    assert "near" not in {one.subject for one in usage.leaders(client, [KEY])}


# -- the rest of asyncio


def test_asyncio_resets_and_answers_over_http(client, redis_url) -> None:
    publish.apply(client, KEY, 1, base=base(1))

    async def run() -> None:
        async with redis.asyncio.Redis.from_url(redis_url) as other, AsyncLimiter(other, timeout=2.0) as limiter:
            assert await limiter.wait_ready()
            assert not await limiter.reset(KEY, "acme")
            assert not await limiter.reset("unknown", "acme")
            app = Starlette(routes=[Route("/", lambda request: PlainTextResponse("hello"))])
            middleware = RateLimitMiddleware(app, limiter, lambda scope: (KEY, "acme", None, 1))
            assert await get(middleware) == (200, '"api_calls";q=1;w=3600')
            assert (await get(middleware))[0] == 429
            assert await limiter.reset(KEY, "acme")
            assert not client.zrange(keys.near(keys.shard(KEY, "acme"), KEY), 0, -1)
            assert (await get(middleware))[0] == 200

    asyncio.run(run())


async def get(app: Callable[..., object]) -> tuple[int, str]:
    """Status and policy of a request, within the running loop."""
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": "/", "raw_path": b"/", "query_string": b"", "headers": [],
        "http_version": "1.1", "scheme": "http", "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
    }  # fmt: skip
    await app(scope, receive, send)  # type: ignore[misc]
    headers = dict(sent[0]["headers"])  # type: ignore[call-overload]
    return sent[0]["status"], headers.get(b"ratelimit-policy", b"").decode()  # type: ignore[return-value]
