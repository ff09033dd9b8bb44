"""Decisions by minute: a minute that is over does not change, and is read from Redis once for all who look."""

from __future__ import annotations

import threading
from collections import Counter
from weakref import WeakKeyDictionary

from limiter import usage
from operations.platform import Platform

MOST = 60
"""Minutes that can be asked for, and are remembered."""
STILL_COUNTED = 2
"""The present minute, and the one before: what was decided at its end may be on its way to Redis."""

Minute = dict[str, Counter[str]]
_known: WeakKeyDictionary[Platform, dict[int, Minute]] = WeakKeyDictionary()
_lock = threading.Lock()


def last(platform: Platform, count: int) -> dict[int, Minute]:
    """The last minutes by Redis's clock, the oldest first and the present one unfinished, at most sixty.

    By minute since the epoch: decisions by key and "allowed", "soft", "warned" and "blocked". Raises RedisError.
    """
    present = int(platform.redis.time()[0]) // 60
    span = range(present - max(1, min(count, MOST)) + 1, present + 1)
    with _lock:
        known = dict(_known.get(platform, {}))
    read = usage.outcomes(platform.redis, [minute for minute in span if minute not in known])
    final = {minute: found for minute, found in read.items() if minute <= present - STILL_COUNTED}
    with _lock:
        kept = {**_known.get(platform, {}), **final}
        _known[platform] = {minute: found for minute, found in kept.items() if present - MOST < minute <= present}
    return {minute: known[minute] if minute in known else read[minute] for minute in span}
