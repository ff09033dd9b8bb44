"""The one place that assembles real things. The console, the worker and the tests build a Platform
and hand it to what they run; importing a module connects to nothing.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from adapters.core import Adapter, adapter_classes
from limiter import Limiter
from operations.database import Database
from operations.readings import Readings
from operations.settings import Settings

log = logging.getLogger(__name__)


class Platform:
    """Everything a process needs: settings, database, Redis, adapters, readings.

    ``adapters`` is replaced, never changed in place, when a configuration changes: hold on to it
    only for the length of a call.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(settings.database_url)
        self.redis: redis.Redis = redis.Redis.from_url(
            settings.redis_url.get_secret_value(),
            socket_timeout=1.0,
            socket_connect_timeout=1.0,
            health_check_interval=15,
            # One more try heals a connection that died while idle; more would keep a person's Save waiting.
            retry=Retry(NoBackoff(), 1),
            decode_responses=True,
        )
        self.readings = Readings()
        self.sampler: Any = None
        """The process's Sampler once it runs background work; None otherwise."""
        self._adapters: dict[str, Adapter[Any]] = {}
        self._limiter: Limiter | None = None
        self._lock = threading.RLock()
        self._closed = False

    @property
    def adapters(self) -> dict[str, Adapter[Any]]:
        """One adapter per service by slug, built with the configuration in force."""
        if not self._adapters:
            with self._lock:
                if not self._adapters:
                    self._adapters = {slug: self._build(slug) for slug in adapter_classes()}
                    self._use_pool_settings()
        return self._adapters

    @property
    def limiter(self) -> Limiter:
        """The limiter this process obeys itself."""
        with self._lock:
            if self._limiter is None:
                self._limiter = Limiter(self.redis, timeout=0.1)
            return self._limiter

    def reload(self, slug: str | None = None) -> None:
        """Build adapters anew after a configuration change: one, or all."""
        with self._lock:
            replaced = dict(self._adapters)
            if slug is None:
                fresh = {name: self._build(name) for name in adapter_classes()}
            else:
                fresh = {**replaced, slug: self._build(slug)}
            self._adapters = fresh
            self._use_pool_settings()
            for name, old in replaced.items():
                if fresh.get(name) is not old:
                    self.readings.forget(f"{name}:")
                    old.close()

    def _use_pool_settings(self) -> None:
        """Give our own engine the pool that the PostgreSQL page configures."""
        adapter = self._adapters.get("postgresql")
        if adapter is not None:
            config = adapter.config
            self.database.reconfigure(
                pool_size=config.pool_size,
                max_overflow=config.max_overflow,
                pool_timeout_s=config.pool_timeout_s,
                statement_timeout_ms=config.statement_timeout_ms,
            )

    def _build(self, slug: str) -> Adapter[Any]:
        from operations.services import build_adapter

        return build_adapter(self, slug)

    def close(self) -> None:
        """Release everything. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        if self.sampler is not None:
            self.sampler.stop()
        self.readings.close()
        for adapter in self._adapters.values():
            adapter.close()
        if self._limiter is not None:
            self._limiter.close()
        self.redis.close()
        self.database.close()


_current: Platform | None = None


def install(platform: Platform | None) -> None:
    """Make ``platform`` the one that pages of this process use; None removes it."""
    global _current
    _current = platform


def current() -> Platform:
    """The installed platform. Raises RuntimeError before app.py (or a test) has installed one."""
    if _current is None:
        raise RuntimeError("no platform is installed: app.py installs it at start-up")
    return _current
