"""Total deadlines: a call ends when its time is up, however the service behaves.

A per-read timeout is not enough: a service that drips one byte a second never trips it.
The deadline of the present call is kept in a context variable, so that the HTTP transport
and everything below it can honour it without being handed it.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

from adapters.core.errors import TimedOut

DEFAULT_SECONDS = 2.5
_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


@contextmanager
def deadline(seconds: float = DEFAULT_SECONDS) -> Iterator[None]:
    """Give everything inside at most ``seconds``; an outer, earlier deadline wins."""
    end = time.monotonic() + seconds
    outer = _deadline.get()
    token = _deadline.set(end if outer is None else min(end, outer))
    try:
        yield
    finally:
        _deadline.reset(token)


def remaining(default: float = DEFAULT_SECONDS) -> float:
    """Seconds left of the present deadline (``default`` outside of one).

    Raises TimedOut when none are left.
    """
    end = _deadline.get()
    if end is None:
        return default
    left = end - time.monotonic()
    if left <= 0:
        raise TimedOut("The service did not answer in time.", detail="total deadline exceeded")
    return left


@contextmanager
def cut_off(abort: Callable[[], None]) -> Iterator[threading.Event]:
    """Call ``abort`` from a timer when the present deadline passes while inside.

    For clients that know only per-read timeouts (redis-py, smtplib, psycopg): ``abort`` shuts
    the socket down, which makes the blocked read fail. Yields an event that is set when it fired.
    """
    fired = threading.Event()

    def fire() -> None:
        fired.set()
        with suppress(OSError, AttributeError, ValueError):
            abort()

    timer = threading.Timer(remaining(), fire)
    timer.daemon = True
    timer.start()
    try:
        yield fired
    finally:
        timer.cancel()
        timer.join()


def shut_socket(fileno: int) -> None:
    """Shut down the connected socket behind a file descriptor without closing the descriptor."""
    with socket.fromfd(fileno, socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.shutdown(socket.SHUT_RDWR)
