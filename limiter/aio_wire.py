"""One round trip to Redis for asyncio; the caller bounds its time with ``asyncio.timeout``. See ``wire``."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ReadOnlyError, RedisClusterException, RedisError, ResponseError

from limiter.scripts import Script
from limiter.wire import IDLE_CONNECTIONS, bounded, bounded_kwargs, pack

log = logging.getLogger(__name__)
Head = tuple[int, bytes]
"""The slot of a request's keys, and the request as far as it is the same every time."""


def prepare(script: Script, keys: tuple[str, ...], args: tuple[str, ...], more: int) -> Head:
    """A request whose last ``more`` arguments are still to come."""
    parts = ["EVALSHA", script.sha, str(script.keys), *keys, *args]
    return key_slot(keys[0].encode()), b"*%d\r\n" % (len(parts) + more) + b"".join(pack(part) for part in parts)


class AsyncWire(Protocol):
    """What the limiter needs of a connection to Redis."""

    async def run(self, script: Script, head: Head, tail: bytes) -> bytes:
        """Perform a request. Raises RedisError, OSError."""

    async def close(self) -> None:
        """Release connections."""


class AsyncDirectWire:
    """To one server (or the present primary, by Sentinel), over connections that ``connect`` makes."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._idle: deque[Any] = deque()

    async def run(self, script: Script, head: Head, tail: bytes) -> bytes:
        """See AsyncWire. A script the server forgot is loaded; a dead or demoted server is replaced once."""
        request = head[1] + tail
        for attempt in (0, 1):
            reused = bool(self._idle)
            connection = self._idle.pop() if reused else self._connect()
            kept = False
            try:
                if not reused:
                    await connection.connect()
                try:
                    reply = await _exchange(connection, [request])
                except NoScriptError:
                    load = connection.pack_command("SCRIPT", "LOAD", script.text)
                    await _exchange(connection, load)
                    reply = await _exchange(connection, [request])
                kept = len(self._idle) < IDLE_CONNECTIONS
                if kept:
                    self._idle.append(connection)
                return bytes(reply)
            except ReadOnlyError:  # the primary may be another one now: ask anew, also with a fresh connection
                await self.close()
                if attempt:
                    raise
            except RedisConnectionError:
                await self.close()
                if attempt or not reused:
                    raise
            finally:
                if not kept:
                    await connection.disconnect(nowait=True)
        raise RedisConnectionError("Redis could not be reached")

    async def close(self) -> None:
        """See AsyncWire."""
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)


class AsyncClusterWire:
    """To the node that serves a slot, directly; redis-py knows the nodes and their slots."""

    def __init__(self, cluster: RedisCluster, timeout: float) -> None:
        self._cluster: Any = cluster
        self._timeout = timeout
        self._wires: dict[str, AsyncDirectWire] = {}
        self._asking: asyncio.Task[None] | None = None

    async def run(self, script: Script, head: Head, tail: bytes) -> bytes:
        """See AsyncWire. A node that is gone, or no longer serves the slot, is asked about, and the call repeated."""
        for attempt in (0, 1):
            try:
                return await self._wire(head[0]).run(script, head, tail)
            except asyncio.CancelledError:  # out of time: the next call is to know better
                self._ask_again()
                raise
            except (ResponseError, RedisConnectionError, RedisClusterException, OSError) as error:
                moved = str(error).startswith(("MOVED ", "ASK ")) or not _answered(error)
                if not moved:
                    raise
                await asyncio.shield(self._ask_again())
                if attempt:
                    raise RedisConnectionError(str(error)) from error
        raise RedisConnectionError("the cluster could not be reached")

    async def close(self) -> None:
        """See AsyncWire."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking}, timeout=1)
        for wire in list(self._wires.values()):
            await wire.close()

    def _wire(self, slot: int) -> AsyncDirectWire:
        node = self._cluster.nodes_manager.get_node_from_slot(slot)
        if node.name not in self._wires:
            kwargs = {**bounded(node.connection_kwargs, self._timeout), "retry": Retry(NoBackoff(), 0)}
            self._wires[node.name] = AsyncDirectWire(lambda: node.connection_class(**kwargs))
        return self._wires[node.name]

    def _ask_again(self) -> asyncio.Task[None]:
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._learn(), name="limiter-cluster")
        return self._asking

    async def _learn(self) -> None:
        try:
            await self._cluster.nodes_manager.initialize()
        except (RedisError, RedisClusterException, OSError) as error:
            log.warning("the cluster's nodes could not be asked for their slots: %r", error)


def wire(redis: Redis | RedisCluster, timeout: float) -> AsyncWire:
    """The wire for a client."""
    if isinstance(redis, RedisCluster):
        return AsyncClusterWire(redis, timeout)
    kwargs = {**bounded_kwargs(redis, timeout), "retry": Retry(NoBackoff(), 0)}
    return AsyncDirectWire(lambda: redis.connection_pool.connection_class(**kwargs))


def _answered(error: BaseException) -> bool:
    """Whether a node that serves the slot gave this answer: asking another one would not help."""
    return isinstance(error, ResponseError) and not isinstance(error, ReadOnlyError)


async def _exchange(connection: Any, request: list[bytes]) -> Any:
    await connection.send_packed_command(request, check_health=False)
    return await connection.read_response(disable_decoding=True)
