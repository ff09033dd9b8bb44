"""Leased mode for hot paths: take a block of permits in one round trip, decide locally while it lasts.

Bounds. With HARD a permit is counted before it is used and ends with the window it came from, so a limit is never
exceeded: overshoot 0. What leases cost instead is reach: each process may hold up to ``block`` permits (at most
1/20 of the limit) that others cannot use, for up to ``ttl`` seconds and the second until idle leases are looked for;
unused ones are given then. With SOFT and WARN everything is admitted and counted exactly; that a subject is over may
be noticed up to processes * block units late. A changed policy ends a lease at once.

Every settlement has a number the script remembers for ``REMEMBERED`` seconds. One whose answer was lost is sent again
with it and takes effect once; as long as it is owed, its lease decides nothing. Where Redis stays away longer, unused
permits end with their window, and what was spent of them stays unrecorded.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import defaultdict, deque
from typing import Any

from redis.exceptions import RedisError

from limiter import forks, keys
from limiter.core import Prepared, check_cost, parse_reply
from limiter.model import Decision, Mode
from limiter.scripts import LEASE
from limiter.store import FAILURES
from limiter.sync import Limiter
from limiter.wire import harmful, pack

REMEMBERED = 900
"""Seconds the script remembers a settlement."""
OWED_SECONDS = 600
"""Seconds a settlement is tried again: well before the script forgets it."""
MOST_OWED = 10_000
_new = tuple.__new__


class _Lease:
    """Permits taken together. Those that follow on each other are a chain, and each is settled once."""

    __slots__ = (
        "asked",
        "base",
        "chain",
        "counts",
        "ends",
        "generation",
        "index",
        "left",
        "number",
        "over",
        "owed_until",
        "refused",
        "spent",
        "unmet",
        "until",
    )

    def __init__(self, asked: Prepared, chain: str, number: int) -> None:
        self.asked = asked
        self.chain, self.number = chain, number
        self.owed_until = 0.0
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
        self.after_fork()
        forks.remember(self)
        limiter.store.on_poll.append(self._sweep)

    def after_fork(self) -> None:
        """See forks. Permits are the parent's."""
        self._leases: dict[tuple[str, str | None, str | None], _Lease] = {}
        self._owed: deque[_Lease] = deque(maxlen=MOST_OWED)
        """To be settled again: nobody knows whether they were."""
        self._spare: dict[int, list[tuple[str, int]]] = defaultdict(list)
        """By shard, chains whose last lease was settled, each with its next number: fewer for Redis to remember."""
        self._lock = threading.Lock()

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
        """Give every unused permit back. Raises RedisError when Redis is away: called again, it tries again; permits
        else end with their window."""
        if self._sweep in self._limiter.store.on_poll:
            self._limiter.store.on_poll.remove(self._sweep)
        with self._lock:
            leases = [*self._leases.values(), *self._owed]
            self._leases.clear()
            self._owed.clear()
        failed: Exception | None = None
        for lease in leases:
            try:
                if failed is None or not harmful(failed):
                    self._settle(lease, time.monotonic() + self._limiter.timeout)
                    continue
            except FAILURES as error:
                failed = error
            self._owe(lease)
        if failed is not None:
            raise failed if isinstance(failed, RedisError) else RedisError(str(failed)) from failed

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
        started = time.monotonic()
        deadline = started + limiter.timeout
        if not limiter.ready:
            return limiter.decide(key, tenant, agent, cost, deadline)
        asked = core.prepare(key, tenant, agent, core.now())
        with self._lock:
            old = self._leases.pop(who, None)
        if old is not None and (asked is None or old.asked is not asked):
            self._settle_quietly(old, deadline)
            old = None
        if asked is None:
            return core.unlimited(key, cost)
        block = self._block
        if asked.mode is Mode.HARD and asked.limit is not None:
            block = min(block, asked.limit // 20)
        ending = old or self._begin(asked)
        head = self._head(ending)
        place = limiter.wire.place(head)
        if core.paused and core.is_paused(place):
            self._owe(old)
            return core.without_redis(key, asked, cost, None)
        try:
            reply = self._ask(head, ending, cost, max(block, cost), deadline)
        except FAILURES as error:
            if harmful(error):
                core.pause(place)
            self._owe(ending)
            return core.without_redis(key, asked, cost, error)
        if core.paused:
            core.paused.pop(place, None)
        status, _, _, index, _, _, granted = reply
        if status == 2:
            return limiter.decide(key, tenant, agent, cost, deadline)
        decision = core.decision(asked, cost, reply)
        lease, now = _Lease(asked, ending.chain, ending.number + 1), time.monotonic()
        lease.index, lease.left, lease.base = index, granted, decision.used - granted
        # From before the question, so that no permit outlives its window by the time the answer took.
        lease.ends = started + decision.reset_after
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
            self._settle_quietly(beaten, deadline)
        return answer

    def _begin(self, asked: Prepared) -> _Lease:
        with self._lock:
            spare = self._spare[asked.number]
            return _Lease(asked, *(spare.pop() if spare else (secrets.token_hex(8), 0)))

    def _owe(self, lease: _Lease | None) -> None:
        """Have a lease settled by and by."""
        if lease is None:
            return
        now = time.monotonic()
        lease.until = 0.0
        lease.owed_until = lease.owed_until or now + OWED_SECONDS
        if now < lease.owed_until:
            with self._lock:
                self._owed.append(lease)

    def _head(self, lease: _Lease) -> Any:
        asked = lease.asked
        names = (*asked.names(int(self._limiter.core.now()) // 60), keys.settled(asked.number, lease.chain))
        return self._limiter.wire.prepare(LEASE, names, asked.args, 14)

    def _ask(self, head: Any, old: _Lease, need: int, wanted: int, deadline: float) -> list[int]:
        core = self._limiter.core
        at = "" if core.clock is None else f"{core.now() * 1000:.0f}"
        done = (old.left, old.index, *old.counts, old.over, old.spent, old.unmet, old.number, REMEMBERED)
        tail = tuple(pack(str(part)) for part in (need, at, wanted, *done))
        reply = parse_reply(self._limiter.wire.run(LEASE, head, tail, deadline))
        if len(reply) != 7:
            raise ValueError(f"Redis answered {len(reply)} numbers instead of 7")
        core.learn_clock(reply[4])
        return reply

    def _settle(self, lease: _Lease, deadline: float) -> None:
        if lease.left or any(lease.counts) or lease.owed_until:
            self._ask(self._head(lease), lease, 0, 0, deadline)
            lease.number += 1
        self._spare[lease.asked.number].append((lease.chain, lease.number))

    def _settle_quietly(self, lease: _Lease, deadline: float) -> bool:
        """Whether Redis was there."""
        try:
            self._settle(lease, deadline)
        except FAILURES as error:
            self._owe(lease)
            return not harmful(error)
        return True

    def _sweep(self, _: Any) -> None:
        """Each second: give back what idle leases hold, and settle what is owed."""
        now = time.monotonic()
        with self._lock:
            ended = [who for who, lease in self._leases.items() if now >= lease.until]
            leases = [self._leases.pop(who) for who in ended] + list(self._owed)
            self._owed.clear()
        there = True
        for lease in leases:
            if there:
                there = self._settle_quietly(lease, time.monotonic() + self._limiter.timeout)
            else:
                self._owe(lease)
