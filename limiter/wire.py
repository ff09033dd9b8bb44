"""One bounded round trip to Redis.

redis-py connects, authenticates and finds the primary; the exchange itself reads the socket directly, because a
decision must end when its time is up (redis-py's timeout is per read, so a server that drips bytes outlasts it)
and because it halves the time of a call.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from typing import Any, Protocol

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ReadOnlyError, RedisClusterException, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from limiter.scripts import Script

log = logging.getLogger(__name__)
IDLE_CONNECTIONS = 64
_CRLF = b"\r\n"


def pack(part: str | bytes) -> bytes:
    """One argument as RESP."""
    raw = part.encode() if isinstance(part, str) else part
    return b"$%d\r\n%b\r\n" % (len(raw), raw)


def bounded_kwargs(redis: Any, timeout: float) -> dict[str, Any]:
    """The connection arguments of a client, with our timeouts, no retries and RESP2."""
    return bounded(redis.connection_pool.connection_kwargs, timeout)


def bounded(connection_kwargs: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Connection arguments with our timeouts, no retries and RESP2."""
    kwargs = dict(connection_kwargs)
    for name in ("maint_notifications_config", "maint_notifications_pool_handler", "event_dispatcher"):
        kwargs.pop(name, None)
    kwargs.update(
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        health_check_interval=0,
        protocol=2,
        decode_responses=False,
        lib_name=None,
        lib_version=None,
    )
    kwargs.pop("driver_info", None)
    return kwargs


class Wire(Protocol):
    """What the limiter needs of a connection to Redis."""

    def prepare(self, script: Script, keys: tuple[str, ...], args: tuple[str, ...], more: int) -> Any:
        """A request whose last ``more`` arguments are still to come."""

    def run(self, script: Script, head: Any, tail: tuple[bytes, ...], timeout: float) -> bytes:
        """Perform it within ``timeout`` seconds. Raises RedisError."""

    def close(self) -> None:
        """Release connections."""


class DirectWire:
    """To one server (or the present primary, by Sentinel)."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._idle: deque[Any] = deque()
        self._pid = os.getpid()

    @staticmethod
    def prepare(script: Script, keys: tuple[str, ...], args: tuple[str, ...], more: int) -> bytes:
        """See Wire."""
        parts: list[str] = ["EVALSHA", script.sha, str(script.keys), *keys, *args]
        return b"*%d\r\n" % (len(parts) + more) + b"".join(pack(part) for part in parts)

    def run(self, script: Script, head: bytes, tail: tuple[bytes, ...], timeout: float) -> bytes:
        """See Wire. A script the server forgot is loaded; a connection that was idle and died, or led to a
        server that is no longer primary, is replaced once, all within the one timeout."""
        deadline = time.monotonic() + timeout
        request = head + b"".join(tail)
        for attempt in (0, 1):
            connection, reused = self._take(deadline)
            try:
                try:
                    reply = _exchange(connection, request, deadline)
                except NoScriptError:
                    load = b"*3\r\n" + pack("SCRIPT") + pack("LOAD") + pack(script.text)
                    _exchange(connection, load, deadline)
                    reply = _exchange(connection, request, deadline)
            except ReadOnlyError:
                _drop(connection)
                self._drop_idle()
                if attempt:
                    raise
                continue
            except ResponseError:
                self._idle.append(connection)
                raise
            except RedisTimeoutError:
                _drop(connection)
                raise
            except RedisConnectionError:
                _drop(connection)
                self._drop_idle()
                if attempt or not reused:
                    raise
                continue
            except BaseException:
                _drop(connection)
                raise
            if len(self._idle) < IDLE_CONNECTIONS:
                self._idle.append(connection)
            else:
                _drop(connection)
            return reply
        raise RedisConnectionError("Redis could not be reached")

    def close(self) -> None:
        """See Wire."""
        self._drop_idle()

    def _take(self, deadline: float) -> tuple[Any, bool]:
        if self._pid != os.getpid():  # sockets inherited over a fork belong to the parent
            self._idle, self._pid = deque(), os.getpid()
        try:
            return self._idle.pop(), True
        except IndexError:
            return self._connect(deadline), False

    def _connect(self, deadline: float) -> Any:
        """A new connection by the deadline. In a thread: name resolution and handshakes have no total timeout."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise RedisTimeoutError("no time left to connect")
        pool = self._redis.connection_pool
        kwargs = {**bounded_kwargs(self._redis, left), "retry": Retry(NoBackoff(), 0)}
        connection: Any = pool.connection_class(**kwargs)
        outcome: list[BaseException | None] = []
        lock = threading.Lock()
        late = False

        def connect() -> None:
            error: BaseException | None = None
            try:
                connection.connect()
            except (RedisError, OSError) as caught:
                error = caught
            with lock:
                outcome.append(error)
                if late:
                    _drop(connection)

        thread = threading.Thread(target=connect, name="limiter-connect", daemon=True)
        thread.start()
        thread.join(left)
        with lock:
            if not outcome:
                late = True
                raise RedisTimeoutError("Redis did not complete the connection in time")
        if outcome[0] is not None:
            if isinstance(outcome[0], RedisError):
                raise outcome[0]
            raise RedisConnectionError(str(outcome[0])) from outcome[0]
        return connection

    def _drop_idle(self) -> None:
        while self._idle:
            try:
                _drop(self._idle.pop())
            except IndexError:
                return


class ClusterWire:
    """To the node that serves a slot, directly, within the one timeout; redis-py knows the nodes and their slots."""

    def __init__(self, redis: RedisCluster) -> None:
        self._redis: Any = redis
        self._wires: dict[str, DirectWire] = {}
        self._lock = threading.Lock()
        self._asking: threading.Thread | None = None

    def prepare(self, script: Script, keys: tuple[str, ...], args: tuple[str, ...], more: int) -> tuple[int, bytes]:
        """See Wire."""
        return key_slot(keys[0].encode()), DirectWire.prepare(script, keys, args, more)

    def run(self, script: Script, head: tuple[int, bytes], tail: tuple[bytes, ...], timeout: float) -> bytes:
        """See Wire. A node that is gone, or no longer serves the slot, is asked about, and the call repeated once
        where that takes no longer than the timeout."""
        deadline = time.monotonic() + timeout
        slot, request = head
        for attempt in (0, 1):
            left = deadline - time.monotonic()
            if left <= 0:
                raise RedisTimeoutError("no time left")
            try:
                return self._wire(slot).run(script, request, tail, left)
            except RedisTimeoutError:
                self._ask_again(0.0)
                raise
            except ResponseError as error:
                if not str(error).startswith(("MOVED ", "ASK ")):
                    raise
                self._ask_again(deadline - time.monotonic())
                if attempt:
                    raise RedisConnectionError(str(error)) from error
            except (RedisConnectionError, ReadOnlyError, RedisClusterException) as error:
                self._ask_again(deadline - time.monotonic())
                if attempt:
                    raise RedisConnectionError(str(error)) from error
        raise RedisConnectionError("the cluster could not be reached")

    def close(self) -> None:
        """See Wire."""
        for wire in list(self._wires.values()):
            wire.close()

    def _wire(self, slot: int) -> DirectWire:
        node = self._redis.nodes_manager.get_node_from_slot(slot)
        wire = self._wires.get(node.name)
        if wire is None:
            wire = self._wires.setdefault(node.name, DirectWire(self._redis.get_redis_connection(node)))
        return wire

    def _ask_again(self, seconds: float) -> None:
        """Have redis-py learn who serves which slot now; wait for it at most ``seconds``."""
        with self._lock:
            if self._asking is None or not self._asking.is_alive():
                self._asking = threading.Thread(target=self._learn, name="limiter-cluster", daemon=True)
                self._asking.start()
            asking = self._asking
        asking.join(max(seconds, 0.0))

    def _learn(self) -> None:
        try:
            self._redis.nodes_manager.initialize()
        except (RedisError, RedisClusterException, OSError) as error:
            log.warning("the cluster's nodes could not be asked for their slots: %r", error)


def _exchange(connection: Any, request: bytes, deadline: float) -> bytes:
    """Send, and read one bulk reply, by the deadline."""
    sock = connection._sock
    left = deadline - time.monotonic()
    if left <= 0:
        raise RedisTimeoutError("no time left")
    if sock is None:
        raise RedisConnectionError("connection lost")
    try:
        sock.settimeout(left)
        sock.sendall(request)
        data = sock.recv(4096)
        while True:
            if not data:
                raise RedisConnectionError("Redis closed the connection")
            reply = _complete(data)
            if reply is not None:
                return reply
            left = deadline - time.monotonic()
            if left <= 0:
                raise RedisTimeoutError("Redis did not answer in time")
            sock.settimeout(left)
            more = sock.recv(4096)
            if not more:
                raise RedisConnectionError("Redis closed the connection")
            data += more
            if len(data) > 65536:
                raise RedisConnectionError("Redis answered more than a decision can be")
    except TimeoutError as error:
        raise RedisTimeoutError("Redis did not answer in time") from error
    except OSError as error:
        raise RedisConnectionError(str(error)) from error


def _complete(data: bytes) -> bytes | None:
    """The value of a complete bulk reply, None when more is to come. Raises the error an error reply names."""
    end = data.find(_CRLF)
    if end < 0:
        return None
    kind = data[:1]
    if kind == b"$":
        try:
            size = int(data[1:end])
        except ValueError:
            raise RedisConnectionError("Redis answered garbage") from None
        if len(data) >= end + 4 + size:
            return data[end + 2 : end + 2 + size]
        return None
    if kind == b"-":
        message = data[1:end].decode(errors="replace")
        code = message.partition(" ")[0]
        if code == "NOSCRIPT":
            raise NoScriptError(message)
        if code in ("READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN"):
            raise ReadOnlyError(message)
        if "READONLY" in message or "-MASTERDOWN" in message:  # raised inside a script
            raise ReadOnlyError(message)
        raise ResponseError(message)
    raise RedisConnectionError("Redis answered garbage")


def _drop(connection: Any) -> None:
    try:
        connection.disconnect()
    except (RedisError, OSError):
        return
