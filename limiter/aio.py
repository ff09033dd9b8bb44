"""The limiter for asyncio."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError

from limiter import keys
from limiter.core import Core, Prepared, check_cost, parse_reply
from limiter.model import Decision, OnFailure
from limiter.scripts import DECIDE, FETCH, Script
from limiter.store import POLL_SECONDS, versions_of
from limiter.sync import PAUSE_SECONDS
from limiter.table import MOST_CHANGES, Fetched, Table, text
from limiter.wire import IDLE_CONNECTIONS, bounded_kwargs, pack


class AsyncLimiter:
    """As limiter.Limiter, for one event loop. ``await start()`` or use it as ``async with``."""

    def __init__(
        self,
        redis: Redis,
        *,
        timeout: float = 0.1,
        unloaded: OnFailure = OnFailure.ALLOW,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.timeout = timeout
        self.table = Table()
        self.core = Core(self.table, clock=clock, unloaded=unloaded)
        self._redis = redis
        self._idle: deque[Any] = deque()
        self._side: Any = None
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

    async def close(self) -> None:
        """Stop the task and release connections."""
        if self._task is not None:
            # Again and again: a read that times out in the same moment can swallow a cancellation.
            while not self._task.done():
                self._task.cancel()
                await asyncio.wait({self._task}, timeout=0.2)
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)
        if self._side is not None:
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
        if not self.table.complete and not await self.wait_ready(self.timeout):
            return core.without_redis(key, None, cost, TimeoutError("policies not loaded in time"))
        asked: Prepared | None = None
        for _ in range(3):
            now = core.now()
            asked = core.prepare(key, tenant, agent, now)
            if asked is None:
                return core.unlimited(key, cost)
            if core.paused_until and time.monotonic() < core.paused_until:
                return core.without_redis(key, asked, cost, None)
            minute = int(now) // 60
            if asked.minute != minute or asked.head is None:
                parts = ["EVALSHA", DECIDE.sha, str(DECIDE.keys), *asked.names(minute), *asked.args]
                asked.head = b"*%d\r\n" % (len(parts) + 3) + b"".join(pack(part) for part in parts)
                asked.minute = minute
            at = "" if core.clock is None else f"{now * 1000:.0f}"
            request = asked.head + pack(str(cost)) + pack(at) + pack("1" if peek else "")
            try:
                async with asyncio.timeout(max(deadline - time.monotonic(), 0.001)):
                    reply = parse_reply(await self._run_script(DECIDE, request))
            except (RedisError, OSError, ValueError) as error:  # TimeoutError is an OSError
                core.paused_until = time.monotonic() + PAUSE_SECONDS
                return core.without_redis(key, asked, cost, error)
            core.paused_until = 0.0
            if reply[0] != 2:
                return core.decision(asked, cost, reply, peek=peek)
            core.learn_clock(reply[4])
        return core.without_redis(key, asked, cost, TimeoutError("the clocks do not agree"))

    async def _run_script(self, script: Script, request: bytes) -> bytes:
        for attempt in (0, 1):
            reused = bool(self._idle)
            connection = self._idle.pop() if reused else self._connection()
            kept = False
            try:
                if not reused:
                    await connection.connect()
                try:
                    reply = await self._exchange(connection, [request])
                except NoScriptError:
                    load = connection.pack_command("SCRIPT", "LOAD", script.text)
                    await self._exchange(connection, load)
                    reply = await self._exchange(connection, [request])
                kept = len(self._idle) < IDLE_CONNECTIONS
                if kept:
                    self._idle.append(connection)
                return bytes(reply)
            except (ReadOnlyError, RedisConnectionError):
                while self._idle:
                    await self._idle.pop().disconnect(nowait=True)
                if attempt or not reused:
                    raise
            finally:
                if not kept:
                    await connection.disconnect(nowait=True)
        raise RedisConnectionError("Redis could not be reached")

    @staticmethod
    async def _exchange(connection: Any, request: list[bytes]) -> Any:
        await connection.send_packed_command(request, check_health=False)
        return await connection.read_response(disable_decoding=True)

    def _connection(self) -> Any:
        pool = self._redis.connection_pool
        kwargs = {**bounded_kwargs(self._redis, self.timeout), "retry": Retry(NoBackoff(), 0)}
        return pool.connection_class(**kwargs)

    async def _run(self) -> None:
        pause = 0.05
        while True:
            try:
                await self._listen()
            except (RedisError, OSError, ValueError):
                self.connected.clear()
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)

    async def _listen(self) -> None:
        if self._side is None:
            from redis.asyncio import ConnectionPool

            kwargs = {**bounded_kwargs(self._redis, 1.0), "retry": Retry(NoBackoff(), 0)}
            self._side = Redis(
                connection_pool=ConnectionPool(connection_class=self._redis.connection_pool.connection_class, **kwargs)
            )
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
                        else:
                            await self._load(key)
                if time.monotonic() >= due:
                    await self._reload(poll=True)
                    await self._report()
                    due = time.monotonic() + POLL_SECONDS

    async def _reload(self, *, poll: bool = False) -> None:
        versions = versions_of(await self._side.hgetall(keys.VERSIONS))
        for key in self.table.stale(versions) if poll else versions:
            await self._load(key, scan=not poll)
        self.table.forget_missing(versions)
        self.table.complete = True

    async def _load(self, key: str, *, scan: bool = False) -> None:
        names = (keys.config(key), keys.overrides(key), keys.changes(key))
        reply = await self._side.eval(FETCH.text, 3, *names, self.table.at(key).revision, MOST_CHANGES)
        fetched = Fetched.parse(reply)
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
        except RedisError:
            self.core.give_back(counts)
            raise
