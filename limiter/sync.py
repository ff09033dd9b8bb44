"""The limiter for threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.connection import ConnectionPool
from redis.exceptions import RedisError
from redis.retry import Retry

from limiter import forks, keys
from limiter.core import LOADING, Core, Prepared, check_cost, parse_reply
from limiter.model import Decision, OnFailure
from limiter.scripts import DECIDE
from limiter.store import FAILURES, Store
from limiter.table import Table
from limiter.wire import ClusterWire, DirectWire, Wire, bounded_kwargs, harmful, pack

_SMALL = tuple(pack(str(n)) for n in range(256))
_EMPTY, _ONE = pack(""), pack("1")


class Limiter:
    """Decides whether a call may happen, by the policies Redis carries.

    >>> limiter = Limiter(redis.Redis())                                    # doctest: +SKIP
    >>> limiter.check("api_calls", tenant="acme").allowed                   # doctest: +SKIP
    True

    ``timeout`` bounds every call in seconds, connecting and loading policies included. ``unloaded`` is the behaviour
    while no policy could be read yet; afterwards each policy says itself. ``clock`` (Unix seconds) replaces the Redis
    server's clock, for tests and replays. ``share`` takes over the policies of another limiter of the process.
    Time is the Redis server's, so all processes agree on windows and on the second an override expires.
    """

    def __init__(
        self,
        redis: Redis | RedisCluster,
        *,
        timeout: float = 0.1,
        unloaded: OnFailure = OnFailure.ALLOW,
        clock: Callable[[], float] | None = None,
        share: Limiter | None = None,
        watch: bool = True,
    ) -> None:
        self.timeout = timeout
        self._cluster = isinstance(redis, RedisCluster)
        self.wire: Wire = ClusterWire(redis) if isinstance(redis, RedisCluster) else DirectWire(redis)
        self._side: Any = redis if isinstance(redis, RedisCluster) else _side_client(redis, max(timeout, 1.0))
        self._shared = share is not None
        self.store: Store = share.store if share is not None else Store(self._side, Table())
        self.core = Core(self.store.table, clock=clock, unloaded=unloaded)
        self.store.on_poll.append(self._report)
        self.store.on_time.append(self.core.learn_clock)
        self._watch: bool = watch and (share is None or share._watch)
        self._started = False
        forks.remember(self)

    def after_fork(self) -> None:
        """See forks. The first call in a child waits for policies as the first of any process does."""
        self._started = False

    def check(self, key: str, tenant: str | None = None, agent: str | None = None, cost: int = 1) -> Decision:
        """Decide, and count ``cost`` units if admitted. Never raises for Redis; ValueError for a bad cost."""
        return self._decide(key, tenant, agent, cost, peek=False)

    def peek(self, key: str, tenant: str | None = None, agent: str | None = None, cost: int = 1) -> Decision:
        """What ``check`` would answer, without counting; ``used`` does not include ``cost``."""
        return self._decide(key, tenant, agent, cost, peek=True)

    def reset(self, key: str, tenant: str | None = None, agent: str | None = None) -> bool:
        """Forget what the subject used; whether there was anything. Raises RedisError."""
        self._ready(time.monotonic() + self.timeout)
        asked = self.core.prepare(key, tenant, agent, self.core.now())
        if asked is None:
            return False
        found, *_ = [
            self._side.execute_command(*command)
            for command in keys.forget(asked.number, key, asked.effective.subject, asked.window_seconds)
        ]
        return bool(found)

    def wait_ready(self, seconds: float = 5.0) -> bool:
        """Wait until subscribed and loaded; whether that happened in time."""
        self._start()
        return self.store.connected.wait(seconds)

    def close(self) -> None:
        """Stop the policies' thread and release connections."""
        if self._report in self.store.on_poll:
            self.store.on_poll.remove(self._report)
        if self.core.learn_clock in self.store.on_time:
            self.store.on_time.remove(self.core.learn_clock)
        if not self._shared:
            self.store.close()
        self.wire.close()
        if not self._cluster:
            self._side.close()

    def __enter__(self) -> Limiter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _start(self) -> None:
        if not self._started:
            self._started = True
            if self._watch:
                self.store.start()

    def _ready(self, deadline: float) -> None:
        """The first call of a process waits for the policies, but no longer than any call may."""
        self._start()
        left = deadline - time.monotonic()
        if self._watch:
            self.store.connected.wait(left)
        elif not self.store.table.complete:
            self.store.load_within(left)

    @property
    def ready(self) -> bool:
        """Whether policies are there and this process follows them."""
        return self._started and self.store.table.complete

    def decide(self, key: str, tenant: str | None, agent: str | None, cost: int, deadline: float) -> Decision:
        """``check``, by a deadline of ``time.monotonic`` instead of within the timeout."""
        return self._decide(key, tenant, agent, cost, peek=False, deadline=deadline)

    def _decide(
        self, key: str, tenant: str | None, agent: str | None, cost: int, *, peek: bool, deadline: float = 0.0
    ) -> Decision:
        if type(cost) is not int or cost < 1 or cost > 255:
            check_cost(cost)
        core, wire = self.core, self.wire
        deadline = deadline or time.monotonic() + self.timeout
        if not self._started or not self.store.table.complete:
            if core.is_paused(LOADING):
                return core.without_redis(key, None, cost, None)
            self._ready(deadline)
            if not self.store.table.complete:
                core.pause(LOADING)
                return core.without_redis(key, None, cost, TimeoutError("policies not loaded in time"))
        asked: Prepared | None = None
        for _ in range(3):
            now = core.now()
            asked = core.prepare(key, tenant, agent, now)
            if asked is None:
                return core.unlimited(key, cost)
            minute = int(now) // 60
            if asked.minute != minute or asked.head is None:
                asked.head = wire.prepare(DECIDE, asked.names(minute), asked.args, 3)
                asked.minute = minute
            head = asked.head
            place = wire.place(head) if self._cluster else ""
            if core.paused and core.is_paused(place):
                return core.without_redis(key, asked, cost, None)
            at = _EMPTY if core.clock is None else pack(f"{now * 1000:.0f}")
            tail = (_SMALL[cost] if cost < 256 else pack(str(cost)), at, _ONE if peek else _EMPTY)
            try:
                reply = parse_reply(wire.run(DECIDE, head, tail, deadline))
            except FAILURES as error:
                if harmful(error):
                    core.pause(place)
                return core.without_redis(key, asked, cost, error)
            if core.paused:
                core.paused.pop(place, None)
            if core.clock is None:  # core.learn_clock, without the call
                core.offset = reply[4] / 1000 - time.time()
            if reply[0] != 2:
                return core.decision(asked, cost, reply, peek=peek)
        return core.without_redis(key, asked, cost, TimeoutError("the clocks do not agree"))

    def _report(self, redis: Any) -> None:
        """Tell the console what was decided without Redis, now that it is back."""
        counts = self.core.take_unreported()
        if not counts:
            return
        try:
            for (minute, key, verdict), n in counts.items():
                redis.hincrby(keys.fallback(minute), f"{key}|{verdict}", n)
                redis.expire(keys.fallback(minute), keys.MINUTE_TTL)
        except RedisError:
            self.core.give_back(counts)
            raise


def _side_client(redis: Redis, timeout: float) -> Redis:
    """A client of our own for policies and reports: same server, bounded, without redis-py's silent retries."""
    kwargs = {**bounded_kwargs(redis, timeout), "retry": Retry(NoBackoff(), 0)}
    pool = ConnectionPool(connection_class=redis.connection_pool.connection_class, **kwargs)
    return Redis(connection_pool=pool)
