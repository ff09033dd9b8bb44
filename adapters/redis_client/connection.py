"""redis-py connections whose answers arrive in time and in bounds."""

from __future__ import annotations

from typing import Any

import redis.connection as wire
from redis.backoff import NoBackoff
from redis.retry import Retry

from adapters.core.deadline import cut_off
from adapters.core.errors import Unexpected
from adapters.core.http import MAX_BODY_BYTES

MAX_CONNECTIONS = 4


class _Capped:
    """A socket that stops reading once one answer is larger than 8 MiB; otherwise the socket itself."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self.seen = 0

    def recv(self, size: int, *flags: int) -> bytes:
        data: bytes = self._sock.recv(size, *flags)
        self.seen += len(data)
        if self.seen > MAX_BODY_BYTES:
            self._sock.shutdown(2)
            raise Unexpected(
                "The answer of Redis is larger than 8 MiB and was cut off.", detail=f"over {self.seen} bytes"
            )
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class _Bounded:
    """A connection each of whose answers arrives within the present deadline, however slowly it drips."""

    _sock: Any

    def _connect(self) -> Any:
        return _Capped(super()._connect())  # type: ignore[misc]

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        self._sock.seen = 0
        with cut_off(lambda: self._sock.shutdown(2)):
            return super().read_response(*args, **kwargs)  # type: ignore[misc]


class _Tcp(_Bounded, wire.Connection):
    pass


class _Tls(_Bounded, wire.SSLConnection):
    pass


class _Unix(_Bounded, wire.UnixDomainSocketConnection):
    pass


_KINDS: dict[type, type] = {wire.SSLConnection: _Tls, wire.UnixDomainSocketConnection: _Unix}


def bounded_pool(url: str) -> wire.BlockingConnectionPool:
    """At most four connections to a redis://, rediss:// or unix:// address. Raises ValueError for another."""
    options = dict(wire.parse_url(url))  # type: ignore[no-untyped-call]
    kind = _KINDS.get(options.pop("connection_class", wire.Connection), _Tcp)
    return wire.BlockingConnectionPool(  # type: ignore[no-untyped-call]
        connection_class=kind,
        max_connections=MAX_CONNECTIONS,
        timeout=2,
        socket_connect_timeout=1.0,
        socket_timeout=2.5,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        driver_info=None,
        health_check_interval=0,
        decode_responses=True,
        encoding_errors="replace",
        **options,
    )
