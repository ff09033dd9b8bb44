"""Counted usage becomes billing events: each unit in exactly one.

One transaction writes the events (``usage_events``) and notes on the counted rows (``rate_limit_usage``) how much of
them they took: after a crash either both are there or neither. An agent with a limit of its own is counted apart from
its tenant, never in both; billed is the tenant.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import cast

from sqlalchemy import text
from sqlalchemy.orm import Session

from adapters.lago import Lago
from operations import stopping
from operations.platform import Platform

PLAN_LOCK = 0x50_49_4C_4F_54_05
ROWS_PER_PLAN = 2000

Due = dict[tuple[str, str, datetime], tuple[int, int]]
"""Units and units over by tenant, key and hour."""


@dataclass(frozen=True, slots=True)
class Payer:
    """The subscription a tenant's usage is billed to, and since when it runs."""

    subscription: str
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Book:
    """What Lago can bill: payers by tenant, why other tenants have none, and codes of billable metrics."""

    payers: dict[str, Payer]
    without: dict[str, str]
    codes: frozenset[str]


@dataclass
class Planned:
    """What was turned into events. ``more`` where some is left for another transaction."""

    events: int = 0
    units: dict[str, int] = field(default_factory=dict)
    unbillable: dict[str, int] = field(default_factory=dict)
    """Units nobody can be billed for, by key; told by the last transaction."""
    more: bool = False


def read_book(platform: Platform) -> Book | None:
    """Ask Lago about the tenants whose usage is not all billed; None where there are none. Raises AdapterError."""
    with platform.database.session(seconds=30) as session:
        waiting = session.execute(
            text(
                "SELECT owner, t.id, t.lago_customer_id, t.lago_subscription_id FROM (SELECT DISTINCT"
                " split_part(subject, '/', 1) AS owner FROM rate_limit_usage"
                " WHERE amount > billed OR over > billed_over LIMIT 100000) AS u LEFT JOIN tenants AS t ON t.id = owner"
            )
        ).all()
    if not waiting:
        return None
    lago = cast(Lago, platform.adapters["lago"])
    codes = lago.metric_codes()
    running: dict[str, Payer] = {}
    of_customer: dict[str, Payer] = {}
    page, more = 1, True
    while more:
        stopping.check()
        rows, more = lago.active_subscriptions(page)
        page += 1
        for one in rows:
            # Newest first: the first of a customer is the one it is on now.
            running[one.external_id] = payer = Payer(one.external_id, one.started_at)
            of_customer.setdefault(one.customer_id, payer)
    payers: dict[str, Payer] = {}
    without: dict[str, str] = {}
    for owner, tenant, customer, subscription in waiting:
        found = running.get(subscription) or of_customer.get(customer)
        if tenant is None:
            without[owner] = "is no tenant here"
        elif found is None:
            without[owner] = "has no active subscription in Lago"
        else:
            payers[owner] = found
    return Book(payers, without, codes)


def plan(platform: Platform, book: Book, *, rows: int = ROWS_PER_PLAN) -> Planned:
    """Turn at most ``rows`` counted rows into events: one per tenant, key and hour. Raises StoreUnavailable."""
    stopping.check()
    able = {"payers": list(book.payers), "codes": list(book.codes)}
    with platform.database.session(seconds=60) as session:
        # One at a time, because the parts of an hour are numbered.
        session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": PLAN_LOCK})
        taken = session.execute(
            text(
                "SELECT key, subject, hour, split_part(subject, '/', 1) AS owner, greatest(amount - billed, 0) AS"
                " amount, greatest(over - billed_over, 0) AS over FROM rate_limit_usage WHERE (amount > billed OR"
                " over > billed_over) AND split_part(subject, '/', 1) = ANY(:payers) AND key = ANY(:codes)"
                " ORDER BY hour, key, subject LIMIT :rows FOR UPDATE"
            ),
            {**able, "rows": rows},
        ).all()
        due: Due = {}
        units: dict[str, int] = {}
        for row in taken:
            amount, over = due.get((row.owner, row.key, row.hour), (0, 0))
            due[row.owner, row.key, row.hour] = amount + row.amount, over + row.over
            units[row.key] = units.get(row.key, 0) + row.amount
        if due:
            _write(session, book, due)
            session.execute(
                text(
                    "UPDATE rate_limit_usage SET billed = greatest(billed, amount), billed_over ="
                    " greatest(billed_over, over) WHERE key = :key AND subject = :subject AND hour = :hour"
                ),
                [{"key": row.key, "subject": row.subject, "hour": row.hour} for row in taken],
            )
        more = len(taken) == rows
        return Planned(len(due), units, {} if more else _note_unbillable(session, book, able), more)


def _write(session: Session, book: Book, due: Due) -> None:
    tenants, names, hours = (list(column) for column in zip(*due, strict=True))
    parts = {
        (row.tenant_id, row.key, row.hour): int(row.part)
        for row in session.execute(
            text(
                "SELECT tenant_id, key, hour, max(part) AS part FROM usage_events JOIN"
                " unnest(CAST(:tenants AS text[]), CAST(:keys AS text[]), CAST(:hours AS timestamptz[]))"
                " AS due (tenant_id, key, hour) USING (tenant_id, key, hour) GROUP BY 1, 2, 3"
            ),
            {"tenants": tenants, "keys": names, "hours": hours},
        )
    }
    rows = []
    for (tenant, key, hour), (amount, over) in due.items():
        payer, part = book.payers[tenant], parts.get((tenant, key, hour), 0) + 1
        rows.append({
            "tenant": tenant, "key": key, "hour": hour, "part": part, "amount": amount, "over": over,
            "transaction": f"{tenant}:{key}:{hour.astimezone(UTC):%Y-%m-%dT%H}:{part}",
            "subscription": payer.subscription, "at": _moment(hour, payer.since),
        })  # fmt: skip
    session.execute(
        text(
            "INSERT INTO usage_events (tenant_id, key, hour, part, amount, over, transaction_id, subscription_id, at)"
            " VALUES (:tenant, :key, :hour, :part, :amount, :over, :transaction, :subscription, :at)"
        ),
        rows,
    )


def _moment(hour: datetime, since: datetime | None) -> datetime:
    """The hour, or the second after the subscription began: Lago bills no event from before it."""
    return hour if since is None else max(hour, since.replace(microsecond=0) + timedelta(seconds=1))


def _note_unbillable(session: Session, book: Book, able: dict[str, list[str]]) -> dict[str, int]:
    """Write down what nobody can be billed for, and why. It stays counted, and is billed once somebody can be."""
    found = session.execute(
        text(
            "SELECT split_part(subject, '/', 1) AS owner, key, sum(greatest(amount - billed, 0)) AS amount,"
            " sum(greatest(over - billed_over, 0)) AS over, min(hour) AS since FROM rate_limit_usage"
            " WHERE (amount > billed OR over > billed_over)"
            " AND NOT (split_part(subject, '/', 1) = ANY(:payers) AND key = ANY(:codes))"
            " GROUP BY 1, 2 ORDER BY 1, 2 LIMIT 100000"
        ),
        able,
    ).all()
    session.execute(text("DELETE FROM usage_unbillable"))
    units: dict[str, int] = {}
    rows = []
    for row in found:
        units[row.key] = units.get(row.key, 0) + int(row.amount)
        reason = book.without.get(row.owner)
        if reason is None:
            reason = "no billable metric in Lago" if row.owner in book.payers else "came while Lago was asked"
        rows.append({**row._mapping, "reason": reason})
    if rows:
        session.execute(
            text(
                "INSERT INTO usage_unbillable (tenant_id, key, amount, over, since, reason)"
                " VALUES (:owner, :key, :amount, :over, :since, :reason)"
            ),
            rows,
        )
    return units
