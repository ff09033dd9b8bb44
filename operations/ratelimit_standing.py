"""How rate limiting as a whole stands now: in force, behind, or out of sight."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from redis.exceptions import RedisError
from sqlalchemy import text

from adapters.core import State, utcnow
from limiter import keys, usage
from operations import ratelimit_minutes
from operations.platform import Platform

EXPIRING_DAYS = 7


@dataclass(frozen=True, slots=True)
class Standing:
    """One sentence and the numbers behind it. What only Redis knows is None while it does not answer."""

    state: State
    sentence: str
    policies: int
    overrides: int
    expiring: int
    """Overrides that expire within seven days."""
    waiting: int
    """Saved changes Redis has not got yet."""
    waiting_since: datetime | None
    blocked_hour: int | None
    blocked_by_minute: tuple[int, ...]
    """The last sixty minutes, oldest first; empty while Redis does not answer."""
    without_redis: int | None
    """Decisions of the last hour taken while Redis did not answer."""
    listeners: int | None
    """Limiters that hear of changes at once."""
    active_subjects: int | None
    """Counters used in the present UTC hour."""


_COUNTS = """
SELECT count(*) FILTER (WHERE scope = 'GLOBAL') AS policies,
       count(*) FILTER (WHERE scope IN ('TENANT', 'AGENT')) AS overrides,
       count(*) FILTER (WHERE scope IN ('TENANT', 'AGENT')
                        AND expires_at BETWEEN now() AND now() + :days * interval '1 day') AS expiring,
       (SELECT count(*) FROM outbox WHERE topic = 'ratelimit' AND delivered_at IS NULL) AS waiting,
       (SELECT min(created_at) FROM outbox WHERE topic = 'ratelimit' AND delivered_at IS NULL) AS since
FROM rate_limit_policies
"""


def standing(platform: Platform) -> Standing:
    """How it stands. Numbers only, no names: for everyone who sees the overview. Raises StoreUnavailable."""
    with platform.database.session(seconds=5) as session:
        row = session.execute(text(_COUNTS), {"days": EXPIRING_DAYS}).one()
    try:
        found = ratelimit_minutes.last(platform, 60)
        minute = max(found)
        gone = usage.without_redis(platform.redis, list(found))
        active = usage.active(platform.redis, minute // 60)
        listeners = int(dict(platform.redis.pubsub_numsub(keys.CHANNEL)).get(keys.CHANNEL, 0))
    except RedisError:
        sentence = (
            "Redis does not answer: changes are saved and wait, and each policy says whether calls pass meanwhile."
        )
        return Standing(
            State.DEGRADED, sentence, row.policies, row.overrides, row.expiring, row.waiting, row.since,
            None, (), None, None, None,
        )  # fmt: skip
    blocked = tuple(sum(count["blocked"] for count in counts.values()) for counts in found.values())
    fallback = sum(gone.values())
    state, sentence = State.HEALTHY, "Every saved limit is in Redis and obeyed."
    if row.waiting:
        age = (utcnow() - row.since).total_seconds() if row.since else 0.0
        plural = "change is" if row.waiting == 1 else "changes are"
        state, sentence = State.DEGRADED, f"{row.waiting} {plural} saved and waiting for Redis for {age:.0f} s."
    elif fallback:
        state = State.DEGRADED
        sentence = f"{fallback:,} decisions of the last hour were taken without Redis, by each policy's own choice."
    elif not row.policies:
        sentence = "No limit is set: every call passes."
    return Standing(
        state, sentence, row.policies, row.overrides, row.expiring, row.waiting, row.since, sum(blocked), blocked,
        fallback, listeners, sum(active.values()),
    )  # fmt: skip
