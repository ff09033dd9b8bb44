"""Rate limits of the demo world: overrides somebody would have set, and the last days' use by the hour."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import psycopg

from sandbox.demo.world import World

HOURLY_DAYS = 10
_OVERRIDES: tuple[tuple[str, str, str | None, int | None, int | None, str, str], ...] = (
    # tenant, key, agent, limit, days until it expires, reason, owner
    ("everline-health", "api_calls", None, 25_000, 6, "Import of ten years of patient records", "ada"),
    ("fernway-foods", "api_calls", None, 2_500, 21, "Black Friday promotion", "ivo"),
    ("harborlight-books", "llm_tokens", None, 250_000, 2, "Trial of the catalogue assistant", "pim"),
    ("cobalt-legal", "api_calls", None, 20, None, "Unpaid since October", "bea"),
    ("northgate-bank", "file_uploads", None, 2_000, None, "Contract of 2026, annex C", "bea"),
    ("gable-sons", "voice_minutes", None, 15, 13, "Trial of the phone assistant", "pim"),
    ("marrow-coffee", "llm_tokens", "marrow-coffee-agent-1", 50_000, None, "Runaway summaries in September", "ivo"),
)
# Shares of a day's use by UTC hour: a working day with a long evening.
_HOURS = (1, 1, 1, 1, 1, 2, 3, 5, 7, 8, 8, 8, 7, 8, 8, 7, 6, 5, 4, 4, 3, 2, 2, 1)


def add_overrides(connection: psycopg.Connection[Any], now: datetime) -> None:
    """A handful of overrides; rows that are there are kept. Redis follows by reconciliation."""
    for tenant, key, agent, limit, days, reason, owner in _OVERRIDES:
        connection.execute(
            "WITH locked AS (UPDATE rate_limit_keys SET version = version + 1 WHERE key = %(key)s RETURNING version) "
            "INSERT INTO rate_limit_policies (key, scope, tenant_id, agent_id, limit_value, expires_at, reason, owner,"
            " version, updated_by) "
            "SELECT %(key)s, %(scope)s, tenants.id, %(agent)s, %(limit)s, %(expires)s, %(reason)s, %(owner)s,"
            " locked.version, %(owner)s FROM locked, tenants WHERE tenants.id = %(tenant)s ON CONFLICT DO NOTHING",
            {
                "key": key,
                "scope": "AGENT" if agent else "TENANT",
                "agent": agent,
                "tenant": tenant,
                "limit": limit,
                "expires": now + timedelta(days=days) if days else None,
                "reason": reason,
                "owner": owner,
            },
        )


def hourly(made: World, now: datetime) -> Iterator[tuple[str, str, datetime, int, int, int, int, int]]:
    """Rows of rate_limit_usage: the last days' use spread over their hours, sums kept to the unit.

    All of it was billed: the demo's Lago begins with it.
    """
    first = (now - timedelta(days=HOURLY_DAYS)).date()
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    for row in made.usage:
        if row.day < first:
            continue
        midnight = datetime(row.day.year, row.day.month, row.day.day, tzinfo=now.tzinfo)
        rng = random.Random(f"{made.seed}/hours/{row.tenant_id}/{row.key}/{row.day}")
        weights = [share * rng.uniform(0.5, 1.5) for share in _HOURS]
        parts = [_spread(amount, weights) for amount in (row.amount, row.over, row.blocked)]
        for hour, (amount, over, blocked) in enumerate(zip(*parts, strict=True)):
            at = midnight + timedelta(hours=hour)
            if at < this_hour and (amount or over or blocked):
                yield row.key, row.tenant_id, at, amount, over, blocked, amount, over


def _spread(total: int, weights: list[float]) -> list[int]:
    """``total`` in whole parts in proportion to ``weights``, none lost to rounding."""
    whole = sum(weights)
    out, given, passed = [], 0, 0.0
    for weight in weights:
        passed += weight
        part = round(total * passed / whole) - given
        given += part
        out.append(part)
    return out
