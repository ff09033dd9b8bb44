"""Usage: brought home from Redis by the hour, shown live, and replayed under another limit."""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy import select, text

from adapters.core import Unreachable, utcnow
from limiter import Effective, keys, usage
from limiter.keys import split_subject, subject
from models import Tenant, Tier
from operations import access, ratelimit_explain, ratelimit_minutes, ratelimit_rules, stopping
from operations.access import Actor, Permission
from operations.change import NotFound, clean
from operations.platform import Platform
from operations.ratelimit_signals import signals as signals
from operations.ratelimit_store import storable
from operations.ratelimits import Edit, Target, policies

MOST = 100
BLOCKED_MOST = 100 * keys.SHARDS
BATCH = 1000
LATE_HOURS = 3
"""Hours read again and again: limiters whose clocks are behind may still count into them."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A tenant or agent beside its limit now."""

    key: str
    tenant: str
    agent: str | None
    used: int
    limit: int | None
    share: float | None
    """Percent of the limit; None where it is unlimited, infinite never."""
    source: str


@dataclass(frozen=True, slots=True)
class KeyNow:
    """One key now. Rates are decisions in the last full minute."""

    key: str
    limit: int | None
    window_seconds: int
    policy: str
    active_subjects: int
    """That used it in the present UTC hour."""
    allowed: int
    soft: int
    warned: int
    blocked: int
    without_redis: int
    """Decisions in the last 15 minutes while Redis did not answer."""
    top_share: float | None
    """The largest share of its limit any subject uses, percent."""


@dataclass(frozen=True, slots=True)
class Live:
    """What happens now, from Redis."""

    at: datetime
    keys: tuple[KeyNow, ...]
    top: tuple[Subject, ...]
    """By key, and of each key those who used most first, at most 100."""
    near: tuple[Subject, ...]
    """The nearest first, at most 100 of each key."""
    minutes: tuple[tuple[datetime, dict[str, dict[str, int]]], ...]
    """The last minutes, oldest first, the present one unfinished: key to outcome to number."""
    subscribers: int
    """Limiters listening for changes."""


@dataclass(frozen=True, slots=True)
class BlockedCall:
    """One blocked decision."""

    at: datetime
    key: str
    tenant: str
    agent: str | None
    limit: int
    used: int
    cost: int
    source: str


@dataclass(frozen=True, slots=True)
class Affected:
    """A subject a proposed limit would have touched."""

    tenant: str
    agent: str | None
    used: int
    over: int
    """Units beyond the proposed limit: blocked with HARD, billed with SOFT, reported with WARN."""
    hours: tuple[datetime, ...]
    """When, at most 48 of them, the worst first."""


@dataclass(frozen=True, slots=True)
class WhatIf:
    """A proposed limit replayed on recorded usage."""

    key: str
    limit: int | None
    window_seconds: int
    policy: str
    since: datetime
    granularity: str
    """"hour", or "day" where only daily sums were recorded."""
    subjects: int
    """How many the limit would apply to and were seen."""
    affected: tuple[Affected, ...]
    affected_total: int
    over_total: int
    by_hour: tuple[int, ...]
    """Units over the limit by hour of the day (UTC), 24 numbers."""


def live(platform: Platform, actor: Actor, *, near_percent: int = 80, minutes: int = 5) -> Live:
    """What happens now, by a fixed number of reads. Raises access.Forbidden, Unreachable."""
    access.require(actor, Permission.RATELIMIT_VIEW)
    known = policies(platform, actor)
    names = [policy.target.key for policy in known]
    redis = platform.redis
    try:
        outcomes = ratelimit_minutes.last(platform, max(2, minutes))
        present = max(outcomes)
        gone = usage.without_redis(redis, range(present - 14, present + 1))
        active = usage.active(redis, present // 60)
        uses = usage.leaders(redis, names)
        listeners = dict(redis.pubsub_numsub(keys.CHANNEL)).get(keys.CHANNEL, 0)
    except RedisError as error:
        raise Unreachable("Redis does not answer, so live usage cannot be shown.", detail=repr(error)) from error
    rows = _beside_limits(platform, uses)
    shares = {key: max((row.share for row in rows if row.key == key and row.share is not None), default=None)
              for key in names}  # fmt: skip
    last = outcomes[present - 1]
    items = []
    for policy in known:
        key = policy.target.key
        count = last.get(key, Counter())
        items.append(
            KeyNow(
                key, policy.limit, policy.window_seconds or 3600, policy.policy or "HARD", active[key],
                count["allowed"], count["soft"], count["warned"], count["blocked"],
                gone[key, "allow"] + gone[key, "deny"], shares[key],
            )
        )  # fmt: skip
    near = [row for row in rows if row.share is not None and row.share >= near_percent]
    return Live(
        utcnow(), tuple(items), tuple(_first(rows, names, lambda row: -row.used)),
        tuple(sorted(_first(near, names, _by_share), key=_by_share)),
        tuple(
            (datetime.fromtimestamp(minute * 60, UTC), {key: dict(count) for key, count in counts.items()})
            for minute, counts in outcomes.items()
        ),
        int(listeners),
    )  # fmt: skip


def _first(rows: list[Subject], names: list[str], rank: Callable[[Subject], float]) -> list[Subject]:
    """The first of each key: a token and an upload are no common measure, and no key crowds out another."""
    by_key: dict[str, list[Subject]] = defaultdict(list)
    for row in sorted(rows, key=rank):
        by_key[row.key].append(row)
    return [row for key in names for row in by_key[key][:MOST]]


def _by_share(row: Subject) -> float:
    return -(row.share or 0)


def _beside_limits(platform: Platform, uses: list[usage.Use]) -> list[Subject]:
    """Uses with the limits in force, leaving out counters of windows no longer used."""
    who = [(use.key, *split_subject(use.subject)) for use in uses]
    found = []
    limits = ratelimit_explain.effective_many(platform, who)
    for use, (key, tenant, agent), effective in zip(uses, who, limits, strict=True):
        if effective.window_seconds == use.window_seconds and effective.subject == use.subject:
            limit = effective.limit
            share = None if limit is None else 100.0 * use.used / limit if limit else 100.0
            found.append(Subject(key, tenant, agent, use.used, effective.limit, share, effective.source))
    return found


def key_usage(platform: Platform, actor: Actor, key: str, *, near_percent: int = 80) -> dict[str, Any]:
    """Live usage of one key. Raises access.Forbidden, change.NotFound, Unreachable."""
    found = live(platform, actor, near_percent=near_percent)
    mine = next((item for item in found.keys if item.key == key), None)
    if mine is None:
        raise NotFound(f"There is no limit {key}.")
    return {
        "at": found.at, "now": mine, "top": [row for row in found.top if row.key == key],
        "near": [row for row in found.near if row.key == key],
    }  # fmt: skip


def blocked(
    platform: Platform, actor: Actor, *, key: str = "", tenant: str = "", limit: int = 100
) -> list[BlockedCall]:
    """The log of blocked decisions, newest first, at most ``limit`` of those that match.

    Redis keeps the newest 100 of each of its 64 parts. Raises access.Forbidden, Unreachable.
    """
    access.require(actor, Permission.RATELIMIT_VIEW)
    try:
        lines = usage.blocked(platform.redis)
    except RedisError as error:
        raise Unreachable("Redis does not answer, so blocked calls cannot be shown.", detail=repr(error)) from error
    found = []
    for line in lines:
        owner, agent = split_subject(line.subject)
        if (not key or line.key == key) and (not tenant or tenant.lower() in owner.lower()):
            at = datetime.fromtimestamp(line.at, UTC)
            found.append(BlockedCall(at, line.key, owner, agent, line.limit, line.used, line.cost, line.source))
    return found[: max(1, min(limit, BLOCKED_MOST))]


def collect(platform: Platform) -> int:
    """Bring usage from Redis to PostgreSQL, to the unit however often and by however many; returns rows written.

    Looks at every hour that may not have come home completely: after a long outage at all that Redis still keeps.
    Told to stop, it ends between hours. Raises StoreUnavailable, Unreachable.
    """
    written = 0
    hour = int(time.time()) // 3600
    try:
        for at in range(_first_open(platform, hour), hour + 1):
            stopping.check()
            batch: list[dict[str, Any]] = []
            for key, who, units in usage.recorded(platform.redis, at):
                batch.append({"key": key, "subject": who, "hour": datetime.fromtimestamp(at * 3600, UTC),
                              **{name: max(units.get(name, 0), 0) for name in "aob"}})  # fmt: skip
                if len(batch) == BATCH:
                    written += _write(platform, batch)
                    batch = []
            written += _write(platform, batch)
    except RedisError as error:
        raise Unreachable("Redis does not answer, so usage waits there.", detail=repr(error)) from error
    return written


def _first_open(platform: Platform, hour: int) -> int:
    """The oldest hour that may hold usage not collected. Hours are read from the oldest on, so what is recorded of
    one says that those before it were read, after their counting had ended; a database restored says so of itself."""
    with platform.database.session(seconds=30) as session:
        newest: datetime | None = session.scalar(
            text(
                "SELECT max(newest.hour) FROM rate_limit_keys AS known, LATERAL (SELECT hour FROM rate_limit_usage"
                " WHERE key = known.key ORDER BY hour DESC LIMIT 1) AS newest"
            )
        )
    oldest = hour - keys.HOUR_TTL // 3600
    return oldest if newest is None else max(oldest, min(int(newest.timestamp()) // 3600, hour) - LATE_HOURS + 1)


def _write(platform: Platform, batch: list[dict[str, Any]]) -> int:
    if batch:
        # In one order everywhere, so that collectors wait for each other instead of deadlocking.
        rows = sorted(batch, key=lambda row: (row["key"], row["subject"]))
        with platform.database.session(seconds=30) as session:
            session.execute(
                text(
                    "INSERT INTO rate_limit_usage AS kept (key, subject, hour, amount, over, blocked)"
                    " VALUES (:key, :subject, :hour, :a, :o, :b) ON CONFLICT (key, subject, hour) DO UPDATE SET"
                    # Counters only grow: the greater was read later. Nothing recorded shrinks when another
                    # collector is slow, or when Redis was emptied in the middle of an hour and starts from nought.
                    " amount = greatest(kept.amount, EXCLUDED.amount), over = greatest(kept.over, EXCLUDED.over),"
                    " blocked = greatest(kept.blocked, EXCLUDED.blocked)"
                    " WHERE EXCLUDED.amount > kept.amount OR EXCLUDED.over > kept.over"
                    " OR EXCLUDED.blocked > kept.blocked"
                ),
                rows,
            )
    return len(batch)


def simulate(
    platform: Platform,
    actor: Actor,
    key: str,
    *,
    limit: int | None,
    window_seconds: int | None = None,
    policy: str | None = None,
    days: int = 7,
    tier: str | None = None,
    tenant: str | None = None,
) -> WhatIf:
    """A proposed limit replayed on the last days (1-31): who, how many units, at what hours.

    Without ``tier`` or ``tenant`` it is the GLOBAL limit that is proposed, and only subjects it would decide for
    are replayed. Usage is recorded by the hour, so a window shorter than an hour is judged by what it admits in an
    hour. Raises access.Forbidden, change.NotFound, change.Invalid.
    """
    access.require(actor, Permission.RATELIMIT_VIEW)
    known = {item.target.key: item for item in policies(platform, actor)}
    if key not in known:
        raise NotFound(f"There is no limit {key}.")
    wish: dict[str, Any] = {"limit": limit, "window_seconds": window_seconds, "policy": policy}
    ratelimit_rules.validate(
        Edit(Target(key), {name: value for name, value in wish.items() if value is not None or name == "limit"})
    )
    _exist(platform, tier, tenant)
    width = (known[key].window_seconds or 3600) if window_seconds is None else window_seconds
    since = utcnow().replace(minute=0, second=0, microsecond=0) - timedelta(days=max(1, min(days, 31)))
    granularity, rows = _history(platform, key, since)
    decided = _decided_by(platform, key, list(rows), tier, tenant)
    step = 3600 if granularity == "hour" else 86400
    # In the last hour a window of minutes admits its limit several times over; one of hours spans several rows.
    span, capacity = max(1, width // step), None if limit is None else limit * max(1, step // width)
    affected: list[Affected] = []
    by_hour = [0] * 24
    for who in decided:
        over: dict[datetime, int] = {}
        recent: deque[tuple[datetime, int]] = deque()
        admitted = 0
        for at, amount in rows[who]:
            while recent and (at - recent[0][0]).total_seconds() >= span * step:
                admitted -= recent.popleft()[1]
            fits = amount if capacity is None else max(0, min(amount, capacity - admitted))
            if amount > fits:
                over[at] = amount - fits
                by_hour[at.hour] += amount - fits
            recent.append((at, fits))
            admitted += fits
        if over:
            worst = tuple(sorted(over, key=lambda at: -over[at])[:48])
            affected.append(Affected(*split_subject(who), sum(n for _, n in rows[who]), sum(over.values()), worst))
    affected.sort(key=lambda item: -item.over)
    return WhatIf(
        key, limit, width, policy or known[key].policy or "HARD", since, granularity, len(decided),
        tuple(affected[:MOST]), len(affected), sum(item.over for item in affected), tuple(by_hour),
    )  # fmt: skip


def _exist(platform: Platform, tier: str | None, tenant: str | None) -> None:
    for kind, table, name in (("tier", Tier.code, tier), ("tenant", Tenant.id, tenant)):
        if name is not None:
            with platform.database.session() as session:
                if not storable(name) or session.scalar(select(table).where(table == name)) is None:
                    raise NotFound(f"There is no {kind} {clean(name)}.")


def _history(platform: Platform, key: str, since: datetime) -> tuple[str, dict[str, list[tuple[datetime, int]]]]:
    """Demand (admitted and blocked) by subject in order of time; by day where no hours were recorded."""
    found: dict[str, list[tuple[datetime, int]]] = defaultdict(list)
    with platform.database.session(seconds=30) as session:
        hours = session.execute(
            text(
                "SELECT subject, hour, amount + blocked FROM rate_limit_usage WHERE key = :key AND hour >= :since"
                " ORDER BY subject, hour LIMIT 2000000"
            ),
            {"key": key, "since": since},
        ).all()
        for who, at, amount in hours:
            found[who].append((at, int(amount)))
        if found:
            return "hour", found
        for tenant, day, amount in session.execute(
            text(
                "SELECT tenant_id, day, amount + blocked FROM usage_daily WHERE key = :key AND day >= :since"
                " ORDER BY tenant_id, day"
            ),
            {"key": key, "since": since.date()},
        ):
            found[subject(tenant)].append((datetime.combine(day, datetime.min.time(), UTC), int(amount)))
    return "day", found


def _decided_by(platform: Platform, key: str, who: list[str], tier: str | None, tenant: str | None) -> list[str]:
    """The subjects that the proposed rule would decide for."""
    split = [split_subject(one) for one in who]
    effective = ratelimit_explain.effective_many(platform, [(key, owner, agent) for owner, agent in split])
    tiers = ratelimit_explain.tiers_of(platform, [owner for owner, _ in split])

    def decides(owner: str, agent: str | None, now: Effective) -> bool:
        scope = now.source.partition(":")[0]
        if tenant is not None:
            return owner == tenant and scope != "agent"
        if tier is not None:
            return tiers.get(owner) == tier and scope in ("tier", "global", "none")
        return scope in ("global", "none")

    return [one for one, (owner, agent), now in zip(who, split, effective, strict=True) if decides(owner, agent, now)]
