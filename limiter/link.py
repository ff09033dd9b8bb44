"""One open connection to Redis: send a request, read its reply, by a deadline.

The exchange reads the socket directly. redis-py's timeout is per read, so a server that drips bytes outlasts it.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

_CRLF = b"\r\n"
_LONGEST = 65536


class LostReplyError(RedisConnectionError):
    """The connection ended after the request was sent: whether it was carried out, nobody knows."""


class UnsentError(RedisConnectionError):
    """The request did not leave completely, so it cannot have been carried out."""


class Link:
    """A connection made by redis-py, over whatever it uses. See Polled for the faster way."""

    __slots__ = ("_connection", "_sock")

    def __init__(self, connection: Any) -> None:
        self._connection, self._sock = connection, connection._sock

    def alive(self) -> bool:
        """Whether the idle connection is still open. Redis says nothing unasked, so what can be read is its end."""
        try:
            self._sock.settimeout(0.0)
            self._sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        return False

    def drop(self) -> None:
        """Close it."""
        try:
            self._connection.disconnect()
        except (RedisError, OSError):
            return

    def exchange(self, request: bytes, deadline: float) -> bytes:
        """Send, and read one reply. Raises RedisError: UnsentError, LostReplyError, RedisTimeoutError, or what the
        server answered."""
        try:
            self._send(request, deadline)
        except TimeoutError as error:
            raise RedisTimeoutError("Redis did not take the request in time") from error
        except OSError as error:
            raise UnsentError(str(error)) from error
        return self._answer(deadline, b"")

    def _answer(self, deadline: float, data: bytes) -> bytes:
        """One reply, of which ``data`` was read."""
        try:
            while True:
                more = self._receive(deadline)
                if not more:
                    raise LostReplyError("Redis closed the connection")
                data += more
                reply = _complete(data)
                if reply is not None:
                    return reply
                if len(data) > _LONGEST:
                    raise LostReplyError("Redis answered more than a decision can be")
        except TimeoutError as error:
            raise RedisTimeoutError("Redis did not answer in time") from error
        except OSError as error:
            raise LostReplyError(str(error)) from error

    def _send(self, request: bytes, deadline: float) -> None:
        self._sock.settimeout(_left(deadline))
        self._sock.sendall(request)

    def _receive(self, deadline: float) -> bytes:
        self._sock.settimeout(_left(deadline))
        return bytes(self._sock.recv(4096))


class Polled(Link):
    """Over a plain socket: never blocks in it, which saves a system call in three."""

    __slots__ = ("_poll",)

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self._sock.setblocking(False)
        poller = select.poll()
        poller.register(self._sock, select.POLLIN)
        self._poll = poller.poll

    def alive(self) -> bool:
        """See Link."""
        return not self._poll(0)

    def exchange(self, request: bytes, deadline: float) -> bytes:
        """See Link. The usual case without a detour: all of it sent, and answered, at once."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise RedisTimeoutError("no time left")
        try:
            sent = self._sock.send(request)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise UnsentError(str(error)) from error
        if sent < len(request):
            return self._rest(request[sent:], deadline)
        if not self._poll(left * 1000):
            raise RedisTimeoutError("Redis did not answer in time")
        try:
            data = self._sock.recv(4096)
        except OSError as error:
            raise LostReplyError(str(error)) from error
        reply = _complete(data)
        return self._answer(deadline, data) if reply is None else reply

    def _rest(self, request: bytes, deadline: float) -> bytes:
        try:
            return super().exchange(request, deadline)
        finally:
            self._sock.setblocking(False)

    def _receive(self, deadline: float) -> bytes:
        if not self._poll(_left(deadline) * 1000):
            raise TimeoutError
        return bytes(self._sock.recv(4096))


def linked(connection: Any) -> Link:
    """The link over a connection that was just made."""
    if connection._sock is None:
        raise RedisConnectionError("connection lost")
    return (
        Polled(connection) if type(connection._sock) is socket.socket and hasattr(select, "poll") else Link(connection)
    )


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _complete(data: bytes) -> bytes | None:
    """The value of a complete bulk reply, None when more is to come. Raises the error an error reply names."""
    end = data.find(_CRLF)
    if end < 0:
        if not data:
            raise LostReplyError("Redis closed the connection")
        return None
    kind = data[:1]
    if kind == b"$":
        try:
            size = int(data[1:end])
        except ValueError:
            raise LostReplyError("Redis answered garbage") from None
        if len(data) >= end + 4 + size:
            return data[end + 2 : end + 2 + size]
        return None
    if kind == b"-":
        message = data[1:end].decode(errors="replace")
        code = message.partition(" ")[0]
        if code == "NOSCRIPT":
            raise NoScriptError(message)
        if code in ("READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN"):
            raise ReadOnlyError(message)
        if "READONLY" in message or "-MASTERDOWN" in message:  # raised inside a script
            raise ReadOnlyError(message)
        raise ResponseError(message)
    if kind == b"+":
        return data[1:end]
    raise LostReplyError("Redis answered garbage")
