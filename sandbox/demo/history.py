"""The past of every service, as the sampler would have written it: 30 days by hour, one day by minute,
12 months of state changes."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sandbox.demo.world import Incident, World

HOURS = 30 * 24
MINUTES = 24 * 60
VISITS_PER_MINUTE = 6


@dataclass(frozen=True, slots=True)
class Shape:
    """How a number moves: around ``base``, with the working day, at random, and growing over the months."""

    base: float
    day: float = 0.0
    """Share of ``base`` that comes and goes with the working day."""
    noise: float = 0.0
    growth: float = 0.0
    """Share of ``base`` by which it grew in the last 30 days."""
    whole: bool = False

    def at(self, rng: random.Random, moment: datetime, age_days: float) -> float:
        """The value at a moment ``age_days`` before now."""
        hour = moment.hour + moment.minute / 60
        working = max(0.0, math.sin((hour - 5) / 16 * math.pi)) * (0.4 if moment.weekday() >= 5 else 1.0)
        value = self.base * (1 - self.growth * age_days / 30) * (1 + self.day * (working - 0.5))
        value *= math.exp(rng.gauss(0, self.noise)) if self.noise else 1.0
        return float(round(value)) if self.whole else value


LATENCY = {
    "postgresql": 1.4, "redis": 0.5, "temporal": 3.1, "qdrant": 4.2, "keycloak": 6.5, "lago": 14.0, "somabrain": 9.0,
    "whisper": 11.0, "kokoro": 12.0, "mcp": 18.0, "s3": 9.5, "smtp": 3.5,
}  # fmt: skip
"""Usual latency of a health check in milliseconds."""

METRICS: dict[str, dict[str, Shape]] = {
    "postgresql": {
        "latency": Shape(0.9, 0.3, 0.2), "connections": Shape(14, 0.5, 0.1, whole=True),
        "connections_percent": Shape(7, 0.5, 0.1), "cache_hit": Shape(99.4, 0, 0.001),
        "transactions": Shape(22, 1.1, 0.15), "database_size": Shape(42e6, 0, 0, 0.18),
    },
    "redis": {
        "latency": Shape(0.25, 0.3, 0.2), "memory": Shape(2.4e6, 0.1, 0.02, 0.1),
        "clients": Shape(9, 0.4, 0.1, whole=True),
        "commands": Shape(34, 1.2, 0.2), "keys": Shape(420, 0.5, 0.05, whole=True),
    },
    "temporal": {
        "running": Shape(6, 0.8, 0.2, whole=True), "failed": Shape(9, 0.2, 0.15, whole=True),
        "completed": Shape(310, 0.2, 0.05, whole=True), "failure_rate": Shape(2.8, 0, 0.15),
    },
    "qdrant": {"vectors": Shape(2400, 0, 0, 0.2, whole=True)},
    "keycloak": {
        "realms": Shape(3, whole=True), "sessions": Shape(18, 1.4, 0.15, whole=True),
        "users": Shape(126, 0, 0, 0.1, whole=True), "failed_logins": Shape(4, 1.2, 0.5, whole=True),
    },
    "lago": {"active_subscriptions": Shape(38, 0, 0, 0.08, whole=True), "customers": Shape(40, 0, 0, 0.08, whole=True)},
    "somabrain": {
        "memory_use": Shape(49.7, 0.15, 0.02, 0.1), "memory_items": Shape(21_800, 0, 0, 0.25, whole=True),
        "outbox_pending": Shape(6, 0.9, 0.5, whole=True),
    },
    "whisper": {"health_latency": Shape(4, 0.3, 0.2), "real_time_factor": Shape(0.06, 0.2, 0.1)},
    "kokoro": {"health_latency": Shape(5, 0.3, 0.2), "real_time_factor": Shape(0.02, 0.2, 0.1)},
    "mcp": {"active": Shape(2, whole=True), "tools": Shape(8, whole=True)},
    "s3": {"storage": Shape(2.4e6, 0, 0, 0.12), "objects": Shape(40, 0, 0, 0.1, whole=True)},
    "smtp": {"latency": Shape(2.2, 0.2, 0.2)},
}  # fmt: skip
"""Names are those the adapters report, so that history and present join."""


def _covering(incidents: Sequence[Incident], start: datetime, end: datetime) -> list[tuple[Incident, float]]:
    """Incidents that touch an interval, with the share of it they take."""
    length = (end - start).total_seconds()
    found = []
    for one in incidents:
        overlap = (min(one.ended_at, end) - max(one.started_at, start)).total_seconds()
        if overlap > 0:
            found.append((one, overlap / length))
    return found


def buckets(now: datetime) -> Iterator[tuple[str, datetime, timedelta]]:
    """(resolution, start, length) of every bucket, oldest first; the present one is left to the sampler."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    for back in range(HOURS, 0, -1):
        yield "hour", hour - timedelta(hours=back), timedelta(hours=1)
    minute = now.replace(second=0, microsecond=0)
    for back in range(MINUTES, 0, -1):
        yield "minute", minute - timedelta(minutes=back), timedelta(minutes=1)


HealthRow = tuple[str, datetime, int, int, int, int, int, int, int, float | None, float | None, float]
MetricRow = tuple[str, str, datetime, int, float, float, float]


def health_rows(world: World, now: datetime, resolution: str) -> Iterator[HealthRow]:
    """Rows of health_hour or health_minute, in the order of their columns."""
    wanted = [(start, length) for kind, start, length in buckets(now) if kind == resolution]
    oldest = wanted[0][0]
    for service, usual in LATENCY.items():
        rng = random.Random(f"{world.seed}/health/{service}/{resolution}")
        incidents = [one for one in world.incidents if one.service == service and one.ended_at > oldest]
        for start, length in wanted:
            n = int(length.total_seconds() / 60) * VISITS_PER_MINUTE
            counts = {"degraded": 0, "no_answer": 0, "down": 0}
            slow = 1.0
            for one, share in _covering(incidents, start, start + length):
                counts[one.state] += min(n, round(n * share))
                slow = max(slow, 1 + 5 * share) if one.state == "degraded" else slow
            bad = min(n, sum(counts.values()))
            measured = n - counts["down"]
            middle = usual * slow * math.exp(rng.gauss(0, 0.08)) * (1.15 if 8 <= start.hour <= 18 else 1.0)
            low, high = middle * rng.uniform(0.6, 0.8), middle * rng.uniform(1.6, 3.2)
            if counts["no_answer"]:
                high = 3000.0
            yield (
                service, start, n, n - bad, counts["degraded"], counts["no_answer"], counts["down"], 0, measured,
                low if measured else None, high if measured else None, middle * measured,
            )  # fmt: skip


def metric_rows(world: World, now: datetime, resolution: str) -> Iterator[MetricRow]:
    """Rows of samples_hour or samples_minute, in the order of their columns; nothing while a service was down."""
    wanted = [(start, length) for kind, start, length in buckets(now) if kind == resolution]
    oldest = wanted[0][0]
    for service, shapes in METRICS.items():
        rng = random.Random(f"{world.seed}/metrics/{service}/{resolution}")
        incidents = [
            one for one in world.incidents
            if one.service == service and one.ended_at > oldest and one.state != "degraded"
        ]  # fmt: skip
        for start, length in wanted:
            away = sum(share for _, share in _covering(incidents, start, start + length))
            n = round(int(length.total_seconds() / 60) * VISITS_PER_MINUTE * max(0.0, 1 - away))
            if n <= 0:
                continue
            age = (now - start).total_seconds() / 86_400
            for name, shape in shapes.items():
                middle = shape.at(rng, start, age)
                spread = shape.noise * middle
                low, high = (middle, middle) if not spread else (max(0.0, middle - spread), middle + 2 * spread)
                yield service, name, start, n, low, high, middle * n
    for start, length in wanted:
        n = int(length.total_seconds() / 60) * VISITS_PER_MINUTE
        revenue = float(world.mrr_at(start))
        yield "lago", "mrr", start, n, revenue, revenue, revenue * n


def state_change_rows(world: World, now: datetime) -> Iterator[tuple[str, datetime, str, str, str]]:
    """(service, at, from, to, message), oldest first."""
    rows = []
    for one in world.incidents:
        if one.ended_at < now:
            rows.append((one.service, one.started_at, "healthy", one.state, one.message))
            rows.append((one.service, one.ended_at, one.state, "healthy", "Answers again."))
    yield from sorted(rows, key=lambda row: (row[1], row[0]))


def utc_now() -> datetime:
    """The present moment in UTC."""
    return datetime.now(UTC)
