"""The state of all services as a file: CSV for people's spreadsheets, JSON for programs."""

from __future__ import annotations

import csv
import io
from typing import Any

from operations import access, health
from operations.access import Actor, Permission
from operations.platform import Platform

COLUMNS = (
    "service", "title", "state", "message", "since", "checked_at", "latency_ms", "version", "metric", "value", "unit",
    "currency", "affected",
)  # fmt: skip


def rows(platform: Platform, actor: Actor) -> list[dict[str, Any]]:
    """One row per service, failing first; the metric is the service's headline. Raises access.Forbidden."""
    access.require(actor, Permission.INFRA_VIEW)
    return [
        {
            "service": n.service.slug,
            "title": n.service.title,
            "state": n.health.state.value,
            "message": n.health.message,
            "since": n.since.isoformat() if n.since else None,
            "checked_at": n.health.checked_at.isoformat(),
            "latency_ms": n.health.latency_ms,
            "version": n.health.version,
            "metric": n.headline.name if n.headline else None,
            "value": n.headline.value if n.headline else None,
            "unit": n.headline.unit.value if n.headline else None,
            "currency": n.headline.currency if n.headline else None,
            "affected": ", ".join(n.affected),
        }
        for n in health.overview(platform).services
    ]


def as_csv(platform: Platform, actor: Actor) -> str:
    """The rows as CSV with a header. Cells a spreadsheet would run as a formula are quoted."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    for row in rows(platform, actor):
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return out.getvalue()


def as_json(platform: Platform, actor: Actor) -> dict[str, Any]:
    """The rows with the overall state."""
    seen = health.overview(platform)
    return {
        "state": seen.state.value,
        "sentence": seen.sentence,
        "as_of": seen.as_of.isoformat() if seen.as_of else None,
        "source": seen.source,
        "stale": seen.stale,
        "services": rows(platform, actor),
    }


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value
