"""What the sync and the asyncio limiter share: from policies to a request, from a reply to a decision."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from limiter import forks, keys, window
from limiter.model import MAX_COST, Decision, KeyPolicies, Mode, OnFailure
from limiter.resolve import FOREVER, Effective, resolve
from limiter.table import Table

CACHED_SUBJECTS = 10_000
PAUSE_SECONDS = 0.25
"""After a failure a server is left alone this long, so that callers do not queue up behind its timeout."""
LOADING = "policies"
"""Where waiting for the first policies failed, beside servers' names."""
_NOTHING = KeyPolicies()


class Prepared:
    """A subject's limit with everything a request needs that does not change from call to call."""

    __slots__ = (
        "args",
        "effective",
        "generation",
        "head",
        "key",
        "lease_head",
        "limit",
        "minute",
        "mode",
        "number",
        "source",
        "valid_from",
        "valid_until",
        "window_ms",
        "window_seconds",
    )

    def __init__(self, key: str, effective: Effective, generation: int) -> None:
        self.key, self.effective, self.generation = key, effective, generation
        self.limit, self.mode, self.source = effective.limit, effective.mode, effective.source
        self.window_seconds = effective.window_seconds
        self.window_ms = effective.window_seconds * 1000
        self.valid_from, self.valid_until = effective.valid_from, effective.valid_until
        self.number = keys.shard(key, effective.subject)
        self.minute = -1
        self.head: Any = None
        self.lease_head: Any = None
        until = "-1" if effective.valid_until == FOREVER else str(math.ceil(effective.valid_until * 1000))
        self.args: tuple[str, ...] = (
            "-1" if effective.limit is None else str(effective.limit),
            str(self.window_ms),
            effective.mode[0],
            str(effective.warn_percent),
            str(math.ceil(effective.valid_from * 1000)),
            until,
            key,
            effective.subject,
            effective.source,
            str(keys.HOUR_TTL),
            str(keys.MINUTE_TTL),
        )

    def names(self, minute: int) -> tuple[str, ...]:
        """The eight keys of a decision in the given minute since the epoch."""
        n, who = self.number, self.effective.subject
        return (
            keys.counter(n, self.key, who, self.window_seconds),
            keys.minutes(n, minute),
            keys.hours(n, minute // 60),
            keys.top(n, self.key),
            keys.near(n, self.key),
            keys.blocked(n),
            keys.signals(n),
            keys.actives(n, minute // 60),
        )


class Core:
    """Policies, the clock, and what happened without Redis. Thread-safe."""

    def __init__(self, table: Table, *, clock: Callable[[], float] | None, unloaded: OnFailure) -> None:
        self.table = table
        self.clock = clock
        self.unloaded = unloaded
        self.offset = 0.0
        """Seconds the Redis server's clock is ahead of this process's."""
        self.paused: dict[str, float] = {}
        """Servers left alone, and until when by ``time.monotonic``."""
        self.failures = 0
        self.last_error = ""
        self._cache: dict[tuple[str, str | None, str | None], Prepared] = {}
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """See forks. What the parent has to report is the parent's."""
        self._lock = threading.Lock()
        self._unreported: Counter[tuple[int, str, str]] = Counter()

    def is_paused(self, place: str) -> bool:
        """Whether a server is left alone at present."""
        until = self.paused.get(place)
        return until is not None and time.monotonic() < until

    def pause(self, place: str) -> None:
        """Leave a server alone for a while."""
        now = time.monotonic()
        for name in [name for name, until in list(self.paused.items()) if until <= now]:
            self.paused.pop(name, None)
        self.paused[place] = now + PAUSE_SECONDS

    def now(self) -> float:
        """The Redis server's time as far as known, Unix seconds."""
        return self.clock() if self.clock is not None else time.time() + self.offset

    def learn_clock(self, server_ms: int) -> None:
        """Take the server's time from a reply that has just arrived."""
        if self.clock is None:
            self.offset = server_ms / 1000 - time.time()

    def effective(self, key: str, tenant: str | None, agent: str | None, now: float | None = None) -> Effective:
        """The limit in force for a subject; see resolve.resolve."""
        table = self.table
        tier = table.tiers.get(tenant) if tenant is not None else None
        return resolve(table.keys.get(key, _NOTHING), tenant, agent, tier, self.now() if now is None else now)

    def prepare(self, key: str, tenant: str | None, agent: str | None, now: float) -> Prepared | None:
        """What to ask for, kept until a policy changes or expires; None for a key without any policy, or where it
        could not be read."""
        who = (key, tenant, agent)
        found = self._cache.get(who)
        generation = self.table.generation
        if found is not None and found.generation == generation and found.valid_from <= now < found.valid_until:
            return found
        if key not in self.table.keys and self.table.tiers.get(tenant or "") != keys.REMOVED:
            return None
        found = Prepared(key, self.effective(key, tenant, agent, now), generation)
        if found.source == "none" and key in self.table.missing:
            return None
        if len(self._cache) >= CACHED_SUBJECTS:
            self._cache.clear()
        self._cache[who] = found
        return found

    def decision(self, asked: Prepared, cost: int, reply: list[int], *, peek: bool = False) -> Decision:
        """The decision a reply of decide.lua means."""
        status, current, previous, index, now_ms, over = reply[:6]
        width, limit = asked.window_ms, asked.limit
        gone = now_ms - index * width
        gone = 0 if gone < 0 else min(gone, width)
        use = current + (math.floor(float(previous) * (width - gone) / width) if previous else 0)
        retry: float | None = 0.0
        allowed = status == 1
        if peek and limit is not None and use + cost > limit:
            over = min(cost, use + cost - limit)
            allowed = asked.mode is not Mode.HARD and limit > 0
        if not allowed:
            if limit:
                wait = window.wait_ms(current, previous, gone, width, limit, cost)
                retry = None if wait is None else wait / 1000
            else:
                retry = None
        return Decision(
            allowed,
            limit,
            use,
            None if limit is None else (limit - use if limit > use else 0),
            (width - gone) / 1000,
            retry,
            asked.mode,
            asked.source,
            over > 0,
            over,
            asked.key,
            cost,
            asked.window_seconds,
            limit is not None and use * 100 >= limit * asked.effective.warn_percent,
            False,
        )

    def unlimited(self, key: str, cost: int) -> Decision:
        """For a key without any policy: nothing to count, nothing to ask. One that has some, which could not be read,
        and any key while Redis has never named one, is decided as if nothing had been loaded yet."""
        if key in self.table.missing:
            return self.without_redis(key, None, cost, LookupError(f"the policy of {key} could not be read"))
        if not self.table.loaded:
            return self.without_redis(key, None, cost, LookupError("Redis has no policies: it lost them, or got none"))
        return Decision(True, None, 0, None, 0.0, 0.0, Mode.HARD, "none", False, 0, key, cost)

    def without_redis(self, key: str, asked: Prepared | None, cost: int, error: BaseException | None) -> Decision:
        """The decision while Redis does not answer, counted for the console; a limit of 0 blocks nevertheless."""
        verdict = self.unloaded if asked is None else asked.effective.on_failure
        limit = None if asked is None else asked.limit
        allowed = verdict is OnFailure.ALLOW and limit != 0
        with self._lock:
            self.failures += 1
            if error is not None:
                self.last_error = repr(error)[:200]
            if len(self._unreported) < 5000:
                self._unreported[int(self.now()) // 60, key, "allow" if allowed else "deny"] += 1
        return Decision(
            allowed,
            limit,
            0,
            limit,
            0.0,
            0.0 if allowed else None if limit == 0 else 1.0,
            Mode.HARD if asked is None else asked.mode,
            "none" if asked is None else asked.source,
            False,
            0,
            key,
            cost,
            60 if asked is None else asked.window_seconds,
            False,
            True,
        )

    def take_unreported(self) -> Counter[tuple[int, str, str]]:
        """Decisions taken without Redis since last asked, by minute, key and verdict."""
        if not self._unreported:
            return Counter()
        with self._lock:
            taken, self._unreported = self._unreported, Counter()
        return taken

    def give_back(self, counts: Counter[tuple[int, str, str]]) -> None:
        """Counts that could not be reported: report them next time."""
        with self._lock:
            self._unreported.update(counts)


def check_cost(cost: int) -> None:
    """Raise ValueError for a cost that is no positive whole number up to MAX_COST."""
    if not isinstance(cost, int) or not 0 < cost <= MAX_COST:
        raise ValueError(f"cost must be a whole number from 1 to {MAX_COST}, not {cost!r}")


def parse_reply(reply: bytes) -> list[int]:
    """The numbers of a script's reply. Raises ValueError for anything else."""
    found = [int(part) for part in reply.split(b":")]
    if len(found) < 6:
        raise ValueError(f"Redis answered {reply[:100]!r}")
    return found
