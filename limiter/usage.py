"""Reading back what decisions wrote: a fixed number of keys, whatever the number of subjects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from limiter import keys, window
from limiter.table import text

RANKED = 50
"""Members a set of the best keeps, see decide.lua."""
OUTCOMES = {"a": "allowed", "s": "soft", "w": "warned", "b": "blocked"}


@dataclass(frozen=True, slots=True)
class Blocked:
    """One blocked decision. ``at`` is Unix seconds."""

    at: float
    key: str
    subject: str
    source: str
    limit: int
    used: int
    cost: int


@dataclass(frozen=True, slots=True)
class Use:
    """What a subject uses now of one key and window."""

    key: str
    subject: str
    window_seconds: int
    used: int


def outcomes(redis: Any, minutes: Sequence[int]) -> dict[int, dict[str, Counter[str]]]:
    """Decisions by minute since the epoch, key, and "allowed", "soft", "warned", "blocked". Raises RedisError."""
    found: dict[int, dict[str, Counter[str]]] = {minute: {} for minute in minutes}
    with redis.pipeline(transaction=False) as pipe:
        for minute in minutes:
            for number in range(keys.SHARDS):
                pipe.hgetall(keys.minutes(number, minute))
        replies = iter(pipe.execute())
    for minute in minutes:
        for _ in range(keys.SHARDS):
            for name, value in next(replies).items():
                key, _bar, letter = text(name).rpartition("|")
                found[minute].setdefault(key, Counter())[OUTCOMES.get(letter, letter)] += int(value)
    return found


def without_redis(redis: Any, minutes: Sequence[int]) -> Counter[tuple[str, str]]:
    """Decisions taken without Redis in these minutes, by key and "allow" or "deny". Raises RedisError."""
    found: Counter[tuple[str, str]] = Counter()
    with redis.pipeline(transaction=False) as pipe:
        for minute in minutes:
            pipe.hgetall(keys.fallback(minute))
        for reply in pipe.execute():
            for name, value in reply.items():
                key, _, verdict = text(name).rpartition("|")
                found[key, verdict] += int(value)
    return found


def blocked(redis: Any, per_shard: int = 100) -> list[Blocked]:
    """Blocked decisions, newest first, at most 100 of each shard. Raises RedisError."""
    with redis.pipeline(transaction=False) as pipe:
        for number in range(keys.SHARDS):
            pipe.lrange(keys.blocked(number), 0, per_shard - 1)
        lines = [text(line) for reply in pipe.execute() for line in reply]
    found = []
    for line in lines:
        at, limit, used, cost, key, source, who = line.split("|", 6)
        found.append(Blocked(int(at) / 1000, key, who, source, int(limit), int(used), int(cost)))
    return sorted(found, key=lambda item: -item.at)


def leaders(redis: Any, names: Sequence[str], most: int = 20, together: int = 150) -> list[Use]:
    """The subjects with most use, and with the largest share of their limit, as they stand now.

    Of each key the ``together`` best of both kinds are looked at, however many subjects there are. Those whose window
    is long over are passed over; a window that has just ended weighs as much as it still counts. Raises RedisError.
    """
    sets = [name(number, key) for key in names for name in (keys.top, keys.near) for number in range(keys.SHARDS)]
    now, first = _best(redis, sets, 0, most)
    ranked = [_present(pairs, now) for pairs in first]
    # Where some were passed over, those behind them may be better than others.
    short = [n for n, pairs in enumerate(first) if len(pairs) == most and len(ranked[n]) < most]
    if short:
        for n, pairs in zip(short, _best(redis, [sets[n] for n in short], most, RANKED)[1], strict=True):
            ranked[n] += _present(pairs, now)
    wanted: list[tuple[str, str, int]] = []
    for at, key in enumerate(names):
        seen: dict[tuple[str, int], None] = {}
        for kind in (2 * at, 2 * at + 1):
            found = [pair for one in ranked[kind * keys.SHARDS : (kind + 1) * keys.SHARDS] for pair in one]
            for member, _rank in sorted(found, key=lambda pair: -pair[1])[:together]:
                width, _bar, who = member.partition("|")
                seen[who, int(width) // 1000] = None
        wanted += [(key, who, width) for who, width in seen]
    return current(redis, wanted)


def _best(redis: Any, sets: Sequence[str], first: int, end: int) -> tuple[int, list[list[tuple[Any, Any]]]]:
    """The server's time in ms, and the members of sorted sets from place ``first`` to before ``end``, best first."""
    with redis.pipeline(transaction=False) as pipe:
        pipe.time()
        for name in sets:
            pipe.zrevrange(name, first, end - 1, withscores=True)
        (seconds, micros), *found = pipe.execute()
    return int(seconds) * 1000 + int(micros) // 1000, found


def _present(pairs: list[tuple[Any, Any]], now: int) -> list[tuple[str, float]]:
    """Members whose window is the present one or the one before, with what they are ranked by now: see keys.RANKS."""
    found = []
    for raw, score in pairs:
        member = text(raw)
        width = int(member.partition("|")[0])
        value, index = divmod(int(score), keys.RANKS)
        age = (now // width - index) % keys.RANKS
        if age in (0, keys.RANKS - 1):  # a server's clock may have gone back a little
            found.append((member, float(value)))
        elif age == 1:
            found.append((member, value * (width - now % width) / width))
    return found


def current(redis: Any, wanted: Sequence[tuple[str, str, int]]) -> list[Use]:
    """What each (key, subject, window in seconds) uses now, by the server's clock; idle ones left out."""
    if not wanted:
        return []
    with redis.pipeline(transaction=False) as pipe:
        pipe.time()
        for key, who, width in wanted:
            pipe.hmget(keys.counter(keys.shard(key, who), key, who, width), "i", "c", "p")
        replies = pipe.execute()
    seconds, micros = replies[0]
    now = int(seconds) * 1000 + int(micros) // 1000
    found = []
    for (key, who, width), (index, count, before) in zip(wanted, replies[1:], strict=True):
        if index is None:
            continue
        at, units, previous = window.roll(int(index), int(count), int(before), now, width * 1000)
        used = window.used(units, previous, window.elapsed(at, now, width * 1000), width * 1000)
        if used > 0:
            found.append(Use(key, who, width, used))
    return found


def active(redis: Any, hour: int) -> Counter[str]:
    """How many subjects used each key in an hour since the epoch. Raises RedisError."""
    found: Counter[str] = Counter()
    with redis.pipeline(transaction=False) as pipe:
        for number in range(keys.SHARDS):
            pipe.hgetall(keys.actives(number, hour))
        for reply in pipe.execute():
            for key, value in reply.items():
                found[text(key)] += int(value)
    return found


def recorded(redis: Any, hour: int) -> Iterator[tuple[str, str, dict[str, int]]]:
    """Usage of an hour by key and subject: units "a" admitted, "o" over, "b" blocked. Scans; not for request paths."""
    with redis.pipeline(transaction=False) as pipe:
        for number in range(keys.SHARDS):
            pipe.exists(keys.hours(number, hour))
        there = pipe.execute()
    for number in range(keys.SHARDS):
        if not there[number]:
            continue
        found: dict[tuple[str, str], dict[str, int]] = {}
        for name, value in redis.hscan_iter(keys.hours(number, hour), count=1000):
            letter, _, rest = text(name).partition("|")
            key, bar, who = rest.partition("|")
            if bar:
                found.setdefault((key, who), {})[letter] = int(value)
        for (key, who), units in found.items():
            yield key, who, units
