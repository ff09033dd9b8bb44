"""What Redis announces to a subscriber.

redis-py makes the connection; over a plain socket the messages are read here, all that have arrived at once: a process
with many limiters hears of a change in a third of the time.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from redis import Redis
from redis.connection import SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from limiter.table import text

_LONGEST = 4 * 2**20
"""Bytes of one message. A change that is told is far shorter."""


class Message(NamedTuple):
    """``type`` is "subscribe" or "message"; ``data`` is what was said."""

    type: str
    channel: str
    data: str


class Feed(Protocol):
    """A subscription."""

    def read(self, seconds: float) -> Sequence[Message]:
        """What has arrived, in order; waits for something, but no longer than that. Raises RedisError, OSError,
        ValueError."""


@contextmanager
def subscribed(redis: Any, *channels: str) -> Iterator[Feed]:
    """A subscription, ended with the block. Raises RedisError, OSError."""
    pool = redis.connection_pool if isinstance(redis, Redis) and hasattr(select, "poll") else None
    if pool is not None and not issubclass(pool.connection_class, SSLConnection):
        connection: Any = pool.connection_class(**pool.connection_kwargs)
        try:
            connection.connect()
            if type(connection._sock) is socket.socket:
                connection.send_command("SUBSCRIBE", *channels)
                yield _Direct(connection._sock)
                return
        finally:
            connection.disconnect()
    with redis.pubsub() as pubsub:
        pubsub.subscribe(*channels)
        yield _ByRedisPy(pubsub)


class _ByRedisPy:
    """Whatever the connection is: TLS, a path, a cluster's."""

    def __init__(self, pubsub: Any) -> None:
        self._pubsub = pubsub

    def read(self, seconds: float) -> Sequence[Message]:
        found = self._pubsub.get_message(timeout=seconds)
        return () if found is None else (Message(found["type"], text(found["channel"]), text(found["data"])),)


class _Direct:
    """Over a plain socket, with RESP2."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._rest = sock, b""
        sock.setblocking(False)
        poller = select.poll()
        poller.register(sock, select.POLLIN)
        self._poll = poller.poll

    def read(self, seconds: float) -> Sequence[Message]:
        deadline = time.monotonic() + seconds
        while self._poll(max(deadline - time.monotonic(), 0.0) * 1000):
            more = self._sock.recv(16384)
            if not more:
                raise RedisConnectionError("Redis closed the connection")
            data, at, found = self._rest + more, 0, []
            while (one := _message(data, at)) is not None:
                message, at = one
                found.append(message)
            self._rest = data[at:]
            if len(self._rest) > _LONGEST:
                raise ValueError("Redis announced more than a change can be")
            if found:
                return found
        return ()


def _message(data: bytes, at: int) -> tuple[Message, int] | None:
    """The message that begins there and where it ends, None when more is to come."""
    end = data.find(b"\r\n", at)
    if end < 0:
        return None
    if data[at : at + 1] == b"-":
        raise ResponseError(data[at + 1 : end].decode(errors="replace"))
    if data[at : at + 1] != b"*":
        raise ValueError(f"Redis announced {data[at : at + 100]!r}")
    parts: list[str] = []
    start = end + 2
    for _ in range(int(data[at + 1 : end])):
        end = data.find(b"\r\n", start)
        if end < 0:
            return None
        kind, length = data[start : start + 1], data[start + 1 : end]
        start = end + 2
        if kind == b"$":
            size = max(int(length), 0)
            if len(data) < start + size + 2:
                return None
            parts.append(data[start : start + size].decode(errors="replace"))
            start += size + 2
        else:
            parts.append(length.decode(errors="replace"))
    if len(parts) != 3:
        raise ValueError(f"Redis announced {parts!r}"[:200])
    return Message(*parts), start
