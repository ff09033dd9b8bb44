"""Leased mode for hot paths: take a block of permits in one round trip, decide locally while it lasts.

Bounds. With HARD a permit is counted before it is used and ends with the window it came from, so a limit is never
exceeded: overshoot 0. What leases cost instead is reach: each process may hold up to ``block`` permits (at most
1/20 of the limit) for up to ``ttl`` seconds that others cannot use; unused ones are given back. With SOFT and WARN
everything is admitted and counted exactly; that a subject is over may be noticed up to processes * block units late.
A changed policy ends a lease at once.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from redis.exceptions import RedisError

from limiter.core import Prepared, check_cost, parse_reply
from limiter.model import Decision, Mode
from limiter.scripts import LEASE
from limiter.sync import Limiter
from limiter.wire import pack

_new = tuple.__new__


class _Lease:
    __slots__ = (
        "asked",
        "base",
        "counts",
        "ends",
        "generation",
        "index",
        "left",
        "over",
        "refused",
        "spent",
        "unmet",
        "until",
    )

    def __init__(self, asked: Prepared) -> None:
        self.asked = asked
        self.generation = asked.generation
        self.left = self.spent = self.unmet = self.base = self.index = self.over = 0
        self.counts = [0, 0, 0, 0]
        self.until = self.ends = 0.0
        self.refused: Decision | None = None


class LeasedLimiter:
    """A Limiter that decides locally. ``block`` permits at a time, kept at most ``ttl`` seconds. Thread-safe."""

    def __init__(self, limiter: Limiter, *, block: int = 500, ttl: float = 1.0) -> None:
        self._limiter, self._block, self._ttl = limiter, block, ttl
        self._table = limiter.store.table
        self._leases: dict[tuple[str, str | None, str | None], _Lease] = {}
        self._lock = threading.Lock()
        limiter.store.on_poll.append(self._sweep)

    def check(self, key: str, tenant: str | None = None, agent: str | None = None, cost: int = 1) -> Decision:
        """As Limiter.check."""
        with self._lock:
            lease = self._leases.get((key, tenant, agent))
            now = time.monotonic()
            if lease is not None and lease.generation == self._table.generation and now < lease.until:
                if 0 < cost <= lease.left and type(cost) is int:
                    return self._spend(lease, cost, now)
                if lease.refused is not None and lease.asked.mode is Mode.HARD and cost >= lease.refused.cost:
                    lease.counts[3] += 1
                    lease.unmet += cost
                    return lease.refused._replace(retry_after=max(lease.until - now, 0.001), cost=cost)
        return self._renew(key, tenant, agent, cost)

    def close(self) -> None:
        """Give every unused permit back. Raises RedisError when Redis is away; permits then end with their window."""
        if self._sweep in self._limiter.store.on_poll:
            self._limiter.store.on_poll.remove(self._sweep)
        with self._lock:
            leases, self._leases = list(self._leases.values()), {}
        for lease in leases:
            self._settle(lease)

    def _spend(self, lease: _Lease, cost: int, now: float) -> Decision:
        lease.left -= cost
        lease.spent += cost
        asked, use = lease.asked, lease.base + lease.spent
        limit = asked.limit
        if limit is None or use <= limit:
            over = 0
            lease.counts[0] += 1
        else:
            over = use - limit if use - limit < cost else cost
            lease.over += over
            lease.counts[1 if asked.mode is Mode.SOFT else 2] += 1
        return _new(
            Decision,
            (
                True, limit, use, None if limit is None else limit - use if limit > use else 0, lease.ends - now, 0.0,
                asked.mode, asked.source, over > 0, over, asked.key, cost, asked.window_seconds,
                limit is not None and use * 100 >= limit * asked.effective.warn_percent, False,
            ),
        )  # fmt: skip

    def _renew(self, key: str, tenant: str | None, agent: str | None, cost: int) -> Decision:
        """One round trip: settle the old lease and take the next block."""
        check_cost(cost)
        limiter, core, who = self._limiter, self._limiter.core, (key, tenant, agent)
        if not self._table.complete:
            return limiter.check(key, tenant, agent, cost)
        asked = core.prepare(key, tenant, agent, core.now())
        with self._lock:
            old = self._leases.pop(who, None)
        if old is not None and (asked is None or old.asked is not asked):
            self._settle_quietly(old)
            old = None
        if asked is None:
            return core.unlimited(key, cost)
        if core.paused_until and time.monotonic() < core.paused_until:
            self._keep(who, old)
            return core.without_redis(key, asked, cost, None)
        block = self._block
        if asked.mode is Mode.HARD and asked.limit is not None:
            block = min(block, asked.limit // 20)
        try:
            reply = self._ask(asked, old, cost, max(block, cost))
        except (RedisError, OSError, ValueError) as error:
            core.paused_until = time.monotonic() + 0.25
            self._keep(who, old)
            return core.without_redis(key, asked, cost, error)
        core.paused_until = 0.0
        status, _, _, index, now_ms, _, granted = reply
        if status == 2:
            core.learn_clock(now_ms)
            return limiter.check(key, tenant, agent, cost)
        decision = core.decision(asked, cost, reply)
        lease, now = _Lease(asked), time.monotonic()
        lease.index, lease.left, lease.base = index, granted, decision.used - granted
        lease.ends = now + decision.reset_after
        lease.until = min(now + self._ttl, lease.ends, now + max(asked.valid_until - core.now(), 0.0))
        with self._lock:
            if status == 0:
                lease.refused = decision._replace(over_limit=True)
                lease.until = min(lease.until, now + (decision.retry_after or self._ttl))
                lease.counts[3] += 1
                answer = lease.refused
            else:
                answer = self._spend(lease, cost, now)
            beaten = self._leases.get(who)
            self._leases[who] = lease
        if beaten is not None:  # another thread renewed meanwhile
            self._settle_quietly(beaten)
        return answer

    def _keep(self, who: tuple[str, str | None, str | None], lease: _Lease | None) -> None:
        if lease is not None:
            with self._lock:
                self._leases.setdefault(who, lease)

    def _ask(self, asked: Prepared, old: _Lease | None, need: int, wanted: int) -> list[int]:
        core, wire = self._limiter.core, self._limiter.wire
        minute = int(core.now()) // 60
        head = wire.prepare(LEASE, asked.names(minute), asked.args, 12)
        at = "" if core.clock is None else f"{core.now() * 1000:.0f}"
        done: tuple[int, ...] = (0,) * 9
        if old is not None:
            done = (old.left, old.index, *old.counts, old.over, old.spent, old.unmet)
        tail = tuple(pack(str(part)) for part in (need, at, wanted, *done))
        return parse_reply(wire.run(LEASE, head, tail, self._limiter.timeout))

    def _settle(self, lease: _Lease) -> None:
        if lease.left or any(lease.counts):
            self._ask(lease.asked, lease, 0, 0)

    def _settle_quietly(self, lease: _Lease) -> None:
        try:
            self._settle(lease)
        except (RedisError, OSError, ValueError):
            self._limiter.core.failures += 1  # the permits end with their window

    def _sweep(self, _: Any) -> None:
        """Each second: give back what idle leases hold."""
        now = time.monotonic()
        with self._lock:
            ended = [who for who, lease in self._leases.items() if now >= lease.until]
            leases = [self._leases.pop(who) for who in ended]
        for lease in leases:
            self._settle_quietly(lease)
