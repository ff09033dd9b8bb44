"""Keeping the table fresh: the channel, a version poll each second, a full reload after a lost subscription."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from redis.exceptions import RedisClusterException, RedisError, ResponseError

from limiter import forks, keys
from limiter.scripts import FETCH
from limiter.table import MOST_CHANGES, Fetched, Table, text

log = logging.getLogger(__name__)
POLL_SECONDS = 1.0
FIRST_PAUSE = 0.05
"""Seconds before the first attempt to subscribe again; each further one waits twice as long, at most 1."""
FAILURES = (RedisError, RedisClusterException, OSError, ValueError)
"""What talking to Redis can raise, garbage included."""


def versions_of(reply: dict[Any, Any]) -> dict[str, int]:
    """Revisions by key, from HGETALL of ratelimit:versions; 0, which no key has, for what is no number."""
    found = {}
    for key, value in reply.items():
        try:
            found[text(key)] = int(float(text(value)))
        except (ValueError, OverflowError):
            found[text(key)] = 0
    return found


def answered(error: BaseException) -> bool:
    """Whether Redis is there and says no, or said something odd: connecting anew would not help."""
    return isinstance(error, ResponseError | ValueError) and not isinstance(error, OSError)


class Store:
    """Loads a Table with a redis-py client, and keeps it fresh from one daemon thread.

    Several limiters of a process may share one store. A child of the process starts a thread of its own.
    """

    def __init__(self, redis: Any, table: Table, *, poll_seconds: float = POLL_SECONDS) -> None:
        self._redis = redis
        self.table = table
        self.poll_seconds = poll_seconds
        self.on_poll: list[Callable[[Any], None]] = []
        self.on_time: list[Callable[[int], None]] = []
        """Told the server's time in ms whenever it becomes known."""
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """See forks. What was loaded stays, until a thread of this process has read it anew."""
        self.connected = threading.Event()
        """Set while subscribed and fully loaded."""
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loading: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, once."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="limiter-policies", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Stop the thread; the table stays as it is."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(3)

    def load_within(self, seconds: float) -> None:
        """Load everything once, for a limiter that does not watch. After ``seconds`` it goes on by itself."""
        with self._starting:
            if self._loading is None or not self._loading.is_alive():
                self._loading = threading.Thread(target=self._load_once, name="limiter-load", daemon=True)
                self._loading.start()
            loading = self._loading
        loading.join(max(seconds, 0.0))

    def _load_once(self) -> None:
        try:
            self.reload()
        except Exception as error:  # noqa: BLE001  whoever waits sees that nothing is loaded
            log.warning("rate-limit policies: not loaded: %r", error)

    def reload(self) -> None:
        """Read everything again. Raises RedisError."""
        versions = versions_of(self._redis.hgetall(keys.VERSIONS))
        self._load_all(versions, scan=True)
        self.table.forget_missing(versions)

    def poll(self) -> None:
        """Read what changed since, by comparing versions. Raises RedisError."""
        versions = versions_of(self._redis.hgetall(keys.VERSIONS))
        self._load_all(self.table.stale(versions))
        self.table.forget_missing(versions)

    def _load_all(self, names: Iterable[str], *, scan: bool = False) -> None:
        """One key that cannot be read (a wrong type, a lost node of a cluster) does not keep the others from it."""
        failed: Exception | None = None
        loaded = False
        for key in names:
            try:
                self._load(key, scan=scan)
                loaded = True
            except FAILURES as error:
                self.table.unread(key, error)
                if answered(error):
                    log.error("rate-limit policies: %s cannot be read: %r", key, error)
                else:
                    failed = error
        if failed is None or loaded:
            self.table.complete = True
        if failed is not None:
            raise failed

    def _load(self, key: str, *, scan: bool = False) -> None:
        names = (keys.config(key), keys.overrides(key), keys.changes(key))
        with self._lock:
            reply = self._redis.eval(FETCH.text, 3, *names, self.table.at(key).revision, MOST_CHANGES)
            fetched = Fetched.parse(reply)
            for learn in self.on_time:
                learn(fetched.now_ms)
            if not fetched.revision:
                raise ValueError("Redis names the key and does not have it")
            if scan or self.table.needs_scan(key, fetched):
                self.table.apply(key, fetched, list(self._scan(key)))
            elif fetched.revision != self.table.at(key).revision:
                self.table.apply(key, fetched)

    def _scan(self, key: str) -> Iterable[tuple[str, str]]:
        for name, document in self._redis.hscan_iter(keys.overrides(key), count=1000):
            yield text(name), text(document)

    def _run(self) -> None:
        pause = FIRST_PAUSE
        stop, connected = self._stop, self.connected
        while not stop.is_set():
            try:
                self._listen()
            except Exception as error:
                if connected.is_set():
                    pause = FIRST_PAUSE
                    log.warning("rate-limit policies: subscription lost: %r", error)
                elif not isinstance(error, FAILURES):
                    log.exception("rate-limit policies: not followed")
                connected.clear()
                stop.wait(pause)
                pause = min(pause * 2, 1.0)
        connected.clear()

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
                        elif len(key) <= keys.LONGEST:
                            self._load_all([key])
                if time.monotonic() >= due:
                    self.poll()
                    self._reports()
                    due = time.monotonic() + self.poll_seconds

    def _reports(self) -> None:
        for report in list(self.on_poll):
            try:
                report(self._redis)
            except FAILURES as error:
                if not answered(error):
                    raise
                log.error("rate-limit policies: what was decided cannot be reported: %r", error)
