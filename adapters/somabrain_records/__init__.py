"""What the SomaBrain adapter reads out of the service's answers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from adapters.core.errors import Unexpected
from adapters.core.model import State

OUTBOX_WARN = 1000
"""Pending events above which the outbox is named as a cause."""
_FINE = frozenset({"healthy", "ok", "up", "ready", "connected", "running", "not-configured", "disabled"})
_STATES = {
    "healthy": State.HEALTHY,
    "ok": State.HEALTHY,
    "degraded": State.DEGRADED,
    "warning": State.DEGRADED,
    "critical": State.DOWN,
    "unhealthy": State.DOWN,
    "down": State.DOWN,
}
_LINE = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{(.*)\})?[ \t]+(\S+)(?:[ \t]+-?\d+)?[ \t]*$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Component:
    """One part of the service, or a backend of it, as ``/health`` names it."""

    name: str
    healthy: bool
    says: str
    """Its own word: "unhealthy", "circuit open"."""
    response_time_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The body of ``/health``, judged."""

    state: State
    word: str
    """The service's own word for it."""
    ready: bool
    version: str | None
    components: tuple[Component, ...]
    circuit_open: bool
    outbox_pending: int | None

    @property
    def causes(self) -> tuple[str, ...]:
        """What is wrong, one short phrase each, the first the most telling."""
        found = ["the memory circuit is open"] if self.circuit_open else []
        found += [f"{one.name} is {one.says}" for one in self.components if not one.healthy]
        if self.outbox_pending is not None and self.outbox_pending > OUTBOX_WARN:
            found.append(f"{self.outbox_pending:,} events wait in the outbox")
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Sleep:
    """Whether the mind is awake."""

    state: str
    """active, light, deep or freeze."""
    since: datetime | None


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """One write on its way to the memory service."""

    id: int
    tenant: str
    topic: str
    status: str
    retries: int
    created_at: datetime | None
    last_error: str


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How long one kind of data of a tenant is kept."""

    id: str
    data_type: str
    retention_days: int
    action: str
    enabled: bool
    last_run_at: datetime | None
    last_run_deleted: int


def wrong(what: str, row: object) -> Unexpected:
    """The error for an answer that is JSON and not what was asked for."""
    return Unexpected(f"SomaBrain answered {what} in an unexpected shape.", detail=str(row)[:300])


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def number(value: object) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None


def moment(value: object) -> datetime | None:
    """A time of the service (ISO text or seconds since the epoch) in UTC; None for anything else."""
    seconds = number(value)
    try:
        if seconds is not None:
            return datetime.fromtimestamp(seconds, UTC)
        if isinstance(value, str):
            at = datetime.fromisoformat(value)
            return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        pass  # a time nobody can read is a time not told
    return None


def report(row: Mapping[str, Any]) -> Report:
    """Judge a ``/health`` body. Raises Unexpected where it says neither ``status`` nor ``ok``."""
    word = row.get("status")
    if isinstance(word, str) and word.lower() in _STATES:
        word = word.lower()
    elif isinstance(row.get("ok"), bool):
        word = "healthy" if row["ok"] else "degraded"  # versions before the status word
    else:
        raise wrong("its health", row)
    parts = _dict(row.get("components"))
    memory = _dict(parts.get("memory"))
    open_circuit = memory.get("circuit_open") is True or parts.get("memory_circuit_open") is True
    components = [
        *(_backend(str(name), one) for name, one in list(_dict(row.get("infrastructure")).items())[:50]),
        *(_backend(str(name), one) for name, one in list(_dict(row.get("internal_services")).items())[:50]),
    ]
    if memory.get("healthy") is False:
        components.append(Component("memory", False, "unhealthy"))
    elif memory.get("degraded") is True and not open_circuit:
        components.append(Component("memory", word == "healthy", "degraded"))
    state = _STATES[word]
    if open_circuit and state is State.HEALTHY:
        state = State.DEGRADED
    ready = row.get("ready") is not False
    pending = number(_dict(parts.get("outbox")).get("pending"))
    version = row.get("version")
    return Report(
        state=state if ready else State.DOWN,
        word=word,
        ready=ready,
        version=version[:40] if isinstance(version, str) else None,
        components=tuple(components),
        circuit_open=open_circuit,
        outbox_pending=None if pending is None else int(pending),
    )


def _backend(name: str, one: object) -> Component:
    row = _dict(one)
    says = row.get("status", one)
    if isinstance(says, bool) or (says is row and isinstance(row.get("ok"), bool)):
        fine = says is True or row.get("ok") is True
        return Component(name[:60], fine, "healthy" if fine else "unhealthy")
    word = str(says)[:60] if isinstance(says, str) else "not telling"
    # A part that says nothing readable is not called a failure.
    fine = not isinstance(says, str) or says.lower() in _FINE
    return Component(name[:60], fine, word, number(row.get("response_time_ms")))


def prometheus(text: str, wanted: frozenset[str]) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Samples of the wanted metrics: labels and value; lines that are no samples are passed over."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for line in text.splitlines():
        if not line.startswith(tuple(wanted)):
            continue
        matched = _LINE.match(line)
        if matched is None or matched[1] not in wanted:
            continue
        try:
            value = float(matched[3])
        except ValueError:
            continue
        if math.isfinite(value):
            found.setdefault(matched[1], []).append((dict(_LABEL.findall(matched[2] or "")), value))
    return found


def sleep(row: Mapping[str, Any]) -> Sleep:
    """Read ``/api/sleep/state``. Raises Unexpected."""
    state = row.get("state")
    if not isinstance(state, str):
        raise wrong("its sleep state", row)
    return Sleep(state[:40].lower(), moment(row.get("timestamp")))


def event(row: object) -> OutboxEvent:
    """Read one row of the outbox. Raises Unexpected."""
    one = _dict(row)
    ident = number(one.get("id"))
    if ident is None:
        raise wrong("its outbox", row)
    return OutboxEvent(
        id=int(ident),
        tenant=str(one.get("tenant_id") or "")[:200],
        topic=str(one.get("topic") or "")[:200],
        status=str(one.get("status") or "")[:40],
        retries=int(number(one.get("retries")) or 0),
        created_at=moment(one.get("created_at")),
        last_error=str(one.get("last_error") or "")[:500],
    )


def policy(row: object) -> RetentionPolicy:
    """Read one retention policy. Raises Unexpected."""
    one = _dict(row)
    days, kind = number(one.get("retention_days")), one.get("data_type")
    if days is None or not isinstance(kind, str):
        raise wrong("a retention policy", row)
    return RetentionPolicy(
        id=str(one.get("id") or "")[:100],
        data_type=kind[:100],
        retention_days=int(days),
        action=str(one.get("action") or "")[:40],
        enabled=one.get("enabled") is True,
        last_run_at=moment(one.get("last_run_at")),
        last_run_deleted=int(number(one.get("last_run_deleted")) or 0),
    )
