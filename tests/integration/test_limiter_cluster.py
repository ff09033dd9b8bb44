"""The limiter on a real cluster of three nodes: every decision in one slot, and a lost node bounds only its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.crc import key_slot
from redis.retry import Retry

from limiter import LeasedLimiter, Limiter, keys, publish
from limiter.aio import AsyncLimiter
from sandbox.engines import Valkey
from sandbox.processes import free_port
from tests.support import poll, start_engine

pytestmark = [pytest.mark.engines, pytest.mark.timeout(90)]

KEY = "api_calls"
THIRD = 16384 // 3


def node(folder: Path, port: int) -> Valkey:
    bus = free_port({port})
    more = (
        "cluster-enabled yes",
        f"cluster-port {bus}",
        "cluster-node-timeout 1000",
        "cluster-require-full-coverage no",
    )
    return Valkey(folder / f"node-{port}", port, durable=False, more=(*more, "cluster-config-file nodes.conf"))


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Valkey]]:
    engines = [start_engine(lambda port: node(tmp_path, port)) for _ in range(3)]
    clients = [redis.Redis.from_url(engine.url) for engine in engines]
    ranges = [(0, THIRD - 1), (THIRD, 2 * THIRD - 1), (2 * THIRD, 16383)]
    for number, (client, (first, last)) in enumerate(zip(clients, ranges, strict=True)):
        client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
    for engine in engines[1:]:
        bus = next(line.split()[1] for line in engine.more if line.startswith("cluster-port"))
        clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", engine.port, bus)

    def agreed() -> bool:
        infos = [client.cluster("info") for client in clients]
        return all(info["cluster_state"] == "ok" and info["cluster_slots_assigned"] == "16384" for info in infos)

    poll(agreed, 30, what="a cluster of three")
    poll(lambda: all(info["cluster_known_nodes"] == "3" for info in [one.cluster("info") for one in clients]))
    yield engines
    for client in clients:
        client.close()
    for engine in engines:
        engine.kill()


@pytest.fixture
def cluster(nodes: list[Valkey]) -> Iterator[RedisCluster]:
    made = RedisCluster.from_url(
        nodes[0].url, socket_timeout=1.0, socket_connect_timeout=1.0, retry=Retry(NoBackoff(), 1)
    )
    yield made
    made.close()


def owner(cluster: RedisCluster, who: str) -> int:
    """The port of the node that counts for a tenant."""
    name = keys.counter(keys.shard(KEY, who), KEY, who, 86400)
    return int(cluster.nodes_manager.get_node_from_slot(key_slot(name.encode())).port)


@contextmanager
def moving(nodes: list[Valkey], slot: int, old: int) -> Iterator[Callable[[], None]]:
    """A slot on its way from the node at port ``old``, its keys moved; call what is given and it has arrived."""
    new = next(engine.port for engine in nodes if engine.port != old)
    with redis.Redis(port=old) as source, redis.Redis(port=new) as goal:
        there, here = source.execute_command("CLUSTER", "MYID"), goal.execute_command("CLUSTER", "MYID")
        goal.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", there)
        source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", here)
        keys_there = source.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000)
        source.execute_command("MIGRATE", "127.0.0.1", new, "", 0, 2000, "KEYS", *keys_there)

        def arrived() -> None:
            for client in (goal, source):
                client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", here)

        yield arrived


@contextmanager
def traffic(limiter: Limiter, tenants: list[str]) -> Iterator[None]:
    """Somebody else asks for these tenants as fast as can be."""
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            for who in tenants:
                limiter.peek(KEY, who)
            time.sleep(0.001)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_slot_on_its_way_is_asked_for_where_it_goes(nodes: list[Valkey], cluster: RedisCluster) -> None:
    base = {"limit": 5, "window_seconds": 86400, "policy": "WARN", "on_redis_failure": "deny"}
    publish.apply(cluster, KEY, 1, base=base)
    shard = keys.shard(KEY, "t5")
    hard = next(f"h{n}" for n in range(10_000) if keys.shard(KEY, f"h{n}") == shard)
    publish.apply(cluster, KEY, 2, overrides={f"tenant:{hard}": {"limit": 1, "policy": "HARD"}})
    with Limiter(cluster, timeout=0.5) as limiter:
        assert limiter.wait_ready(10)
        poll(lambda: limiter.peek(KEY, hard).limit == 1)
        while limiter.core.now() % 60 > 40:  # all within one minute, so that every key of a decision is there
            time.sleep(0.5)
        for _ in range(2):
            limiter.check(KEY, hard)  # the second is blocked, and that is logged
        assert [limiter.check(KEY, "t5").used for _ in range(6)] == [1, 2, 3, 4, 5, 6]
        slot, old = key_slot(keys.blocked(shard).encode()), owner(cluster, "t5")
        with moving(nodes, slot, old) as arrived:
            on_its_way = limiter.check(KEY, "t5")
            assert (on_its_way.used, on_its_way.degraded) == (7, False)

            # One with a key on neither side cannot be decided yet; that says nothing of anybody else.
            unseen = next(f"n{n}" for n in range(10_000) if keys.shard(KEY, f"n{n}") == shard)
            assert limiter.check(KEY, unseen).degraded
            assert not limiter.peek(KEY, "t5").degraded

            async def alike() -> None:
                client_of = AsyncRedisCluster.from_url(nodes[0].url, socket_timeout=1.0, socket_connect_timeout=1.0)
                async with AsyncLimiter(client_of, timeout=0.5) as asynchronous:
                    assert await asynchronous.wait_ready(10)
                    found = await asynchronous.check(KEY, "t5")
                    assert (found.used, found.degraded) == (8, False)
                    assert (await asynchronous.check(KEY, unseen)).degraded
                    arrived()
                    found = await asynchronous.check(KEY, "t5")
                    assert (found.used, found.degraded) == (9, False)
                await client_of.aclose()

            asyncio.run(alike())
        assert limiter.check(KEY, unseen).used == 1
        assert limiter.check(KEY, "t5").used == 10


def test_decisions_over_all_slots_and_a_node_lost(nodes: list[Valkey], cluster: RedisCluster) -> None:
    base = {"limit": 5, "window_seconds": 86400, "policy": "HARD", "on_redis_failure": "deny"}
    publish.apply(cluster, KEY, 1, base=base, overrides={"tenant:t3": {"limit": 7}})
    tenants = [f"t{number}" for number in range(60)]
    with Limiter(cluster, timeout=0.5) as limiter:
        assert limiter.wait_ready(10)
        for who in tenants:
            limit = 7 if who == "t3" else 5
            answers = [limiter.check(KEY, who) for _ in range(limit + 1)]
            assert [answer.allowed for answer in answers] == [True] * limit + [False]
            assert not any(answer.degraded for answer in answers)
        assert {owner(cluster, who) for who in tenants} == {engine.port for engine in nodes}
        assert limiter.reset(KEY, "t0")
        leased = LeasedLimiter(limiter, block=2)
        assert sum(leased.check(KEY, "t0").allowed for _ in range(8)) == 5
        leased.close()

        # A changed policy arrives, whichever node the limiter listens to.
        publish.apply(cluster, KEY, 2, base={**base, "limit": 9})
        poll(lambda: limiter.peek(KEY, "t1").limit == 9)

        # Every connection cut, every script forgotten: nothing is seen of it.
        for engine in nodes:
            with redis.Redis.from_url(engine.url) as direct:
                direct.script_flush()
                direct.execute_command("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "yes")
        answers = [limiter.check(KEY, who) for who in tenants if who != "t3"]
        assert all(answer.allowed and not answer.degraded for answer in answers)

        # A slot moved to another node is followed.
        name = keys.counter(keys.shard(KEY, "t5"), KEY, "t5", 86400)
        slot, old = key_slot(name.encode()), owner(cluster, "t5")
        with moving(nodes, slot, old) as arrived:
            arrived()
        moved = limiter.check(KEY, "t5")
        assert (moved.used, moved.degraded) == (7, False)

        # A node lost: its tenants get the policy's answer in time, all others go on; back again, so does it.
        lost = next(engine for engine in nodes if engine.port == old)
        mine = [who for who in tenants if owner(cluster, who) == lost.port]
        others = [who for who in tenants if owner(cluster, who) != lost.port]
        lost.kill()
        started = time.monotonic()
        gone = limiter.check(KEY, mine[0])
        assert (gone.allowed, gone.degraded) == (False, True)
        assert time.monotonic() - started < 1.5
        # There is traffic for it all the while: others do not notice.
        with traffic(limiter, mine):
            end = time.monotonic() + 2.5
            while time.monotonic() < end:
                assert not any(limiter.peek(KEY, who).degraded for who in others)
            leased = LeasedLimiter(limiter, block=2)
            assert not any(leased.check(KEY, who).degraded for who in others)
            assert all(leased.check(KEY, who).degraded for who in mine)
            leased.close()
        lost.start()
        poll(lambda: not limiter.peek(KEY, mine[0]).degraded, 20)
        poll(lambda: not limiter.peek(KEY, others[0]).degraded, 20)


def test_under_asyncio_too(nodes: list[Valkey], cluster: RedisCluster) -> None:
    base = {"limit": 5, "window_seconds": 86400, "policy": "HARD", "on_redis_failure": "deny"}
    publish.apply(cluster, KEY, 1, base=base)
    tenants = [f"t{number}" for number in range(30)]

    async def until(true: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(20):
            while not await true():
                await asyncio.sleep(0.02)

    async def run() -> None:
        client = AsyncRedisCluster.from_url(nodes[0].url, socket_timeout=1.0, socket_connect_timeout=1.0)
        async with AsyncLimiter(client, timeout=0.5) as limiter:
            assert await limiter.wait_ready(10)
            for who in tenants:
                answers = await asyncio.gather(*(limiter.check(KEY, who) for _ in range(6)))
                assert sorted(answer.allowed for answer in answers) == [False] + [True] * 5
                assert not any(answer.degraded for answer in answers)
            publish.apply(cluster, KEY, 2, base={**base, "limit": 9})

            async def nine() -> bool:
                return (await limiter.peek(KEY, "t1")).limit == 9

            await until(nine)
            for engine in nodes:
                with redis.Redis.from_url(engine.url) as direct:
                    direct.script_flush()
                    direct.execute_command("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "yes")
            answers = [await limiter.check(KEY, who) for who in tenants]
            assert all(answer.allowed and not answer.degraded for answer in answers)
            lost = next(engine for engine in nodes if engine.port == owner(cluster, "t0"))
            others = [who for who in tenants if owner(cluster, who) != lost.port]
            lost.kill()
            started = time.monotonic()
            gone = await limiter.check(KEY, "t0")
            assert (gone.allowed, gone.degraded) == (False, True)
            assert time.monotonic() - started < 1.5

            async def others_go_on() -> bool:
                return not (await limiter.peek(KEY, others[0])).degraded

            async def back() -> bool:
                return not (await limiter.peek(KEY, "t0")).degraded

            await until(others_go_on)
            mine = [who for who in tenants if who not in others]
            end = time.monotonic() + 2.5
            while time.monotonic() < end:
                answers = await asyncio.gather(*(limiter.peek(KEY, who) for who in (*others, *mine[:3])))
                assert [answer.degraded for answer in answers] == [False] * len(others) + [True] * 3
            lost.start()
            await until(back)
        await client.aclose()

    asyncio.run(run())
