"""A primary lost and its replica promoted: limiters go on at the new one, by Sentinel or behind one address."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.sentinel import Sentinel

from limiter import Limiter, publish
from limiter.aio import AsyncLimiter
from sandbox.engines import Valkey, _valkey_binary
from sandbox.processes import free_port, kill, spawn
from tests.support import poll, start_engine

pytestmark = [pytest.mark.engines, pytest.mark.timeout(60)]

KEY = "api_calls"
BASE = {"limit": 1000, "window_seconds": 86400, "policy": "HARD", "on_redis_failure": "deny"}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Valkey, Valkey]]:
    """A primary and its replica, in step."""
    more = ("repl-diskless-sync-delay 0",)  # else a primary waits 5 s for further replicas
    first, second = (
        start_engine(lambda port: Valkey(tmp_path / f"valkey-{port}", port, durable=False, more=more)) for _ in range(2)
    )
    with redis.Redis.from_url(second.url) as replica:
        replica.replicaof("127.0.0.1", first.port)
        poll(lambda: replica.info("replication")["master_link_status"] == "up", 10, what="a replica in step")
    yield first, second
    first.kill()
    second.kill()


@pytest.fixture
def sentinel(pair: tuple[Valkey, Valkey], tmp_path: Path) -> Iterator[int]:
    """Port of a Sentinel that watches the primary and promotes the replica."""
    port = free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"bind 127.0.0.1\nport {port}\ndir {tmp_path}\nsentinel monitor main 127.0.0.1 {pair[0].port} 1\n"
        "sentinel down-after-milliseconds main 300\nsentinel failover-timeout main 2000\n"
    )
    process = spawn([_valkey_binary(), str(config), "--sentinel"], log=tmp_path / "sentinel.log", cwd=tmp_path)
    with redis.Redis(port=port, socket_timeout=2) as client:

        def knows_both() -> bool:
            try:
                return int(client.sentinel_master("main")["num-slaves"]) == 1
            except redis.RedisError:
                assert process.poll() is None, (tmp_path / "sentinel.log").read_text()
                return False

        poll(knows_both, 20, what="a Sentinel that knows the replica")
    yield port
    kill(process)


def replicated(pair: tuple[Valkey, Valkey]) -> None:
    with redis.Redis.from_url(pair[0].url) as client:
        poll(lambda: client.wait(1, 1000) == 1)


def test_by_sentinel_a_replica_takes_over(pair: tuple[Valkey, Valkey], sentinel: int) -> None:
    watch = Sentinel([("127.0.0.1", sentinel)], socket_timeout=0.5)
    client = watch.master_for("main", socket_timeout=0.5)
    publish.apply(client, KEY, 1, base=BASE)
    with Limiter(client, timeout=0.5) as limiter:
        assert limiter.wait_ready()
        assert [limiter.check(KEY, "acme").used for _ in range(5)] == [1, 2, 3, 4, 5]
        replicated(pair)
        pair[0].kill()
        during = limiter.check(KEY, "acme")
        assert during.degraded and not during.allowed, "the policy says deny"
        after = poll(lambda: (now := limiter.check(KEY, "acme")) and not now.degraded and now, 20)
        assert after.used == 6, "the count came along"  # type: ignore[attr-defined]
        # Changes reach it from the new primary.
        publish.apply(client, KEY, 2, base={**BASE, "limit": 7})
        poll(lambda: limiter.peek(KEY, "acme").limit == 7)
    client.close()


def test_by_sentinel_under_asyncio(pair: tuple[Valkey, Valkey], sentinel: int) -> None:
    async def run() -> None:
        watch = AsyncSentinel([("127.0.0.1", sentinel)], socket_timeout=0.5)
        client = watch.master_for("main", socket_timeout=0.5)
        async with AsyncLimiter(client, timeout=0.5) as limiter:
            assert await limiter.wait_ready()
            assert (await limiter.check(KEY, "acme", cost=5)).used == 5
            replicated(pair)
            pair[0].kill()
            assert (await limiter.check(KEY, "acme")).degraded
            async with asyncio.timeout(20):
                while (now := await limiter.check(KEY, "acme")).degraded:
                    await asyncio.sleep(0.05)
            assert now.used == 6
        await client.aclose()

    with redis.Redis.from_url(pair[0].url) as direct:
        publish.apply(direct, KEY, 1, base=BASE)
    asyncio.run(run())


def test_a_server_that_became_a_replica_is_left_and_taken_again(pair: tuple[Valkey, Valkey]) -> None:
    """As behind one address that follows the primary: connections of old lead to a server that only reads."""
    first, second = pair
    with redis.Redis.from_url(first.url) as client, redis.Redis.from_url(second.url) as other:
        publish.apply(client, KEY, 1, base=BASE)
        with Limiter(client, timeout=0.5) as limiter:
            assert limiter.wait_ready()
            assert limiter.check(KEY, "acme").used == 1
            replicated(pair)
            other.replicaof("NO", "ONE")
            client.replicaof("127.0.0.1", second.port)
            assert limiter.check(KEY, "acme").degraded
            poll(lambda: client.info("replication")["master_link_status"] == "up", 10)
            client.replicaof("NO", "ONE")
            after = poll(lambda: (now := limiter.check(KEY, "acme")) and not now.degraded and now, 10)
            assert after.used == 2  # type: ignore[attr-defined]
