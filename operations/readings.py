"""Readings: values fetched from services for pages, shared by everyone who looks.

A reading is refreshed on its own schedule while somebody has looked at it lately, so the number of
calls to a service does not depend on how many people look. Nobody waits for a slow service longer
than ``wait`` seconds; they get the last known value with its age, or none yet.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar, cast

from adapters.core.deadline import deadline
from adapters.core.errors import AdapterError, Unexpected
from adapters.core.model import utcnow

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_READINGS = 2000
WATCHED_INTERVALS = 3.0
FETCH_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """A value with its age, or why there is none. ``value`` stays the last known one after an error."""

    value: T | None
    error: AdapterError | None
    fetched_at: datetime | None
    pending: bool
    """True while the first answer is still awaited."""


@dataclass
class _Entry:
    key: str
    fetch: Callable[[], Any]
    every: float
    looked: float
    value: Any = None
    error: AdapterError | None = None
    fetched_at: datetime | None = None
    busy: bool = False
    scheduled: bool = False
    answered: threading.Event = field(default_factory=threading.Event)


class Readings:
    """All readings of one process. Threads start with the first reading and end with :meth:`close`."""

    def __init__(self, workers: int = 12) -> None:
        self._entries: dict[str, _Entry] = {}
        self._due: list[tuple[float, str]] = []
        self._changed = threading.Condition()
        self._workers = workers
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False

    def get(self, key: str, fetch: Callable[[], T], every: float = 10.0, wait: float = 0.25) -> Reading[T]:
        """The present reading under ``key``.

        ``fetch`` is called at most once per ``every`` seconds for all callers together. A first
        call waits up to ``wait`` seconds for the answer. ``key`` must start with the service's slug
        and a colon, for :meth:`forget`.
        """
        now = time.monotonic()
        with self._changed:
            entry = self._entries.get(key)
            if entry is None:
                self._make_room()
                entry = self._entries[key] = _Entry(key, fetch, every, now)
            entry.looked, entry.fetch, entry.every = now, fetch, every
            if not entry.scheduled and not entry.busy and not self._closed:
                self._start_threads()
                entry.scheduled = True
                heapq.heappush(self._due, (now, key))
                self._changed.notify()
        if not entry.answered.is_set():
            entry.answered.wait(wait)
        return Reading(cast("T | None", entry.value), entry.error, entry.fetched_at, not entry.answered.is_set())

    def forget(self, prefix: str) -> None:
        """Drop every reading whose key starts with ``prefix``: the next look fetches anew."""
        with self._changed:
            for key in [key for key in self._entries if key.startswith(prefix)]:
                del self._entries[key]

    def close(self) -> None:
        """Stop refreshing. Safe to call twice."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            pool = self._pool
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    def _make_room(self) -> None:
        if len(self._entries) >= MAX_READINGS:
            oldest = min(self._entries.values(), key=lambda entry: entry.looked)
            del self._entries[oldest.key]

    def _start_threads(self) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="reading")
            threading.Thread(target=self._schedule, name="readings", daemon=True).start()

    def _schedule(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (not self._due or self._due[0][0] > time.monotonic()):
                    self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)
                if self._closed:
                    return
                _, key = heapq.heappop(self._due)
                entry = self._entries.get(key)
                if entry is None or entry.busy:
                    continue
                entry.scheduled = False
                if entry.answered.is_set() and time.monotonic() - entry.looked > WATCHED_INTERVALS * entry.every:
                    continue
                entry.busy = True
                pool = self._pool
            if pool is not None:
                pool.submit(self._refresh, entry, time.monotonic())

    def _refresh(self, entry: _Entry, started: float) -> None:
        try:
            with deadline(FETCH_SECONDS):
                value = entry.fetch()
            entry.value, entry.error, entry.fetched_at = value, None, utcnow()
        except AdapterError as error:
            entry.error = error
        except Exception as error:
            log.exception("reading %s failed", entry.key)
            entry.error = Unexpected(
                "The console could not understand the answer.", detail=f"{type(error).__name__}: {error}"[:400]
            )
        finally:
            entry.answered.set()
            with self._changed:
                entry.busy = False
                if not self._closed and self._entries.get(entry.key) is entry:
                    entry.scheduled = True
                    heapq.heappush(self._due, (max(time.monotonic(), started + entry.every), entry.key))
                    self._changed.notify()
