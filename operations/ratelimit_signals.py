"""Signals: who came near a limit or passed it, brought from Redis and kept; each told to whom it concerns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy import false, select, text

from adapters.core import Unreachable
from limiter import Mode, keys
from limiter.keys import split_subject
from limiter.table import text as decoded
from models import RateLimitSignal
from operations import access, change, ratelimit_notices
from operations.access import Actor, Permission
from operations.change import FieldError, Invalid
from operations.platform import Platform
from operations.ratelimit_store import storable

PER_SHARD = 200
"""As many as a stream holds, see decide.lua."""
KEPT_DAYS = 90
KEPT_ROWS = 100_000
MOST = 500
_MODES = {mode[0]: mode for mode in Mode}


@dataclass(frozen=True, slots=True)
class Signal:
    """A limit reached in one window. ``audience`` "tenant": to be told to the tenant; "admin": a limit on trial."""

    tenant: str
    agent: str | None
    key: str
    kind: str
    """"near" at the warning level, "over" above the limit."""
    policy: str
    audience: str
    source: str
    limit: int
    used: int
    """As last signalled."""
    window_at: datetime
    first_at: datetime
    last_at: datetime
    count: int
    told: str = ""
    """What became of telling the tenant: "sent", "queued", "failed" or "canceled" as its mail is, "no address",
    "admins" for a limit on trial, "" for one that was not worth a mail any more."""


def signals(
    platform: Platform,
    actor: Actor,
    audience: str | None = None,
    tenant: str | None = None,
    key: str | None = None,
    limit: int = 100,
) -> list[Signal]:
    """Signals, newest first, at most ``limit`` (500). Raises access.Forbidden, change.Invalid, StoreUnavailable."""
    access.require(actor, Permission.RATELIMIT_VIEW)
    if audience not in (None, "tenant", "admin"):
        raise Invalid([FieldError("audience", "is not one of them", "tenant, admin")])
    s = RateLimitSignal
    query = select(s).order_by(s.last_at.desc(), s.id.desc()).limit(max(1, min(limit, MOST)))
    for column, wanted in ((s.audience, audience), (s.tenant, tenant), (s.key, key)):
        if wanted is not None:
            query = query.where(column == wanted if storable(wanted) else false())
    with platform.database.session() as session:
        rows = list(session.scalars(query))
        told = ratelimit_notices.told(session, rows)
        return [
            Signal(
                row.tenant, row.agent or None, row.key, row.kind, row.policy, row.audience, row.source,
                row.limit_value, row.used, row.window_at, row.first_at, row.last_at, row.count, told[row.id],
            )
            for row in rows
        ]  # fmt: skip


class Collector:
    """Brings new signals home. Any number of processes may do so at once: the same signal is kept once."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._after: dict[int, str] = {}

    def collect(self) -> int:
        """Store what the streams hold since last time; how many were read. Raises Unreachable, StoreUnavailable."""
        found: list[dict[str, Any]] = []
        after = dict(self._after)
        try:
            with self._platform.redis.pipeline(transaction=False) as pipe:
                for number in range(keys.SHARDS):
                    pipe.xrange(keys.signals(number), f"({after[number]}" if number in after else "-", "+", PER_SHARD)
                replies = pipe.execute()
        except RedisError as error:
            raise Unreachable("Redis does not answer, so signals wait there.", detail=repr(error)) from error
        for number, reply in enumerate(replies):
            for entry, fields in reply:
                after[number] = decoded(entry)
                row = _row(after[number], {decoded(name): decoded(value) for name, value in fields.items()})
                if row is not None:
                    found.append(row)
        if found:
            self._store(found)
        self._after = after
        return len(found)

    def _store(self, rows: list[dict[str, Any]]) -> None:
        with self._platform.database.session(seconds=30) as session:
            session.execute(
                text(
                    "INSERT INTO rate_limit_signals (tenant, agent, key, kind, window_at, policy, audience, source,"
                    " limit_value, used, first_at, last_at, mail)"
                    " VALUES (:tenant, :agent, :key, :kind, :window_at, :policy, :audience, :source, :limit, :used,"
                    " :at, :at, :mail)"
                    " ON CONFLICT (key, tenant, agent, kind, window_at) DO UPDATE SET last_at = EXCLUDED.last_at,"
                    " count = rate_limit_signals.count + 1, used = EXCLUDED.used, limit_value = EXCLUDED.limit_value,"
                    " policy = EXCLUDED.policy, audience = EXCLUDED.audience, source = EXCLUDED.source"
                    # What another process stored already is not newer.
                    " WHERE EXCLUDED.last_at > rate_limit_signals.last_at"
                ),
                # One order for all processes, so that none waits for another in a circle.
                sorted(rows, key=lambda row: (row["key"], row["tenant"], row["agent"], row["kind"], row["at"])),
            )
            ratelimit_notices.owe(session, rows)
            session.execute(
                text(
                    "DELETE FROM rate_limit_signals WHERE last_at < now() - make_interval(days => :days)"
                    " OR id <= (SELECT id FROM rate_limit_signals ORDER BY id DESC OFFSET :most LIMIT 1)"
                ),
                {"days": KEPT_DAYS, "most": KEPT_ROWS},
            )


def _moment(entry: str) -> datetime:
    """The moment of a stream's entry. Ids only ever grow, where the moments of decisions may be equal: the
    number within a millisecond counts as microseconds."""
    milliseconds, _, number = entry.partition("-")
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC) + timedelta(microseconds=min(int(number), 999))


def _row(entry: str, fields: Mapping[str, str]) -> dict[str, Any] | None:
    """A stream's entry as a row; None for a probe's, and for one that is not understood."""
    try:
        at, width = int(fields["at"]), int(fields["window"])
        tenant, agent = split_subject(fields["subject"])
        policy = _MODES[fields["mode"]]
        row = {
            "tenant": change.clean(tenant), "agent": change.clean(agent or ""), "key": change.clean(fields["key"]),
            "kind": fields["kind"], "policy": str(policy), "source": change.clean(fields["source"]),
            "limit": int(fields["limit"]), "used": int(fields["used"]),
            "audience": "admin" if policy is Mode.WARN or tenant == "-" else "tenant",
            "window_at": datetime.fromtimestamp(at // width * width / 1000, UTC),
            "at": _moment(entry), "width": timedelta(milliseconds=width),
        }  # fmt: skip
        row["mail"] = ratelimit_notices.name(row)
    except (KeyError, IndexError, ValueError, ZeroDivisionError, OverflowError):
        return None
    probe = fields["key"].startswith("probe.") and tenant.startswith("probe-")
    return None if probe or row["kind"] not in ("near", "over") else row
