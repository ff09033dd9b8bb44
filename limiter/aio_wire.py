"""One round trip to Redis for asyncio; the caller bounds its time with ``asyncio.timeout``. See ``wire``."""

from __future__ import annotations

import asyncio
import logging
import select
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from limiter import forks
from limiter.link import LostReplyError
from limiter.scripts import Script
from limiter.wire import ASKING, IDLE_CONNECTIONS, bounded, bounded_kwargs, pack

log = logging.getLogger(__name__)
_ELSEWHERE = (MovedError, ReadOnlyError, ClusterDownError, MasterDownError)
"""Answers of a node that does not serve the slot, or not at present."""
Head = tuple[int, bytes]
"""The slot of a request's keys, and the request as far as it is the same every time."""


def prepare(script: Script, keys: tuple[str, ...], args: tuple[str, ...], more: int) -> Head:
    """A request whose last ``more`` arguments are still to come."""
    parts = ["EVALSHA", script.sha, str(script.keys), *keys, *args]
    return key_slot(keys[0].encode()), b"*%d\r\n" % (len(parts) + more) + b"".join(pack(part) for part in parts)


class AsyncWire(Protocol):
    """What the limiter needs of a connection to Redis."""

    def place(self, head: Head) -> str:
        """Which server a request goes to, as far as known now."""

    def after_fork(self) -> None:
        """Forget connections, which are the parent's."""

    async def run(self, script: Script, head: Head, tail: bytes) -> bytes:
        """Perform a request. Raises RedisError, OSError."""

    async def close(self) -> None:
        """Release connections."""


class AsyncDirectWire:
    """To one server (or the present primary, by Sentinel), over connections that ``connect`` makes."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._idle: deque[Any] = deque()

    @staticmethod
    def place(_head: Head) -> str:
        """See AsyncWire."""
        return ""

    def after_fork(self) -> None:
        """See AsyncWire."""
        forks.leave(self._idle)
        self._idle = deque()

    async def run(self, script: Script, head: Head, tail: bytes, *, asking: bool = False) -> bytes:
        """See AsyncWire, and DirectWire.run for what is repeated."""
        request = head[1] + tail
        before = [ASKING] if asking else []
        for attempt in (0, 1):
            connection = self._take()
            kept = False
            try:
                if connection is None:
                    connection = self._connect()
                    await connection.connect()
                try:
                    for one in before:
                        await _exchange(connection, one)
                    reply = await _exchange(connection, request)
                except NoScriptError:
                    load = b"*3\r\n" + pack("SCRIPT") + pack("LOAD") + pack(script.text)
                    for one in (load, *before):
                        await _exchange(connection, one)
                    reply = await _exchange(connection, request)
                kept = self._give(connection)
                return bytes(reply)
            except ReadOnlyError:  # the primary may be another one now: ask anew, also with a fresh connection
                await self.close()
                if attempt:
                    raise
            except ResponseError:
                kept = self._give(connection)
                raise
            finally:
                if not kept and connection is not None:
                    await connection.disconnect(nowait=True)
        raise RedisConnectionError("Redis could not be reached")

    def _take(self) -> Any:
        while self._idle:
            connection = self._idle.pop()
            if _alive(connection):
                return connection
            if connection._writer is not None:
                connection._writer.close()
        return None

    def _give(self, connection: Any) -> bool:
        if len(self._idle) >= IDLE_CONNECTIONS:
            return False
        self._idle.append(connection)
        return True

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

    def place(self, head: Head) -> str:
        """See AsyncWire. The node, or the slot where no node serves it."""
        try:
            return str(self._cluster.nodes_manager.get_node_from_slot(head[0]).name)
        except (RedisError, RedisClusterException, LookupError):
            return f"slot {head[0]}"

    def after_fork(self) -> None:
        """See AsyncWire."""
        forks.leave(self._asking)
        self._asking = None
        for one in self._wires.values():
            one.after_fork()

    async def run(self, script: Script, head: Head, tail: bytes) -> bytes:
        """See AsyncWire, and ClusterWire.run for what is repeated."""
        for attempt in (0, 1):
            try:
                return await self._wire(head[0]).run(script, head, tail)
            except asyncio.CancelledError:  # out of time: the next call is to know better
                self._ask_again()
                raise
            except LostReplyError:
                self._ask_again()
                raise
            except (RedisError, RedisClusterException, OSError, LookupError) as error:
                if isinstance(error, AskError) and not isinstance(error, MovedError):
                    host = error.host or self.place(head).rpartition(":")[0]  # else of the node that says so
                    return await self._wire_at(host, error.port).run(script, head, tail, asking=True)
                if isinstance(error, ResponseError) and not isinstance(error, _ELSEWHERE):
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
        return self._wires.get(node.name) or self._wire_to(node.name, node, {})

    def _wire_at(self, host: str, port: int) -> AsyncDirectWire:
        """To the node at the address another one told, perhaps so new that it serves no slot yet."""
        node, name = self._cluster.nodes_manager.default_node, f"{host}:{port}"
        return self._wires.get(name) or self._wire_to(name, node, {"host": host, "port": port})

    def _wire_to(self, name: str, node: Any, where: dict[str, Any]) -> AsyncDirectWire:
        kwargs = {**bounded(node.connection_kwargs, self._timeout), **where, "retry": Retry(NoBackoff(), 0)}
        self._wires[name] = AsyncDirectWire(lambda: node.connection_class(**kwargs))
        return self._wires[name]

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


def _alive(connection: Any) -> bool:
    """Whether an idle connection is still open. Redis says nothing unasked, so what can be read is its end."""
    reader, writer = connection._reader, connection._writer
    if reader is None or writer is None or reader.at_eof() or writer.is_closing():
        return False
    if not hasattr(select, "poll"):
        return True
    poller = select.poll()
    poller.register(writer.get_extra_info("socket").fileno(), select.POLLIN)
    return not poller.poll(0)


async def _exchange(connection: Any, request: bytes) -> Any:
    """Send, and read one reply. Raises RedisError, OSError."""
    await connection.send_packed_command(request, check_health=False)
    try:
        return await connection.read_response(disable_decoding=True)
    except RedisConnectionError as error:
        raise LostReplyError(str(error)) from error
