"""Keeping the table fresh: the channel, a version poll each second, a full reload after a lost subscription."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from redis.exceptions import RedisClusterException, RedisError

from limiter import keys
from limiter.scripts import FETCH
from limiter.table import MOST_CHANGES, Fetched, Table, text

log = logging.getLogger(__name__)
POLL_SECONDS = 1.0


def versions_of(reply: dict[Any, Any]) -> dict[str, int]:
    """Revisions by key, from HGETALL of ratelimit:versions."""
    return {text(key): int(float(text(value))) for key, value in reply.items()}


class Store:
    """Loads a Table with a redis-py client, and keeps it fresh from one daemon thread.

    Several limiters of a process may share one store.
    """

    def __init__(self, redis: Any, table: Table, *, poll_seconds: float = POLL_SECONDS) -> None:
        self._redis = redis
        self.table = table
        self.poll_seconds = poll_seconds
        self.connected = threading.Event()
        """Set while subscribed and fully loaded."""
        self.on_poll: list[Callable[[Any], None]] = []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, once."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="limiter-policies", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Stop the thread; the table stays as it is."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(3)

    def reload(self) -> None:
        """Read everything again. Raises RedisError."""
        versions = versions_of(self._redis.hgetall(keys.VERSIONS))
        for key in versions:
            self._load(key, scan=True)
        self.table.forget_missing(versions)
        self.table.complete = True

    def poll(self) -> None:
        """Read what changed since, by comparing versions. Raises RedisError."""
        versions = versions_of(self._redis.hgetall(keys.VERSIONS))
        for key in self.table.stale(versions):
            self._load(key)
        self.table.forget_missing(versions)
        self.table.complete = True

    def _load(self, key: str, *, scan: bool = False) -> None:
        names = (keys.config(key), keys.overrides(key), keys.changes(key))
        with self._lock:
            reply = self._redis.eval(FETCH.text, 3, *names, self.table.at(key).revision, MOST_CHANGES)
            fetched = Fetched.parse(reply)
            if scan or self.table.needs_scan(key, fetched):
                self.table.apply(key, fetched, list(self._scan(key)))
            elif fetched.revision != self.table.at(key).revision:
                self.table.apply(key, fetched)

    def _scan(self, key: str) -> Iterable[tuple[str, str]]:
        for name, document in self._redis.hscan_iter(keys.overrides(key), count=1000):
            yield text(name), text(document)

    def _run(self) -> None:
        pause = 0.05
        while not self._stop.is_set():
            try:
                self._listen()
                pause = 0.05
            except (RedisError, RedisClusterException, OSError, ValueError) as error:
                if self.connected.is_set():
                    log.warning("rate-limit policies: subscription lost: %r", error)
                self.connected.clear()
                self._stop.wait(pause)
                pause = min(pause * 2, 1.0)
        self.connected.clear()

    def _listen(self) -> None:
        with self._redis.pubsub() as pubsub:
            pubsub.subscribe(keys.CHANGES, keys.CHANNEL)
            followed: set[str] = set()
            due = time.monotonic() + self.poll_seconds
            while not self._stop.is_set():
                message = pubsub.get_message(timeout=min(max(due - time.monotonic(), 0.001), 0.5))
                if message is not None:
                    channel = text(message["channel"])
                    if message["type"] == "subscribe" and channel == keys.CHANNEL:
                        # Anything may have been missed before this moment, also when redis-py reconnected by itself.
                        self.reload()
                        self.connected.set()
                    elif message["type"] == "message" and channel == keys.CHANGES:
                        with self._lock:
                            key = self.table.follow(text(message["data"]))
                        if key is not None:
                            followed.add(key)
                    elif message["type"] == "message":
                        # Every change is announced twice; what was followed need not be fetched.
                        key = text(message["data"])
                        if key in followed:
                            followed.discard(key)
                        else:
                            self._load(key)
                if time.monotonic() >= due:
                    self.poll()
                    for report in self.on_poll:
                        report(self._redis)
                    due = time.monotonic() + self.poll_seconds
