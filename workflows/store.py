"""The worker's view of the workflow settings: as fresh as Redis has them, and there when Redis is not."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from redis.exceptions import RedisError

from adapters.core import AdapterError
from operations import workflow_held, workflow_rules, workflow_wire
from operations.change import Invalid
from operations.platform import Platform
from operations.workflow_rules import DEFAULT, FIELDS, Settings, resolve

log = logging.getLogger(__name__)

REDIS = "Redis"
LAST_KNOWN = "last known"
POSTGRESQL = "PostgreSQL"
POLL_SECONDS = 1.0
TELL_SECONDS = 5.0


def identity() -> str:
    """This worker's name: host and process."""
    return f"{socket.gethostname()}-{os.getpid()}"


def _usable(document: Mapping[str, Any] | None, type_: str) -> bool:
    """Whether a document from Redis says what it should; anything else is as good as not there."""
    if document is None:
        return type_ != DEFAULT
    values = {name: document.get(name) for name in FIELDS}
    try:
        workflow_rules.validate(type_, values)
    except Invalid:
        return False
    return isinstance(document.get("version"), int)


class Store:
    """Settings by type. ``effective`` reads Redis; a thread keeps what is shown as held up to date.

    Without ``start`` there is no thread: nothing is told and nothing listened to, the settings are right all the same.
    """

    def __init__(self, platform: Platform, name: str = "", task_queue: str = "", types: Iterable[str] = ()) -> None:
        self._platform = platform
        self._name, self._queue = name or identity(), task_queue
        self._types = tuple(dict.fromkeys([DEFAULT, *types]))
        self._lock = threading.Lock()
        self._known: dict[str, dict[str, Any] | None] = {}
        self._redis_again = 0.0
        self._source = LAST_KNOWN
        self._told: tuple[float, object] = (0.0, None)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="workflow-settings", daemon=True)
        self.changed: Callable[[], object] = lambda: None
        """Called, in the store's thread, when somebody changed settings."""

    def effective(self, type_: str) -> tuple[Settings, str]:
        """What a run of the type gets now, and where that is from.

        Redis; while it is away what was known last; PostgreSQL for what was never known.
        Raises StoreUnavailable where none of them can say.
        """
        source = self._refresh([type_, DEFAULT])
        with self._lock:
            own, default = self._known.get(type_), self._known.get(DEFAULT)
        return resolve(type_, own, default), source

    def _refresh(self, types: list[str]) -> str:
        """Bring what is known of these types up to date; where from."""
        away = time.monotonic() < self._redis_again
        if not away:
            try:
                found = dict(zip(types, workflow_wire.read(self._platform, types), strict=True))
                if all(_usable(document, name) for name, document in found.items()):
                    self._learn(found)
                    return REDIS
            except RedisError as error:
                # Not asked again for a moment: a Redis that hangs must not hold up every run that begins.
                self._redis_again = time.monotonic() + POLL_SECONDS
                log.warning("workflow settings: Redis does not answer: %r", error)
                away = True
        with self._lock:
            known = all(name in self._known for name in types)
        if away and known:
            return LAST_KNOWN
        try:
            with self._platform.database.session() as session:
                stored = workflow_wire.stored(session, types)
        except AdapterError:
            if known:
                return LAST_KNOWN
            raise
        self._learn({name: stored.get(name) for name in types})
        return POSTGRESQL

    def _learn(self, found: dict[str, dict[str, Any] | None]) -> None:
        with self._lock:
            self._known.update(found)

    # The thread

    def start(self) -> None:
        """Begin listening and telling."""
        self._thread.start()

    def stop(self) -> None:
        """End, at most 3 s later, and be forgotten."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(3)
        with contextlib.suppress(RedisError):
            workflow_held.forget(self._platform, self._name)

    def _run(self) -> None:
        listening: Any = None
        while not self._stop.is_set():
            try:
                if listening is None:
                    redis: Any = self._platform.redis
                    listening = redis.pubsub(ignore_subscribe_messages=True)
                    listening.subscribe(workflow_wire.CHANNEL)
                self._look()
                # Returns at once on a message, else after a poll's time: the safety net under a lost message.
                if listening.get_message(timeout=POLL_SECONDS) is not None:
                    self.changed()
            except RedisError as error:
                log.warning("workflow settings: Redis does not answer: %r", error)
                listening = self._closed(listening)
                self._quietly(self._look)
                self._stop.wait(POLL_SECONDS)
            except Exception:
                log.exception("watching workflow settings failed; it goes on")
                listening = self._closed(listening)
                self._stop.wait(POLL_SECONDS)
        self._closed(listening)

    @staticmethod
    def _closed(listening: Any) -> None:
        if listening is not None:
            with contextlib.suppress(RedisError, OSError):
                listening.close()

    @staticmethod
    def _quietly(work: Callable[[], object]) -> None:
        with contextlib.suppress(RedisError, AdapterError):
            work()

    def _look(self) -> None:
        """Read the worker's own types, and tell when something changed or it is time to."""
        with contextlib.suppress(AdapterError):
            self._source = self._refresh(list(self._types))
        with self._lock:
            known = dict(self._known)
        if DEFAULT not in known:
            return
        settings = {name: resolve(name, known.get(name), known[DEFAULT]) for name in self._types}
        at, before = self._told
        if (self._source, settings) == before and time.monotonic() - at < TELL_SECONDS:
            return
        workflow_held.tell(
            self._platform, self._name, host=socket.gethostname(), pid=os.getpid(), task_queue=self._queue,
            source=self._source, settings=settings,
        )  # fmt: skip
        self._told = (time.monotonic(), (self._source, settings))
