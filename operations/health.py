"""How the platform is: the overview, one service, history, availability, changes of state.

Answers are shared by everyone who looks at this process for a few seconds, so the number of
queries does not grow with the number of people. While PostgreSQL is away the process answers from
its own visits, and says so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import text

from adapters.core import AdapterError, Health, Metric, Sample, Service, State, Unit, services, utcnow
from adapters.core.probe import sample_all
from operations import access, change
from operations.access import Actor, Permission
from operations.platform import Platform
from operations.samples import Tick, write

T = TypeVar("T")
FRESH_SECONDS = 2.0
RETRY_SECONDS = 5.0
READ_SECONDS = 3.0
MAX_POINTS = 500
MAX_CACHED = 500
MAX_CHANGES = 500


@dataclass(frozen=True, slots=True)
class StateChange:
    """A service passed from one state to another."""

    slug: str
    at: datetime
    before: State
    state: State
    message: str = ""


@dataclass(frozen=True, slots=True)
class ServiceNow:
    """One service now. ``spark`` is latency in ms per minute of the last hour, oldest first."""

    service: Service
    health: Health
    since: datetime | None = None
    metrics: tuple[Metric, ...] = ()
    headline: Metric | None = None
    spark: tuple[float, ...] = ()
    affected: tuple[str, ...] = ()
    """Titles of the services that cannot work while this one fails."""
    depends_down: tuple[str, ...] = ()
    """Titles of failing services this one depends on."""
    metrics_error: str = ""
    known: tuple[Metric, ...] = ()
    """The metrics last known, where this visit found none."""
    known_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Overview:
    """All services, failing first. ``stale`` when nobody has measured for three intervals."""

    state: State
    sentence: str
    counts: dict[State, int]
    services: tuple[ServiceNow, ...]
    changes: tuple[StateChange, ...]
    as_of: datetime | None
    source: str
    stale: bool


@dataclass(frozen=True, slots=True)
class Point:
    """One step of a history."""

    at: datetime
    avg: float
    min: float
    max: float


@dataclass(frozen=True, slots=True)
class Series:
    """A history, oldest first, at most 500 points."""

    points: tuple[Point, ...]
    step_seconds: int
    unit: Unit


@dataclass(frozen=True, slots=True)
class Availability:
    """How much of the visits found the service working. ``percent`` is None where nothing was measured.

    Degraded counts as available; unconfigured and unknown are not measured.
    """

    days: int
    percent: float | None
    measured: int
    healthy: int
    degraded: int
    failing: int


@dataclass
class _Slot:
    value: Any = None
    at: float = float("-inf")
    lock: threading.Lock = field(default_factory=threading.Lock)


class _Cache:
    """Values by key, refreshed by one caller at a time; the others meanwhile get the last one."""

    def __init__(self) -> None:
        self._slots: dict[Any, _Slot] = {}
        self._lock = threading.Lock()
        self.away_until = float("-inf")

    def get(self, key: Any, seconds: float, make: Callable[[], T]) -> T:
        with self._lock:
            if key not in self._slots and len(self._slots) >= MAX_CACHED:
                self._slots.pop(min(self._slots, key=lambda k: self._slots[k].at))
            slot = self._slots.setdefault(key, _Slot())
        if time.monotonic() - slot.at < seconds:
            return slot.value  # type: ignore[no-any-return]
        known = slot.at > float("-inf")
        if not slot.lock.acquire(blocking=not known):
            return slot.value  # type: ignore[no-any-return]
        try:
            if time.monotonic() - slot.at >= seconds:
                slot.value = make()
                slot.at = time.monotonic()
            return slot.value  # type: ignore[no-any-return]
        finally:
            slot.lock.release()

    def clear(self) -> None:
        with self._lock:
            self._slots.clear()


_caches: WeakKeyDictionary[Platform, _Cache] = WeakKeyDictionary()
_caches_lock = threading.Lock()


def _cache(platform: Platform) -> _Cache:
    with _caches_lock:
        return _caches.setdefault(platform, _Cache())


def overview(platform: Platform) -> Overview:
    """All services, at most 2 s old. Never raises: without PostgreSQL it tells what this process found itself."""
    return _cache(platform).get("overview", FRESH_SECONDS, lambda: _overview(platform))


def now(platform: Platform, slug: str) -> ServiceNow:
    """One service. Raises change.NotFound."""
    for found in overview(platform).services:
        if found.service.slug == slug:
            return found
    raise change.NotFound(f"There is no service {slug}.")


def refresh(platform: Platform, actor: Actor, slugs: list[str] | None = None) -> None:
    """Visit services now, all by default; whoever asks within a second shares one visit."""
    access.require(actor, Permission.INFRA_VIEW)
    if platform.sampler is not None:
        platform.sampler.refresh(slugs)
    else:
        adapters = [a for slug, a in platform.adapters.items() if slugs is None or slug in slugs]
        at = utcnow()
        found = sample_all(adapters, platform.settings.probe_deadline_seconds, force=True)
        try:
            write(platform.database, [Tick(at, found)], "refresh")
        except AdapterError:
            platform.readings.forget("console:board")
    _cache(platform).clear()


_OVERVIEW = """
WITH edge AS (
    SELECT coalesce(max(bucket) + interval '1 minute', now() - interval '1 hour') AS at
    FROM health_minute WHERE bucket >= now() - interval '1 hour'
), spark AS (
    SELECT service, bucket, latency_sum / nullif(latency_n, 0) AS ms
    FROM health_minute WHERE bucket >= now() - interval '1 hour'
    UNION ALL
    SELECT service, date_trunc('minute', h.at), avg(latency_ms)
    FROM health_samples h, edge
    WHERE h.at >= edge.at AND h.at >= now() - interval '1 hour' GROUP BY 1, 2
)
SELECT (SELECT jsonb_agg(to_jsonb(n)) FROM service_now n),
       (SELECT jsonb_object_agg(service, ms) FROM (
            SELECT service, jsonb_agg(round(ms::numeric, 2) ORDER BY bucket) AS ms
            FROM spark WHERE ms IS NOT NULL GROUP BY service) s),
       (SELECT jsonb_agg(to_jsonb(c)) FROM (
            SELECT service, at, from_state, to_state, message FROM state_changes ORDER BY at DESC, id DESC LIMIT 50) c)
"""


def _overview(platform: Platform) -> Overview:
    cache = _cache(platform)
    if time.monotonic() >= cache.away_until:
        try:
            with platform.database.session(seconds=READ_SECONDS) as session:
                rows, sparks, changes = session.execute(text(_OVERVIEW)).one()
            return _stored_overview(platform, rows or [], sparks or {}, changes or [])
        except AdapterError:
            cache.away_until = time.monotonic() + RETRY_SECONDS
    return _own_overview(platform)


def _stored_overview(
    platform: Platform, rows: list[dict[str, Any]], sparks: dict[str, Any], changes: list[dict[str, Any]]
) -> Overview:
    found = {row["service"]: row for row in rows}
    listed = []
    for slug, service in services().items():
        row = found.get(slug)
        if row is None:
            listed.append(ServiceNow(service, Health(State.UNKNOWN, "Nobody has asked it yet.", service=slug)))
            continue
        metrics = tuple(_metric(m) for m in row["metrics"])
        health = Health(
            State(row["state"]), row["message"], row["version"], slug, row["latency_ms"], _time(row["checked_at"]),
            row["kind"], row["detail"], row["advice"], _time(row["paused_until"]) if row["paused_until"] else None,
        )  # fmt: skip
        spark = tuple(float(ms) for ms in sparks.get(slug, ()))[-60:]
        listed.append(
            ServiceNow(
                service,
                health,
                _time(row["since"]),
                metrics,
                next((m for m in metrics if m.headline), None),
                spark,
                metrics_error=row["metrics_error"],
                **_known(health, tuple(_metric(m) for m in row["known"]), row["known_at"] and _time(row["known_at"])),
            )
        )
    past = tuple(
        StateChange(c["service"], _time(c["at"]), State(c["from_state"]), State(c["to_state"]), c["message"])
        for c in changes
    )
    newest = max((n.health.checked_at for n in listed if n.health.state is not State.UNKNOWN), default=None)
    return _assembled(platform, listed, past, newest, "sampler")


def _known(health: Health, before: tuple[Metric, ...], at: datetime | None) -> dict[str, Any]:
    """What was known of a service that fails now."""
    return {"known": before, "known_at": at} if health.state.failing and before else {}


def _own_overview(platform: Platform) -> Overview:
    board = platform.sampler.board if platform.sampler is not None else None
    if board is not None and board.samples:
        samples, at = board.samples, board.at
        past = tuple(StateChange(*item) for item in list(board.changes)[:50])
        since, sparks = dict(board.since), {slug: tuple(values) for slug, values in list(board.latencies.items())}
        known = dict(board.known)
    else:
        seconds = platform.settings.probe_deadline_seconds
        reading = platform.readings.get(
            "console:board", lambda: sample_all(platform.adapters.values(), seconds), every=10.0, wait=seconds + 0.5
        )
        samples, at, past, since, sparks, known = reading.value or {}, reading.fetched_at, (), {}, {}, {}
    listed = []
    for slug, service in services().items():
        sample = samples.get(slug) or Sample(Health(State.UNKNOWN, "Nobody has asked it yet.", service=slug))
        listed.append(
            ServiceNow(
                service,
                sample.health,
                since.get(slug),
                sample.metrics,
                sample.headline,
                sparks.get(slug, ()),
                metrics_error=sample.metrics_error,
                **_known(sample.health, *known.get(slug, ((), None))),
            )
        )
    return _assembled(platform, listed, past, at, "this process")


def _assembled(
    platform: Platform, listed: list[ServiceNow], past: tuple[StateChange, ...], at: datetime | None, source: str
) -> Overview:
    by_slug = {n.service.slug: n for n in listed}
    needs = {slug: _needs(slug) for slug in by_slug}
    full = []
    for n in listed:
        slug = n.service.slug
        affected: tuple[str, ...] = ()
        if n.health.state.failing:
            affected = tuple(o.service.title for o in listed if slug in needs[o.service.slug])
        down = tuple(by_slug[d].service.title for d in needs[slug] if d in by_slug and by_slug[d].health.state.failing)
        full.append(replace(n, affected=affected, depends_down=down))
    full.sort(key=lambda n: (-n.health.state.severity, n.service.order))
    counts = {state: sum(n.health.state is state for n in full) for state in State}
    every = platform.sampler.every if platform.sampler is not None else platform.settings.sample_seconds
    stale = at is None or utcnow() - at > timedelta(seconds=max(30.0, 3 * every))
    state, sentence = _said(full, counts)
    return Overview(state, sentence, counts, tuple(full), past, at, source, stale)


def _needs(slug: str) -> tuple[str, ...]:
    """Every service ``slug`` depends on, directly or through others."""
    known = services()
    found: list[str] = []
    todo = [slug]
    while todo:
        here = known.get(todo.pop())
        for needed in here.depends_on if here else ():
            if needed not in found and needed != slug:
                found.append(needed)
                todo.append(needed)
    return tuple(found)


_PHRASE = {State.DOWN: "down", State.NO_ANSWER: "not answering", State.DEGRADED: "degraded"}


def _said(listed: list[ServiceNow], counts: dict[State, int]) -> tuple[State, str]:
    """The overall state, and the sentence that matters: the worst service that is no mere consequence of another."""
    bad = [n for n in listed if n.health.state in _PHRASE]
    if bad:
        bad.sort(key=lambda n: (-n.health.state.severity, bool(n.depends_down), -len(n.affected), n.service.order))
        worst = bad[0]
        length = "" if worst.since is None else f" for {span((utcnow() - worst.since).total_seconds())}"
        others = len(bad) - 1
        more = f"; {others} other {'service needs' if others == 1 else 'services need'} attention" if others else ""
        return worst.health.state, (
            f"{worst.service.title} {_PHRASE[worst.health.state]}{length}; {worst.service.affects} affected{more}"
        )
    configured = len(listed) - counts[State.UNCONFIGURED]
    if counts[State.UNKNOWN]:
        if counts[State.UNKNOWN] == configured:
            return State.UNKNOWN, "No service has been measured yet"
        return State.UNKNOWN, f"{counts[State.UNKNOWN]} services not measured yet; the others work"
    if not configured:
        return State.UNCONFIGURED, "No service is configured yet"
    if counts[State.UNCONFIGURED]:
        return State.HEALTHY, f"All {configured} configured services work; {counts[State.UNCONFIGURED]} not configured"
    return State.HEALTHY, f"All {configured} services work"


def span(seconds: float) -> str:
    """A length of time in one unit: "45 s", "12 min", "3 h", "2 days"."""
    if seconds < 60:
        return f"{max(0, int(seconds))} s"
    if seconds < 5400:
        return f"{int(seconds // 60)} min"
    if seconds < 172_800:
        return f"{int(seconds // 3600)} h"
    return f"{int(seconds // 86_400)} days"


def _time(value: str) -> datetime:
    return datetime.fromisoformat(value).astimezone(UTC)


def _metric(m: dict[str, Any]) -> Metric:
    unit = m.get("unit", "count")
    known = unit in Unit._value2member_map_
    return Metric(
        m["name"], m["label"], float(m["value"]), Unit(unit) if known else Unit.NONE, bool(m.get("headline")),
        m.get("currency"), m.get("note", ""),
    )  # fmt: skip


_LATENCY_SOURCES = {
    "raw": "SELECT at, latency_ms AS sum, 1 AS n, latency_ms AS min, latency_ms AS max FROM health_samples"
    " WHERE service = :service AND latency_ms IS NOT NULL",
    "minute": "SELECT bucket AS at, latency_sum AS sum, latency_n AS n, latency_min AS min, latency_max AS max"
    " FROM health_minute WHERE service = :service AND latency_n > 0",
    "hour": "SELECT bucket AS at, latency_sum AS sum, latency_n AS n, latency_min AS min, latency_max AS max"
    " FROM health_hour WHERE service = :service AND latency_n > 0",
}
_METRIC_SOURCES = {
    "raw": "SELECT at, value AS sum, 1 AS n, value AS min, value AS max FROM samples"
    " WHERE service = :service AND metric = :metric",
    "minute": "SELECT bucket AS at, sum, n, min, max FROM samples_minute WHERE service = :service AND metric = :metric",
    "hour": "SELECT bucket AS at, sum, n, min, max FROM samples_hour WHERE service = :service AND metric = :metric",
}


def history(platform: Platform, slug: str, metric: str, hours: int) -> Series:
    """A metric, or ``latency_ms``, over the last ``hours`` (1 to 9,600), in at most 500 steps.

    Reads raw samples up to an hour, minutes up to two weeks, hours beyond; what is not rolled up yet
    is taken from the finer level. Raises change.NotFound and StoreUnavailable.
    """
    hours = max(1, min(int(hours), 9600))
    return _cache(platform).get(
        ("history", slug, metric, hours), FRESH_SECONDS * 5, lambda: _history(platform, slug, metric, hours)
    )


def _history(platform: Platform, slug: str, metric: str, hours: int) -> Series:
    current = now(platform, slug)
    unit = Unit.MILLISECONDS
    if metric != "latency_ms":
        unit = next((m.unit for m in current.metrics if m.name == metric), Unit.NONE)
    sources = _LATENCY_SOURCES if metric == "latency_ms" else _METRIC_SOURCES
    table = "health" if metric == "latency_ms" else "samples"
    if hours <= 1:
        step, parts = 10, [f"({sources['raw']} AND at >= :first)"]
    else:
        coarse, fine, base = ("minute", "raw", 60) if hours <= 336 else ("hour", "minute", 3600)
        step = base * -(-hours * 3600 // base // (MAX_POINTS - 20))
        fine_at = "at" if fine == "raw" else "bucket"
        edge = (
            f"(SELECT coalesce(max(bucket) + interval '1 {coarse}', :first) FROM {table}_{coarse}"  # noqa: S608
            " WHERE service = :service AND bucket >= :first)"
        )
        parts = [
            f"({sources[coarse]} AND bucket >= :first)",
            f"({sources[fine]} AND {fine_at} >= :first AND {fine_at} >= {edge})",
        ]
    query = (
        "SELECT date_bin(make_interval(secs => :step), at, timestamptz '2000-01-01 00:00:00+00') AS step,"  # noqa: S608
        f" sum(sum) / sum(n), min(min), max(max) FROM ({' UNION ALL '.join(parts)}) AS levels"
        f" GROUP BY 1 ORDER BY 1 DESC LIMIT {MAX_POINTS}"
    )
    values = {"service": slug, "first": utcnow() - timedelta(hours=hours), "step": step}
    if metric != "latency_ms":
        values["metric"] = metric
    with platform.database.session(seconds=READ_SECONDS) as session:
        rows = session.execute(text(query), values).all()
    return Series(tuple(Point(at, float(avg), low, high) for at, avg, low, high in reversed(rows)), int(step), unit)


def availability(platform: Platform, slug: str, days: int = 30) -> Availability:
    """How much of the last ``days`` (1 to 400) the service worked. Raises StoreUnavailable."""
    days = max(1, min(int(days), 400))
    return _cache(platform).get(("availability", slug, days), 30.0, lambda: _availability(platform, slug, days))


def _availability(platform: Platform, slug: str, days: int) -> Availability:
    query = text(
        "WITH edge AS (SELECT coalesce(max(bucket) + interval '1 hour', :first) AS at FROM health_hour"
        " WHERE service = :service AND bucket >= :first), levels AS ("
        " SELECT healthy, degraded, no_answer + down AS failing FROM health_hour"
        " WHERE service = :service AND bucket >= :first"
        " UNION ALL SELECT healthy, degraded, no_answer + down FROM health_minute, edge"
        " WHERE service = :service AND bucket >= :first AND bucket >= edge.at)"
        " SELECT coalesce(sum(healthy), 0), coalesce(sum(degraded), 0), coalesce(sum(failing), 0) FROM levels"
    )
    with platform.database.session(seconds=READ_SECONDS) as session:
        row = session.execute(query, {"service": slug, "first": utcnow() - timedelta(days=days)}).one()
    healthy, degraded, failing = (int(value) for value in row)
    total = healthy + degraded + failing
    percent = round(100 * (healthy + degraded) / total, 3) if total else None
    return Availability(days, percent, total, healthy, degraded, failing)


def state_changes(platform: Platform, slug: str | None = None, limit: int = 50) -> list[StateChange]:
    """Changes of state, newest first, at most ``limit`` (500). Without PostgreSQL: those this process saw."""
    limit = max(1, min(limit, MAX_CHANGES))
    if slug is None and limit <= 50:
        return list(overview(platform).changes[:limit])
    return _cache(platform).get(("changes", slug, limit), FRESH_SECONDS, lambda: _changes(platform, slug, limit))


def _changes(platform: Platform, slug: str | None, limit: int) -> list[StateChange]:
    seen = overview(platform)
    if seen.source == "sampler":
        try:
            with platform.database.session(seconds=READ_SECONDS) as session:
                rows = session.execute(
                    text(
                        "SELECT service, at, from_state, to_state, message FROM state_changes"
                        " WHERE CAST(:slug AS text) IS NULL OR service = :slug ORDER BY at DESC, id DESC LIMIT :limit"
                    ),
                    {"slug": slug, "limit": limit},
                ).all()
            return [StateChange(s, at, State(a), State(b), message) for s, at, a, b, message in rows]
        except AdapterError:
            pass  # told below by what this process knows
    return [c for c in seen.changes if slug is None or c.slug == slug][:limit]
