"""Writing samples: raw rows by day, the latest of each service, changes of state, rollups and retention.

Everything here is idempotent: writing, rolling up or pruning twice is the same as once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from adapters.core import Sample, utcnow
from operations.database import Database

RAW_KEPT = timedelta(days=2)
MINUTES_KEPT = timedelta(days=14)
HOURS_KEPT = timedelta(days=400)
DAYS_AHEAD = 2
DDL_LOCK = 0x50_49_4C_4F_54_03
PARTITIONED = ("health_samples", "samples")


@dataclass(frozen=True, slots=True)
class Tick:
    """One round of visits: when, and what each service's brought home."""

    at: datetime
    samples: dict[str, Sample]


def ensure_partitions(session: Session, days: Iterable[date]) -> None:
    """Create the partitions of some UTC days where they are missing."""
    wanted = {f"{table}_{day:%Y%m%d}": (table, day) for day in days for table in PARTITIONED}
    have = set(
        session.scalars(
            text("SELECT relname FROM pg_class WHERE relkind = 'r' AND relname = ANY(:names)"), {"names": list(wanted)}
        )
    )
    missing = {name: parts for name, parts in wanted.items() if name not in have}
    if not missing:
        return
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": DDL_LOCK})
    for name, (table, day) in missing.items():
        session.execute(
            text(
                f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table}"
                f" FOR VALUES FROM ('{day}T00:00:00Z') TO ('{day + timedelta(days=1)}T00:00:00Z')"
            )
        )


def write(database: Database, ticks: Sequence[Tick], by: str = "") -> None:
    """Write some ticks, oldest first, in one transaction. Raises StoreUnavailable; then none was written."""
    if not ticks:
        return
    health = [
        {"service": slug, "at": tick.at, "state": s.health.state.value, "latency": s.health.latency_ms}
        for tick in ticks
        for slug, s in tick.samples.items()
    ]
    metrics = [
        {"service": slug, "metric": m.name, "at": tick.at, "value": float(m.value)}
        for tick in ticks
        for slug, s in tick.samples.items()
        for m in s.metrics
        if math.isfinite(m.value)
    ]
    today = utcnow().date()
    days = {tick.at.astimezone(UTC).date() for tick in ticks} | {today + timedelta(days=n) for n in range(DAYS_AHEAD)}
    with database.session(seconds=15) as session:
        ensure_partitions(session, days)
        if health:
            session.execute(
                text(
                    "INSERT INTO health_samples (service, at, state, latency_ms)"
                    " VALUES (:service, :at, :state, :latency) ON CONFLICT DO NOTHING"
                ),
                health,
            )
        if metrics:
            session.execute(
                text(
                    "INSERT INTO samples (service, metric, at, value)"
                    " VALUES (:service, :metric, :at, :value) ON CONFLICT DO NOTHING"
                ),
                metrics,
            )
        _write_now(session, ticks, by)


def _write_now(session: Session, ticks: Sequence[Tick], by: str) -> None:
    known = {
        row.service: (row.state, row.since, row.checked_at)
        for row in session.execute(
            text("SELECT service, state, since, checked_at FROM service_now ORDER BY service FOR UPDATE")
        )
    }
    changes: list[dict[str, Any]] = []
    latest: dict[str, dict[str, Any]] = {}
    for tick in ticks:
        for slug, sample in tick.samples.items():
            state = sample.health.state.value
            before = known.get(slug)
            if before is not None and tick.at <= before[2]:
                continue  # somebody has written a newer one meanwhile
            since = tick.at
            if before is not None and before[0] == state:
                since = before[1]
            elif before is not None:
                changes.append({"service": slug, "at": tick.at, "before": before[0], "after": state,
                                "message": sample.health.message})  # fmt: skip
            known[slug] = (state, since, tick.at)
            row = _now_row(slug, since, tick.at, sample, by)
            if row["known_at"] is None and slug in latest:
                row |= {column: latest[slug][column] for column in _KNOWN_COLUMNS}
            latest[slug] = row
    if changes:
        session.execute(
            text(
                "INSERT INTO state_changes (service, at, from_state, to_state, message)"
                " VALUES (:service, :at, :before, :after, :message) ON CONFLICT DO NOTHING"
            ),
            changes,
        )
    if latest:
        session.execute(_UPSERT_NOW, [latest[slug] for slug in sorted(latest)])


_NOW_COLUMNS = (
    "service", "state", "since", "message", "version", "latency_ms", "checked_at", "kind", "detail", "advice",
    "paused_until", "metrics", "metrics_error", "sampled_by", "known", "known_at",
)  # fmt: skip
_KNOWN_COLUMNS = ("known", "known_at")
_JSON_COLUMNS = ("metrics", "known")


def _kept(column: str) -> str:
    if column not in _KNOWN_COLUMNS:
        return f"{column} = excluded.{column}"
    # A visit that found no numbers leaves those known before.
    return f"{column} = CASE WHEN excluded.known_at IS NULL THEN service_now.{column} ELSE excluded.{column} END"


_UPSERT_NOW = text(
    f"INSERT INTO service_now ({', '.join(_NOW_COLUMNS)})"  # noqa: S608  constants above
    f" VALUES ({', '.join(f'CAST(:{c} AS jsonb)' if c in _JSON_COLUMNS else ':' + c for c in _NOW_COLUMNS)})"
    f" ON CONFLICT (service) DO UPDATE SET {', '.join(_kept(c) for c in _NOW_COLUMNS[1:])}"
    " WHERE service_now.checked_at < excluded.checked_at"
)


def _now_row(slug: str, since: datetime, at: datetime, sample: Sample, by: str) -> dict[str, Any]:
    health = sample.health
    metrics = json.dumps([asdict(m) for m in sample.metrics if math.isfinite(m.value)])
    return {
        "service": slug, "state": health.state.value, "since": since, "message": health.message,
        "version": health.version, "latency_ms": health.latency_ms, "checked_at": at, "kind": health.kind,
        "detail": health.detail, "advice": health.advice, "paused_until": health.paused_until,
        "metrics": metrics, "metrics_error": sample.metrics_error, "sampled_by": by,
        "known": metrics, "known_at": at if sample.metrics else None,
    }  # fmt: skip


_ROLL_METRICS = """
INSERT INTO samples_minute (service, metric, bucket, n, min, max, sum)
SELECT service, metric, date_trunc('minute', at), count(*), min(value), max(value), sum(value)
FROM samples WHERE at >= :first AND at < :end GROUP BY 1, 2, 3
ON CONFLICT (service, metric, bucket)
DO UPDATE SET n = excluded.n, min = excluded.min, max = excluded.max, sum = excluded.sum
"""
_ROLL_METRICS_HOUR = """
INSERT INTO samples_hour (service, metric, bucket, n, min, max, sum)
SELECT service, metric, date_trunc('hour', bucket), sum(n), min(min), max(max), sum(sum)
FROM samples_minute WHERE bucket >= :first AND bucket < :end GROUP BY 1, 2, 3
ON CONFLICT (service, metric, bucket)
DO UPDATE SET n = excluded.n, min = excluded.min, max = excluded.max, sum = excluded.sum
"""
_HEALTH_COLUMNS = (
    "n", "healthy", "degraded", "no_answer", "down", "other", "latency_n", "latency_min", "latency_max", "latency_sum",
)  # fmt: skip
_KEEP_HEALTH = (
    f"ON CONFLICT (service, bucket) DO UPDATE SET {', '.join(f'{c} = excluded.{c}' for c in _HEALTH_COLUMNS)}"
)
_ROLL_HEALTH = f"""
INSERT INTO health_minute (service, bucket, {", ".join(_HEALTH_COLUMNS)})
SELECT service, date_trunc('minute', at), count(*),
       count(*) FILTER (WHERE state = 'healthy'), count(*) FILTER (WHERE state = 'degraded'),
       count(*) FILTER (WHERE state = 'no_answer'), count(*) FILTER (WHERE state = 'down'),
       count(*) FILTER (WHERE state IN ('unconfigured', 'unknown')),
       count(latency_ms), min(latency_ms), max(latency_ms), coalesce(sum(latency_ms), 0)
FROM health_samples WHERE at >= :first AND at < :end GROUP BY 1, 2
{_KEEP_HEALTH}
"""  # noqa: S608
_ROLL_HEALTH_HOUR = f"""
INSERT INTO health_hour (service, bucket, {", ".join(_HEALTH_COLUMNS)})
SELECT service, date_trunc('hour', bucket), sum(n), sum(healthy), sum(degraded), sum(no_answer), sum(down), sum(other),
       sum(latency_n), min(latency_min), max(latency_max), sum(latency_sum)
FROM health_minute WHERE bucket >= :first AND bucket < :end GROUP BY 1, 2
{_KEEP_HEALTH}
"""  # noqa: S608


def roll_up(database: Database, since: datetime | None = None) -> None:
    """Roll finished minutes and hours up, from ``since`` on, or from where the last rollup ended.

    Never reaches back past the raw samples kept, so that a rollup is never computed from a part.
    """
    now = utcnow()
    oldest = (now - RAW_KEPT).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    with database.session(seconds=40) as session:
        session.execute(text("SET LOCAL statement_timeout = '30s'"))
        if since is None:
            since = session.scalar(text("SELECT max(bucket) FROM health_minute")) or oldest
        first = max(since, oldest).replace(second=0, microsecond=0)
        minutes = {"first": first, "end": now.replace(second=0, microsecond=0)}
        session.execute(text(_ROLL_METRICS), minutes)
        session.execute(text(_ROLL_HEALTH), minutes)
        last_hour = session.scalar(text("SELECT max(bucket) FROM health_hour"))
        hour = min(first, last_hour or first).replace(minute=0)
        hours = {"first": hour, "end": now.replace(minute=0, second=0, microsecond=0)}
        session.execute(text(_ROLL_METRICS_HOUR), hours)
        session.execute(text(_ROLL_HEALTH_HOUR), hours)


def housekeep(database: Database) -> list[str]:
    """Create partitions ahead and remove what is past its retention; the names of dropped partitions."""
    now = utcnow()
    with database.session(seconds=40) as session:
        session.execute(text("SET LOCAL lock_timeout = '3s'"))
        ensure_partitions(session, [now.date() + timedelta(days=n) for n in range(DAYS_AHEAD + 1)])
        last = f"{(now - RAW_KEPT).date() - timedelta(days=1):%Y%m%d}"
        old = [
            name
            for name in session.scalars(
                text(
                    "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
                    " JOIN pg_class p ON p.oid = i.inhparent WHERE p.relname = ANY(:tables) ORDER BY 1"
                ),
                {"tables": list(PARTITIONED)},
            )
            if name[-8:].isdigit() and name[-8:] <= last
        ]
        for name in old:
            session.execute(text(f'DROP TABLE IF EXISTS "{name}"'))
        for table, kept in (("minute", MINUTES_KEPT), ("hour", HOURS_KEPT)):
            for kind in ("samples", "health"):
                session.execute(
                    text(f"DELETE FROM {kind}_{table} WHERE bucket < :before"),  # noqa: S608
                    {"before": now - kept},
                )
    return old
