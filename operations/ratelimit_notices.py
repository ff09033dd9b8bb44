"""Telling a tenant that it comes near a limit or passed it: one mail per limit, window and kind.

Windows shorter than an hour count as an hour, and all agents of a tenant that have limits of their own as one:
a tenant at its limit all day gets a handful of mails, not a thousand.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from adapters.core import utcnow
from models import RateLimitSignal
from operations import mail
from operations.change import Invalid
from operations.ratelimit_rules import window_text

log = logging.getLogger(__name__)

SHORTEST = timedelta(hours=1)
STALE = timedelta(hours=1)
"""A window that ended longer ago is no news."""
NO_ADDRESS = "no address"
ADMINS = "admins"
_ACRONYMS = {"api": "API", "llm": "LLM"}


def name(row: Mapping[str, Any]) -> str | None:
    """What a signal's mail is about, as the mail's ``dedup``; None for a signal of which no tenant is told."""
    if row["audience"] != "tenant":
        return None
    period = max(row["width"], SHORTEST).total_seconds()
    start = int(row["window_at"].timestamp() // period * period)
    whose = "agents" if row["agent"] else "tenant"
    return f"ratelimit:{row['key']}:{row['tenant']}:{whose}:{row['kind']}:{start}"


def owe(session: Session, rows: Sequence[Mapping[str, Any]]) -> int:
    """Queue the mails that new signals ask for, in the transaction that keeps these; how many."""
    fresh = {row["mail"]: row for row in rows if row["mail"] and row["window_at"] + row["width"] > utcnow() - STALE}
    if not fresh:
        return 0
    known = set(session.scalars(text("SELECT dedup FROM mails WHERE dedup = ANY(:names)"), {"names": list(fresh)}))
    wanted = {dedup: row for dedup, row in fresh.items() if dedup not in known}
    if not wanted:
        return 0
    tenants = {
        row.id: row
        for row in session.execute(
            text(
                "SELECT id, name, contact_email FROM tenants WHERE id = ANY(:ids) AND contact_email <> ''"
                " AND status <> 'closed'"
            ),
            {"ids": list({row["tenant"] for row in wanted.values()})},
        )
    }
    agents = {
        row.id: row.name
        for row in session.execute(
            text("SELECT id, name FROM agents WHERE id = ANY(:ids)"),
            {"ids": list({row["agent"] for row in wanted.values() if row["agent"]})},
        )
    }
    queued = 0
    for dedup, row in wanted.items():
        tenant = tenants.get(row["tenant"])
        if tenant is None:
            continue
        subject, body = words(row, tenant.name, agents.get(row["agent"], row["agent"]))
        try:
            queued += mail.owe(
                session, recipient=tenant.contact_email, subject=subject, body=body, kind=f"limit {row['kind']}",
                dedup=dedup, tenant_id=tenant.id,
            )  # fmt: skip
        except Invalid as error:
            log.warning("%s is not told of a limit: %s", tenant.id, error)
    return queued


def spoken(key: str) -> str:
    """A key as tenants read it: ``llm_tokens`` is "LLM tokens"."""
    return " ".join(_ACRONYMS.get(word, word) for word in key.replace("_", " ").split()) or key


def words(row: Mapping[str, Any], tenant: str, agent: str = "") -> tuple[str, str]:
    """Subject and body of the mail for one signal."""
    key, limit, used, policy = spoken(row["key"]), row["limit"], row["used"], row["policy"]
    whose = f"agent {agent} of {tenant}" if agent else tenant
    over = row["kind"] == "over"
    share = used * 100 // limit if limit else 100
    if over:
        happened = f"{whose} has reached its limit" if policy == "HARD" else f"{whose} has passed its limit"
        follows = (
            "Further calls are refused until its use falls below the limit again."
            if policy == "HARD"
            else "Nothing is refused: what goes beyond the limit is counted separately and is billed as overage."
        )
    else:
        happened = f"{whose} has used {share} % of its limit"
        follows = (
            "Calls above the limit are refused."
            if policy == "HARD"
            else "Calls above the limit are not refused: they are counted separately and billed as overage."
        )
    ends: datetime = (row["window_at"] + row["width"]).astimezone(UTC)
    window = window_text(int(row["width"].total_seconds()))
    happened = happened[0].upper() + happened[1:]
    body = (
        f"Hello,\n\n{happened} for {key}.\n\n"
        f"  Used:   {used:,}\n  Limit:  {limit:,} per {window}\n  Share:  {share} %\n"
        f"  Window: ends on {ends:%d %B %Y} at {ends:%H:%M:%S} UTC\n\n{follows}\n"
        f"From the end of the window on, what was used counts less and less, and not at all {window} later.\n\n"
        "You get this mail once per limit and window. Your contact at the platform can change the limit.\n"
    )
    subject = f"{happened} for {key}"
    return (subject if len(subject) <= mail.SUBJECT_LIMIT else f"{subject[: mail.SUBJECT_LIMIT - 1]}…"), body


def told(session: Session, signals: Sequence[RateLimitSignal]) -> dict[int, str]:
    """By id of signal: what became of telling the tenant, as ``ratelimit_signals.Signal.told`` says it."""
    names = [one.mail for one in signals if one.mail]
    mails: dict[str, str] = {
        row.dedup: row.status
        for row in session.execute(text("SELECT dedup, status FROM mails WHERE dedup = ANY(:names)"), {"names": names})
    }
    reachable = set(
        session.scalars(
            text("SELECT id FROM tenants WHERE id = ANY(:ids) AND contact_email <> ''"),
            {"ids": list({one.tenant for one in signals})},
        )
    )

    def fate(one: RateLimitSignal) -> str:
        if one.audience != "tenant":
            return ADMINS
        if one.mail in mails:
            return mails[one.mail]
        return "" if one.tenant in reachable else NO_ADDRESS

    return {one.id: fate(one) for one in signals}
