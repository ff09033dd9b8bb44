"""One bounded round trip to Redis.

redis-py connects, authenticates and finds the primary; the exchange itself is ours (see link), because a decision must
end when its time is up, and because it halves the time of a call.

A request that may have been carried out is never sent again: a decision would count twice. So a connection that died
while it was idle has to be noticed before it is used, and one that dies afterwards costs the call its answer.
"""

from __future__ import annotations

import logging
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

from limiter import forks
from limiter.link import Link, LostReplyError, UnsentError, linked
from limiter.scripts import Script

log = logging.getLogger(__name__)
IDLE_CONNECTIONS = 64
ASKING = b"*1\r\n$6\r\nASKING\r\n"


def harmful(error: BaseException) -> bool:
    """Whether a failure is the server's and not the request's: others would fare alike, so it is left alone a while.

    An error it answers is none, except that it cannot serve at present. The slot of a cluster that moves, or is
    served by nobody, says nothing of its node's other slots.
    """
    if isinstance(error, ReadOnlyError):
        return not str(error).startswith("CLUSTERDOWN")
    return not isinstance(error, ResponseError)


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

    def place(self, head: Any) -> str:
        """Which server a request goes to, as far as known now. Does no I/O."""

    def run(self, script: Script, head: Any, tail: tuple[bytes, ...], deadline: float) -> bytes:
        """Perform it before ``deadline``, by ``time.monotonic``. Raises RedisError."""

    def close(self) -> None:
        """Release connections."""


class DirectWire:
    """To one server (or the present primary, by Sentinel)."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """See forks. Sockets inherited over a fork belong to the parent."""
        self._idle: deque[Link] = deque()

    @staticmethod
    def prepare(script: Script, keys: tuple[str, ...], args: tuple[str, ...], more: int) -> bytes:
        """See Wire."""
        parts: list[str] = ["EVALSHA", script.sha, str(script.keys), *keys, *args]
        return b"*%d\r\n" % (len(parts) + more) + b"".join(pack(part) for part in parts)

    @staticmethod
    def place(_head: bytes) -> str:
        """See Wire."""
        return ""

    def run(
        self, script: Script, head: bytes, tail: tuple[bytes, ...], deadline: float, *, asking: bool = False
    ) -> bytes:
        """See Wire. A script the server forgot is loaded; a connection that died while it was idle, or leads to a
        server that is no longer primary, is replaced once. ``asking``: see ASKING of Redis Cluster."""
        request = head + b"".join(tail)
        for attempt in (0, 1):
            link = self._take(deadline)
            try:
                if asking:
                    link.exchange(ASKING, deadline)
                try:
                    reply = link.exchange(request, deadline)
                except NoScriptError:
                    link.exchange(b"*3\r\n" + pack("SCRIPT") + pack("LOAD") + pack(script.text), deadline)
                    if asking:
                        link.exchange(ASKING, deadline)
                    reply = link.exchange(request, deadline)
            except (ReadOnlyError, UnsentError):
                link.drop()
                self._drop_idle()
                if attempt:
                    raise
                continue
            except ResponseError:
                self._idle.append(link)
                raise
            except BaseException:
                link.drop()
                raise
            if len(self._idle) < IDLE_CONNECTIONS:
                self._idle.append(link)
            else:
                link.drop()
            return reply
        raise RedisConnectionError("Redis could not be reached")

    def close(self) -> None:
        """See Wire."""
        self._drop_idle()

    def _take(self, deadline: float) -> Link:
        while True:
            try:
                link = self._idle.pop()
            except IndexError:
                return self._connect(deadline)
            if link.alive():
                return link
            link.drop()

    def _connect(self, deadline: float) -> Link:
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
                    connection.disconnect()

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
        return linked(connection)

    def _drop_idle(self) -> None:
        while self._idle:
            try:
                self._idle.pop().drop()
            except IndexError:
                return


class ClusterWire:
    """To the node that serves a slot, directly, within the one timeout; redis-py knows the nodes and their slots."""

    def __init__(self, redis: RedisCluster) -> None:
        self._redis: Any = redis
        self._wires: dict[str, DirectWire] = {}
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """See forks."""
        self._lock = threading.Lock()
        self._asking: threading.Thread | None = None

    def prepare(self, script: Script, keys: tuple[str, ...], args: tuple[str, ...], more: int) -> tuple[int, bytes]:
        """See Wire."""
        return key_slot(keys[0].encode()), DirectWire.prepare(script, keys, args, more)

    def place(self, head: tuple[int, bytes]) -> str:
        """See Wire. The node, or the slot where no node serves it."""
        try:
            return str(self._redis.nodes_manager.get_node_from_slot(head[0]).name)
        except (RedisError, RedisClusterException, LookupError):
            return f"slot {head[0]}"

    def run(self, script: Script, head: tuple[int, bytes], tail: tuple[bytes, ...], deadline: float) -> bytes:
        """See Wire. A node that is gone, or no longer serves the slot, is asked about, and the call repeated once,
        unless it may have been carried out; a slot on its way is asked for where it goes."""
        slot, request = head
        for attempt in (0, 1):
            if deadline <= time.monotonic():
                raise RedisTimeoutError("no time left")
            try:
                return self._wire(slot).run(script, request, tail, deadline)
            except (RedisTimeoutError, LostReplyError):
                self._ask_again(0.0)
                raise
            except ResponseError as error:
                said = str(error)
                if said.startswith("ASK "):
                    address = said.split()[-1]
                    if address.startswith(":"):  # the host of the node that says so
                        address = self.place(head).rpartition(":")[0] + address
                    return self._wire_at(address).run(script, request, tail, deadline, asking=True)
                if not said.startswith("MOVED ") and not isinstance(error, ReadOnlyError):
                    raise
                self._ask_again(deadline - time.monotonic())
                if attempt:
                    raise RedisConnectionError(said) from error
            except (RedisConnectionError, RedisClusterException, LookupError) as error:
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

    def _wire_at(self, address: str) -> DirectWire:
        """To the node at the address another one told."""
        wire = self._wires.get(address)
        if wire is None:  # perhaps a node so new that it serves no slot yet
            host, _, port = address.rpartition(":")
            nodes = self._redis.nodes_manager
            made = nodes.create_redis_node(host, int(port), **nodes.connection_kwargs)
            wire = self._wires.setdefault(address, DirectWire(made))
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
