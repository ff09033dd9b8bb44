"""The sampler: one process among all visits every service and writes down what it found.

The leader is whoever holds an advisory lock on a connection of its own. That connection must be
used every few seconds or PostgreSQL ends it: so the lock of a leader that hangs, or whose network
is gone, is free within 10 s, and that of one that died at once.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import psycopg

from adapters.core import AdapterError, Metric, Sample, State, utcnow
from adapters.core.probe import sample_all
from operations import samples
from operations.platform import Platform
from operations.samples import Tick

log = logging.getLogger(__name__)

LEADER_LOCK = 0x50_49_4C_4F_54_04
KEEP_SECONDS = 2.0
IDLE_MS = 8000
BUFFERED = timedelta(minutes=60)
FLUSHED_AT_ONCE = 30
COALESCE_SECONDS = 1.0
HOUSEKEEPING_SECONDS = 900.0
STUCK_SECONDS = 30.0


class Board:
    """What this process itself last found of every service, for when PostgreSQL cannot be read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.at: datetime | None = None
        self.samples: dict[str, Sample] = {}
        self.since: dict[str, datetime] = {}
        self.changes: deque[tuple[str, datetime, State, State, str]] = deque(maxlen=200)
        self.latencies: dict[str, deque[float]] = {}
        self.known: dict[str, tuple[tuple[Metric, ...], datetime]] = {}
        """The metrics last found, and when."""

    def put(self, tick: Tick) -> None:
        """Take a round of visits in."""
        with self._lock:
            for slug, sample in tick.samples.items():
                old = self.samples.get(slug)
                if old is None or old.health.state is not sample.health.state:
                    self.since[slug] = tick.at
                    if old is not None:
                        self.changes.appendleft(
                            (slug, tick.at, old.health.state, sample.health.state, sample.health.message)
                        )
                if sample.metrics:
                    self.known[slug] = (sample.metrics, tick.at)
                if sample.health.latency_ms is not None:
                    self.latencies.setdefault(slug, deque(maxlen=60)).append(sample.health.latency_ms)
            self.samples = {**self.samples, **tick.samples}
            self.at = tick.at


class Sampler:
    """One per process. Every process stands ready; the leader samples, the others wait."""

    def __init__(self, platform: Platform, *, every: float | None = None) -> None:
        self._platform = platform
        self.every = every or platform.settings.sample_seconds
        self.board = Board()
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._buffer: deque[Tick] = deque(maxlen=max(30, int(BUFFERED.total_seconds() / self.every)))
        self._flushing = threading.Lock()
        self._role = "unknown"
        self._reachable = False
        self._connection: psycopg.Connection[Any] | None = None
        self._stop = threading.Event()
        self._progress = time.monotonic()
        self._rolled: datetime | None = None
        self._late: datetime | None = None
        self._housekept = float("-inf")
        self._refresh = threading.Condition()
        self._refreshing = False
        self._refreshed: dict[str, float] = {}
        self._threads = [
            threading.Thread(target=self._keep_loop, name="sampler-lock", daemon=True),
            threading.Thread(target=self._sample_loop, name="sampler", daemon=True),
        ]

    @property
    def is_leader(self) -> bool:
        """Whether this process holds the lock."""
        return self._role == "leader" and self._reachable

    @property
    def buffered(self) -> int:
        """Rounds that wait for PostgreSQL."""
        return len(self._buffer)

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, at most a few seconds later, giving up the lock. Safe to call twice."""
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(4)
        self._drop_connection()

    def refresh(self, slugs: Iterable[str] | None = None) -> None:
        """Visit services now, also those the breaker pauses. People who ask together share one visit."""
        wanted = set(slugs) if slugs is not None else set(self._platform.adapters)
        asked = time.monotonic()
        with self._refresh:
            while self._refreshing:
                if not self._refresh.wait(6.0):
                    return
            fresh = asked - COALESCE_SECONDS
            wanted = {slug for slug in wanted if self._refreshed.get(slug, float("-inf")) < fresh}
            if not wanted:
                return
            self._refreshing = True
        try:
            tick = self._visit(wanted, force=True)
            with suppress(AdapterError):
                samples.write(self._platform.database, [tick], self.name)
        finally:
            with self._refresh:
                self._refreshing = False
                self._refreshed |= dict.fromkeys(wanted, time.monotonic())
                self._refresh.notify_all()

    def tick(self) -> None:
        """One round as the leader does it: visit, keep, write all that waits."""
        if self._reachable and self._role == "follower":
            self.flush()
            return
        tick = self._visit(None)
        if self._role != "follower":
            self._buffer.append(tick)
        self.flush()

    def flush(self) -> bool:
        """Write what waits, oldest first; False where PostgreSQL did not take it, and it waits on."""
        with self._flushing:
            while self._buffer:
                batch = list(self._buffer)[:FLUSHED_AT_ONCE]
                try:
                    samples.write(self._platform.database, batch, self.name)
                except AdapterError as error:
                    log.warning("%d rounds of samples wait for PostgreSQL: %s", len(self._buffer), error)
                    return False
                for written in batch:
                    if self._buffer and self._buffer[0] is written:
                        self._buffer.popleft()
                self._late = min(self._late or batch[0].at, batch[0].at)
        return True

    def upkeep(self) -> None:
        """Roll up once a minute, and do the housekeeping every quarter of an hour. For the leader, and late writers."""
        now = utcnow().replace(second=0, microsecond=0)
        if (self.is_leader or self._late is not None) and self._rolled != now and not self._buffer:
            first = None if self._late is None else self._late - timedelta(minutes=2)
            samples.roll_up(self._platform.database, first)
            self._rolled, self._late = now, None
        if self.is_leader and time.monotonic() - self._housekept > HOUSEKEEPING_SECONDS:
            samples.housekeep(self._platform.database)
            self._housekept = time.monotonic()

    def _visit(self, slugs: set[str] | None, *, force: bool = False) -> Tick:
        adapters = [a for slug, a in self._platform.adapters.items() if slugs is None or slug in slugs]
        at = utcnow()
        found = sample_all(adapters, self._platform.settings.probe_deadline_seconds, force=force)
        tick = Tick(at.replace(microsecond=at.microsecond // 1000 * 1000), found)
        self.board.put(tick)
        return tick

    def _sample_loop(self) -> None:
        self._stop.wait(0.3)  # the lock usually is ours by then, and the first overview is soon alive
        due = time.monotonic()
        while not self._stop.is_set():
            try:
                self.tick()
                self.upkeep()
            except AdapterError as error:
                log.warning("the sampler goes on: %s", error)
            except Exception:
                log.exception("a round of samples failed; the sampler goes on")
            self._progress = time.monotonic()
            due += self.every
            while due <= time.monotonic():  # a round that took long costs the rounds it covered
                due += self.every
            self._stop.wait(due - time.monotonic())

    def _keep_loop(self) -> None:
        while not self._stop.is_set():
            try:
                self._keep()
                self._reachable = True
            except (AdapterError, psycopg.Error, OSError) as error:
                if self._reachable:
                    log.warning("the sampler has lost PostgreSQL: %s", error)
                self._reachable = False
                self._drop_connection()
            except Exception:
                log.exception("keeping the sampler's lock failed; it is tried again")
                self._drop_connection()
            self._stop.wait(KEEP_SECONDS)

    def _keep(self) -> None:
        database = self._platform.database
        if self.is_leader and time.monotonic() - self._progress > max(STUCK_SECONDS, 2 * self.every):
            log.error("sampling is stuck in this process: giving up the lead")
            self._role = "follower"
            self._drop_connection()
        if self._connection is None or self._connection.closed:
            fresh = True
            self._connection = database.dedicated("pilothouse-sampler", options=f"-c idle_session_timeout={IDLE_MS}")
        else:
            fresh = False
        connection = self._connection
        with database.guarded(connection, KEEP_SECONDS + 1):
            if self._role == "leader" and not fresh:
                connection.execute("SELECT 1")
                return
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", (LEADER_LOCK,)).fetchone()
        got = bool(row and row[0])
        if got and self._role != "leader":
            log.info("this process samples now")
            self._progress = time.monotonic()
        self._role = "leader" if got else "follower"

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error, OSError):
                connection.close()
