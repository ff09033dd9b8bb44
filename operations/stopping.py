"""Long work that can be ended early, when its run is canceled or its worker stops.

A thread cannot be stopped from outside: work looks between its parts (``check``), and what may block for long, a
child process or a connection, is cut off (``ending``). As with the deadline, what is to end is kept in a context
variable, so that everything below can look without being handed anything.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar


class Stopped(Exception):
    """The work was told to end. No failure of its own: whoever does it again begins anew, or goes on."""


class Stop:
    """Tells work to end, from another thread, at once and for good."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set = False
        self._ends: list[Callable[[], object]] = []

    @property
    def wanted(self) -> bool:
        """True once ``set`` was called."""
        return self._set

    def set(self) -> None:
        """End the work: cut off what blocks, let the next ``check`` raise. Returns at once."""
        with self._lock:
            self._set = True
            for end in self._ends:
                with suppress(OSError, ValueError):  # it has just ended by itself
                    end()

    @contextmanager
    def calling(self, end: Callable[[], object]) -> Iterator[None]:
        """Call ``end``, which must not block, when told to end inside."""
        with self._lock:
            if self._set:
                raise Stopped
            self._ends.append(end)
        try:
            yield
        finally:
            with self._lock:  # what it ends is closed only afterwards: nothing else has taken its place
                self._ends.remove(end)


_present: ContextVar[Stop | None] = ContextVar("stop", default=None)


@contextmanager
def heeding(stop: Stop) -> Iterator[None]:
    """Everything inside ends with ``stop``."""
    token = _present.set(stop)
    try:
        yield
    finally:
        _present.reset(token)


def check() -> None:
    """Raise Stopped where the present work is to end."""
    stop = _present.get()
    if stop is not None and stop.wanted:
        raise Stopped


@contextmanager
def ending(end: Callable[[], object]) -> Iterator[None]:
    """Call ``end``, which must not block, when the present work is told to end inside. Raises Stopped if it was."""
    stop = _present.get()
    if stop is None:
        yield
        return
    with stop.calling(end):
        yield
