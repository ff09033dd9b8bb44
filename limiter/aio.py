"""The limiter for asyncio."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from limiter import forks, keys
from limiter.aio_wire import prepare, wire
from limiter.core import LOADING, Core, Prepared, check_cost, parse_reply
from limiter.model import Decision, OnFailure
from limiter.scripts import DECIDE, FETCH
from limiter.store import FAILURES, FIRST_PAUSE, POLL_SECONDS, answered, versions_of
from limiter.table import MOST_CHANGES, Fetched, Table, text
from limiter.wire import bounded_kwargs, harmful, pack

log = logging.getLogger(__name__)


class AsyncLimiter:
    """As limiter.Limiter, for one event loop. ``await start()`` or use it as ``async with``."""

    def __init__(
        self,
        redis: Redis | RedisCluster,
        *,
        timeout: float = 0.1,
        unloaded: OnFailure = OnFailure.ALLOW,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.timeout = timeout
        self.table = Table()
        self.core = Core(self.table, clock=clock, unloaded=unloaded)
        self._redis: Any = redis
        self._cluster = isinstance(redis, RedisCluster)
        if self._cluster and not hasattr(redis, "pubsub"):
            raise TypeError("this redis-py cannot subscribe at a cluster under asyncio; a newer one can")
        self.wire = wire(redis, timeout)
        self._begin()
        forks.remember(self)

    def after_fork(self) -> None:
        """See forks. A child has an event loop of its own, and its first check starts anew there."""
        forks.leave(self._side, self._task)
        self.wire.after_fork()
        self._begin()

    def _begin(self) -> None:
        self._side: Any = self._redis if self._cluster else None
        self._task: asyncio.Task[None] | None = None
        self.connected = asyncio.Event()

    async def start(self) -> None:
        """Start keeping policies fresh. Idempotent; the first check does it too."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="limiter-policies")

    async def wait_ready(self, seconds: float = 5.0) -> bool:
        """Wait until subscribed and loaded; whether that happened in time."""
        await self.start()
        try:
            await asyncio.wait_for(self.connected.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def check(self, key: str, tenant: str | None = None, agent: str | None = None, cost: int = 1) -> Decision:
        """See Limiter.check."""
        return await self._decide(key, tenant, agent, cost, peek=False)

    async def peek(self, key: str, tenant: str | None = None, agent: str | None = None, cost: int = 1) -> Decision:
        """See Limiter.peek."""
        return await self._decide(key, tenant, agent, cost, peek=True)

    async def reset(self, key: str, tenant: str | None = None, agent: str | None = None) -> bool:
        """See Limiter.reset."""
        if not self.connected.is_set():
            await self.wait_ready(self.timeout)
        asked = self.core.prepare(key, tenant, agent, self.core.now())
        if asked is None:
            return False
        found, *_ = [
            await self._side.execute_command(*command)
            for command in keys.forget(asked.number, key, asked.effective.subject, asked.window_seconds)
        ]
        return bool(found)

    async def close(self) -> None:
        """Stop the task and release connections."""
        if self._task is not None:
            # Again and again: a read that times out in the same moment can swallow a cancellation.
            while not self._task.done():
                self._task.cancel()
                await asyncio.wait({self._task}, timeout=0.2)
        await self.wire.close()
        if self._side is not None and not self._cluster:
            await self._side.aclose()

    async def __aenter__(self) -> AsyncLimiter:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def _decide(self, key: str, tenant: str | None, agent: str | None, cost: int, *, peek: bool) -> Decision:
        check_cost(cost)
        core = self.core
        deadline = time.monotonic() + self.timeout
        if self._task is None or not self.table.complete:
            if core.is_paused(LOADING):
                return core.without_redis(key, None, cost, None)
            await self.wait_ready(self.timeout)
            if not self.table.complete:
                core.pause(LOADING)
                return core.without_redis(key, None, cost, TimeoutError("policies not loaded in time"))
        asked: Prepared | None = None
        for _ in range(3):
            now = core.now()
            asked = core.prepare(key, tenant, agent, now)
            if asked is None:
                return core.unlimited(key, cost)
            minute = int(now) // 60
            if asked.minute != minute or asked.head is None:
                asked.head = prepare(DECIDE, asked.names(minute), asked.args, 3)
                asked.minute = minute
            head = asked.head
            place = self.wire.place(head)
            if core.paused and core.is_paused(place):
                return core.without_redis(key, asked, cost, None)
            at = "" if core.clock is None else f"{now * 1000:.0f}"
            tail = pack(str(cost)) + pack(at) + pack("1" if peek else "")
            try:
                async with asyncio.timeout(max(deadline - time.monotonic(), 0.001)):
                    reply = parse_reply(await self.wire.run(DECIDE, head, tail))
            except FAILURES as error:  # TimeoutError is an OSError
                if harmful(error):
                    core.pause(place)
                return core.without_redis(key, asked, cost, error)
            if core.paused:
                core.paused.pop(place, None)
            core.learn_clock(reply[4])
            if reply[0] != 2:
                return core.decision(asked, cost, reply, peek=peek)
        return core.without_redis(key, asked, cost, TimeoutError("the clocks do not agree"))

    async def _run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                await self._listen()
            except Exception as error:
                if self.connected.is_set():
                    pause = FIRST_PAUSE
                    log.warning("rate-limit policies: subscription lost: %r", error)
                elif not isinstance(error, FAILURES):
                    log.exception("rate-limit policies: not followed")
                self.connected.clear()
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)

    async def _listen(self) -> None:
        if self._side is None:
            from redis.asyncio import ConnectionPool

            pool = self._redis.connection_pool
            kwargs = {**bounded_kwargs(self._redis, 1.0), "retry": Retry(NoBackoff(), 0)}
            self._side = Redis(connection_pool=ConnectionPool(connection_class=pool.connection_class, **kwargs))
        if self._cluster:
            await self._side.initialize()
        async with self._side.pubsub() as pubsub:
            await pubsub.subscribe(keys.CHANGES, keys.CHANNEL)
            followed: set[str] = set()
            due = time.monotonic() + POLL_SECONDS
            while True:
                message = await pubsub.get_message(timeout=max(due - time.monotonic(), 0.001))
                if message is not None:
                    channel = text(message["channel"])
                    if message["type"] == "subscribe" and channel == keys.CHANNEL:
                        await self._reload()
                        self.connected.set()
                    elif message["type"] == "message" and channel == keys.CHANGES:
                        key = self.table.follow(text(message["data"]))
                        if key is not None:
                            followed.add(key)
                    elif message["type"] == "message":
                        key = text(message["data"])
                        if key in followed:
                            followed.discard(key)
                        elif len(key) <= keys.LONGEST:
                            await self._load_all([key])
                if time.monotonic() >= due:
                    await self._reload(poll=True)
                    await self._report()
                    due = time.monotonic() + POLL_SECONDS

    async def _reload(self, *, poll: bool = False) -> None:
        versions = versions_of(await self._side.hgetall(keys.VERSIONS))
        await self._load_all(self.table.stale(versions) if poll else versions, scan=not poll)
        self.table.forget_missing(versions)

    async def _load_all(self, names: Iterable[str], *, scan: bool = False) -> None:
        """See Store."""
        failed: Exception | None = None
        loaded = False
        for key in names:
            try:
                await self._load(key, scan=scan)
                loaded = True
            except FAILURES as error:
                self.table.unread(key, error)
                if answered(error):
                    log.error("rate-limit policies: %s cannot be read: %r", key, error)
                else:
                    failed = error
        if failed is None or loaded:
            self.table.complete = True
        if failed is not None:
            raise failed

    async def _load(self, key: str, *, scan: bool = False) -> None:
        names = (keys.config(key), keys.overrides(key), keys.changes(key))
        reply = await self._side.eval(FETCH.text, 3, *names, self.table.at(key).revision, MOST_CHANGES)
        fetched = Fetched.parse(reply)
        self.core.learn_clock(fetched.now_ms)
        if not fetched.revision:
            raise ValueError("Redis names the key and does not have it")
        if scan or self.table.needs_scan(key, fetched):
            found = self._side.hscan_iter(keys.overrides(key), count=1000)
            self.table.apply(key, fetched, [(text(name), text(value)) async for name, value in found])
        elif fetched.revision != self.table.at(key).revision:
            self.table.apply(key, fetched)

    async def _report(self) -> None:
        counts = self.core.take_unreported()
        try:
            for (minute, key, verdict), n in counts.items():
                await self._side.hincrby(keys.fallback(minute), f"{key}|{verdict}", n)
                await self._side.expire(keys.fallback(minute), keys.MINUTE_TTL)
        except FAILURES as error:
            self.core.give_back(counts)
            if not answered(error):
                raise
            log.error("rate-limit policies: what was decided cannot be reported: %r", error)
