"""Workflows of Temporal for programs: how many of each type, how they end, how long they take."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BeforeValidator

from api import shapes
from api.auth import TheActor, ThePlatform
from operations import workflow_types
from operations.workflow_types import Row

ORDER = -1
"""Before /infrastructure/{service}/…, whose parameter would take "temporal" for any service."""
router = APIRouter(prefix="/infrastructure/temporal", tags=["Workflows"])
Hours = Annotated[Literal[1, 24, 168], BeforeValidator(int)]
"""The page's spans: what is read is shared with it."""


def _wire(row: Row) -> dict[str, Any]:
    counts, outcome = row.counts, row.outcome
    last = outcome.last if outcome else None
    return {
        "type": row.type, "own": row.own, "count": counts.total, "running": counts.running, "pending": row.pending,
        "completed": counts.completed, "failed": counts.failed, "timed_out": counts.timed_out,
        "canceled": counts.canceled, "terminated": counts.terminated, "continued_as_new": counts.continued,
        "failure_rate_percent": None if row.failure_rate is None else round(row.failure_rate, 2),
        "duration_seconds": {
            "p50": outcome.p50 if outcome else None, "p95": outcome.p95 if outcome else None,
            "sample": outcome.sample if outcome else None,
        },
        "last_failure": None if last is None else {
            "workflow_id": last.workflow_id, "run_id": last.run_id, "at": shapes.wire(last.at),
            "kind": last.said.kind, "step": last.said.step, "message": last.said.message or None,
        },
    }  # fmt: skip


@router.get("/workflows", summary="Workflow types with counts")
def workflows(
    platform: ThePlatform,
    actor: TheActor,
    hours: Annotated[
        Hours | None,
        Query(description="Only executions started within so many hours; all the namespace keeps without it"),
    ] = None,
) -> dict[str, Any]:
    """Those that failed most first. `running` holds the `pending`: open executions that no worker has begun, or that
    wait for one of their type's places. `failure_rate_percent` is failed and timed out of those that completed, failed
    or timed out; durations are of the latest of these, at most 500. A failure's `message` is null without the
    permission to read payloads. `late` are types whose numbers are older than `read_at`, `unknown` says how many could
    not be counted at all so far: the server was too slow. Shared with the page and refreshed while somebody asks;
    `read_at` says when.
    """
    rows, read_at, counted = workflow_types.listing(platform, actor, hours)
    return {
        "hours": hours,
        "read_at": shapes.wire(read_at),
        "items": [_wire(row) for row in rows],
        "more": counted.more,
        "without_executions": counted.idle,
        "pending_complete": counted.places_known,
        "late": sorted(counted.late),
        "unknown": counted.unknown,
    }
