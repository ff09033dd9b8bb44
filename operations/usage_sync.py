"""Billing events handed to Lago, each once, and how that stands.

An event is written before it is sent (``usage_plan``) and never changes, and Lago takes one ``transaction_id`` of a
subscription once: what is sent again after a crash counts once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import text
from sqlalchemy.orm import Session

from adapters.core import AdapterError, Unexpected, deadline, utcnow
from adapters.core.redact import redact
from adapters.lago import Lago
from adapters.lago_records import events
from operations import access, ratelimit_usage, usage_plan
from operations.access import Actor, Permission
from operations.platform import Platform

REFUSED_FOR = timedelta(hours=1)
"""An event that Lago refused is offered again after this long: somebody may have mended what was wrong."""
EVENTS_KEPT = timedelta(days=400)
"""How long an event is kept once Lago has taken it: thirteen months, a year of invoices and the one before."""
MOST = 50
BUSY_SECONDS = events.SECONDS + 15
"""How long somebody else may hold a batch."""


@dataclass
class Sent:
    """What became of one batch. ``left`` counts what is still due now."""

    events: int = 0
    units: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    left: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """An event Lago does not take, in its words."""

    tenant: str
    key: str
    hour: datetime
    units: int
    why: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Unbillable:
    """Units of a tenant and key that nobody can be billed for now. ``since`` is the oldest hour of them."""

    tenant: str
    key: str
    units: int
    over: int
    since: datetime
    why: str


@dataclass(frozen=True, slots=True)
class HandedOver:
    """How the handing over stands."""

    waiting: int
    waiting_units: int
    waiting_since: datetime | None
    last_error: str
    """What kept the oldest waiting event back the last time, "" where nothing did."""
    sent_at: datetime | None
    sent_today: int
    """Units sent since midnight UTC."""
    refused: tuple[Refused, ...]
    """The oldest, at most ``MOST`` of ``refused_count``."""
    refused_count: int
    unbillable: tuple[Unbillable, ...]
    """The largest, at most ``MOST`` of ``unbillable_count``."""
    unbillable_count: int
    unbillable_units: int


def settle(platform: Platform, tenant: str) -> None:
    """Hand over everything a tenant used until now, before its subscription ends and nothing more can be billed.

    Events that Lago refuses stay. Raises AdapterError where it cannot be brought home, Lago does not answer, or
    somebody else holds events for longer than a batch may take.
    """
    lago = cast(Lago, platform.adapters["lago"])
    if lago.config.missing():
        return
    ratelimit_usage.collect(platform)
    book = usage_plan.read_book(platform)
    while book is not None and usage_plan.plan(platform, book).more:
        continue
    end = time.monotonic() + BUSY_SECONDS
    while (sent := send(platform, tenant=tenant)).left:
        if sent.events + sent.refused:
            continue
        # Somebody else is sending them, and may fail: with the subscription gone they could not be sent again.
        if time.monotonic() >= end:
            raise Unexpected(f"{sent.left:,} usage events of {tenant} are not handed over yet.")
        time.sleep(0.5)


def send(platform: Platform, size: int = events.MOST, *, tenant: str = "") -> Sent:
    """Send one batch of waiting events, a tenant's or anybody's, the oldest first, and note what became of each.

    Others send other events meanwhile; a process killed on the way leaves its own to the next. Raises AdapterError
    where Lago did not say what it took: everything is sent again.
    """
    done, problem = Sent(), None
    due = {"before": utcnow() - REFUSED_FOR, "tenant": tenant}
    with platform.database.session(seconds=events.SECONDS + 15) as session, deadline(events.SECONDS):
        batch = session.execute(
            text(
                "SELECT id, tenant_id, key, hour, amount, over, transaction_id, subscription_id, at FROM usage_events"
                " WHERE sent_at IS NULL AND (refused_at IS NULL OR refused_at < :before)"
                " AND :tenant IN ('', tenant_id) ORDER BY id LIMIT :size FOR UPDATE SKIP LOCKED"
            ),
            {**due, "size": max(1, min(size, events.MOST))},
        ).all()
        if batch:
            lago = cast(Lago, platform.adapters["lago"])
            try:
                verdict = lago.send_events([_event(row) for row in batch])
                done = _note(session, lago, batch, verdict)
            except AdapterError as error:
                problem = error
                _failed(session, [row.id for row in batch], error.sentence)
        done.left = session.execute(
            text(
                "SELECT count(*) FROM usage_events"
                " WHERE sent_at IS NULL AND (refused_at IS NULL OR refused_at < :before)"
                " AND :tenant IN ('', tenant_id)"
            ),
            due,
        ).scalar_one()
    if problem is not None:
        raise problem
    return done


def _failed(session: Session, ids: list[int], said: str) -> None:
    session.execute(
        text("UPDATE usage_events SET attempts = attempts + 1, last_error = :said WHERE id = ANY(:ids)"),
        {"said": redact(said)[:500], "ids": ids},
    )


def _event(row: Any) -> events.Event:
    properties = {"units": row.amount, "over": row.over}
    return events.Event(row.transaction_id, row.subscription_id, row.key, row.at, properties)


def _note(session: Session, lago: Lago, batch: Sequence[Any], verdict: events.Verdict) -> Sent:
    by_id = {row.transaction_id: row for row in batch}
    for ident, words in verdict.refused.items():
        session.execute(
            text(
                "UPDATE usage_events SET refused_at = clock_timestamp(), attempts = attempts + 1, last_error = :said"
                " WHERE id = :id"
            ),
            {"said": redact(words)[:500], "id": by_id[ident].id},
        )
    accepted = [by_id[ident] for ident in verdict.taken]
    for ident in sorted(verdict.known):
        try:
            theirs = lago.event_units(ident, by_id[ident].subscription_id)
        except AdapterError as error:
            # It waits: once it counts as sent, what Lago holds under its name is never compared.
            said = f"Lago has it already; what it holds could not be read. {error.sentence}"
            _failed(session, [by_id[ident].id], said)
            continue
        if theirs is not None:
            _adopt(session, by_id[ident], *theirs)
        accepted.append(by_id[ident])
    session.execute(
        text(
            "UPDATE usage_events SET sent_at = clock_timestamp(), attempts = attempts + 1, last_error = NULL,"
            " refused_at = NULL WHERE id = ANY(:ids)"
        ),
        {"ids": [row.id for row in accepted]},
    )
    done = Sent(len(accepted), refused=len(verdict.refused))
    for row in accepted:
        done.units[row.key] = done.units.get(row.key, 0) + row.amount
    return done


def _adopt(session: Session, row: Any, units: int, over: int) -> None:
    """Take over what Lago has under this event's name where it is not what we wrote; the rest is billed anew.

    That happens after PostgreSQL was restored from a backup: events sent since were forgotten, and named again.
    """
    if (units, over) == (row.amount, row.over):
        return
    session.execute(
        text("UPDATE usage_events SET amount = :units, over = :over WHERE id = :id"),
        {"units": units, "over": over, "id": row.id},
    )
    session.execute(
        text(
            "UPDATE rate_limit_usage SET billed = billed - :units, billed_over = billed_over - :over"
            " WHERE (key, hour) = (:key, :hour) AND subject = (SELECT subject FROM rate_limit_usage WHERE"
            " (key, hour) = (:key, :hour) AND split_part(subject, '/', 1) = :tenant ORDER BY billed DESC LIMIT 1)"
        ),
        {
            "units": row.amount - units, "over": row.over - over,
            "key": row.key, "hour": row.hour, "tenant": row.tenant_id,
        },
    )  # fmt: skip


def waiting(platform: Platform) -> int:
    """How many events Lago has not taken yet, refused ones among them. Raises StoreUnavailable."""
    with platform.database.session() as session:
        return int(session.scalar(text("SELECT count(*) FROM usage_events WHERE sent_at IS NULL")) or 0)


def handed_over(platform: Platform, actor: Actor) -> HandedOver:
    """How the handing over stands. Raises access.Forbidden without infra:view, StoreUnavailable."""
    access.require(actor, Permission.INFRA_VIEW)
    with platform.database.session() as session:
        now = session.execute(
            text(
                "SELECT count(*) AS n, coalesce(sum(amount), 0) AS units, min(created_at) AS since,"
                " (array_agg(last_error ORDER BY id))[1] AS said FROM usage_events"
                " WHERE sent_at IS NULL AND refused_at IS NULL"
            )
        ).one()
        last = session.execute(
            text(
                "SELECT (SELECT max(sent_at) FROM usage_events) AS at, coalesce(sum(amount), 0) AS units"
                " FROM usage_events WHERE sent_at >= date_trunc('day', now(), 'UTC')"
            )
        ).one()
        refused = session.execute(
            text(
                "SELECT tenant_id, key, hour, amount, last_error, attempts, count(*) OVER () AS n FROM usage_events"
                " WHERE sent_at IS NULL AND refused_at IS NOT NULL ORDER BY id LIMIT :most"
            ),
            {"most": MOST},
        ).all()
        unbillable = session.execute(
            text(
                "SELECT tenant_id, key, amount, over, since, reason, sum(amount) OVER () AS whole,"
                " count(*) OVER () AS n FROM usage_unbillable ORDER BY amount DESC, tenant_id, key LIMIT :most"
            ),
            {"most": MOST},
        ).all()
    return HandedOver(
        int(now.n), int(now.units), now.since, now.said or "", last.at, int(last.units),
        tuple(Refused(row[0], row[1], row[2], row[3], row[4] or "", row[5]) for row in refused),
        int(refused[0].n) if refused else 0,
        tuple(Unbillable(*row[:6]) for row in unbillable),
        int(unbillable[0].n) if unbillable else 0,
        int(unbillable[0].whole) if unbillable else 0,
    )  # fmt: skip
