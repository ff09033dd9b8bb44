"""Mails of the platform: queued in a transaction, sent by the relay, tried again, given up, kept for 90 days.

A mail has a ``dedup``, which names what it is about: the same one is queued once. A process killed between the
server's "taken" and noting it sends again; both copies carry the same Message-ID.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from adapters.core import AdapterError, Unconfigured, utcnow
from adapters.smtp import SMTP
from adapters.smtp_client.message import Refused, valid
from models import Mail
from operations import access, change, outbox
from operations.access import Actor, Permission
from operations.change import FieldError, Invalid, NotFound, clean
from operations.platform import Platform

TOPIC = "mail"
GIVEN_UP_AFTER = timedelta(days=3)
SUBJECT_LIMIT = 200
BODY_LIMIT = 100_000
MOST = 200
STATUSES = ("queued", "sent", "failed", "canceled")


@dataclass(frozen=True, slots=True)
class Letter:
    """One mail as the console shows it. ``recipient`` is masked for those who may not see tenants."""

    id: int
    kind: str
    tenant: str | None
    recipient: str
    subject: str
    status: str
    attempts: int
    last_error: str | None
    created_at: datetime
    sent_at: datetime | None
    failed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Queue:
    """The queue at a glance. Counts but ``waiting`` are of the mails kept."""

    waiting: int
    waiting_since: datetime | None
    sent_day: int
    """Sent in the last 24 hours."""
    failed: int
    last_error: str | None
    last_error_at: datetime | None
    hours: tuple[tuple[datetime, int, int], ...]
    """The last 24 full and begun hours, oldest first: start, sent, failed."""

    @property
    def rate(self) -> float | None:
        """Share of the last 24 hours' settled mails that were sent, in percent; None without any."""
        sent, failed = sum(one[1] for one in self.hours), sum(one[2] for one in self.hours)
        return 100.0 * sent / (sent + failed) if sent + failed else None


def queue(
    platform: Platform,
    *,
    recipient: str,
    subject: str,
    body: str,
    kind: str,
    dedup: str,
    tenant_id: str | None = None,
) -> bool:
    """Queue one mail of plain text; False when ``dedup`` was queued before. Raises Invalid, StoreUnavailable."""
    with platform.database.session() as session:
        return owe(
            session, recipient=recipient, subject=subject, body=body, kind=kind, dedup=dedup, tenant_id=tenant_id
        )


def owe(
    session: Session, *, recipient: str, subject: str, body: str, kind: str, dedup: str, tenant_id: str | None = None
) -> bool:
    """As ``queue``, within the caller's transaction. Raises Invalid."""
    recipient, subject = clean(recipient).strip(), " ".join(clean(subject).split())
    wrong = []
    if not valid(recipient):
        wrong.append(FieldError("recipient", "is not a mail address", "somebody@example.com"))
    if not subject or len(subject) > SUBJECT_LIMIT:
        wrong.append(FieldError("subject", "is empty or too long", f"1 to {SUBJECT_LIMIT} characters"))
    if len(body) > BODY_LIMIT:
        wrong.append(FieldError("body", "is too long", f"at most {BODY_LIMIT:,} characters"))
    if wrong:
        raise Invalid(wrong)
    ident = session.scalar(
        text(
            "INSERT INTO mails (dedup, kind, tenant_id, recipient, subject, body) VALUES (:dedup, :kind,"
            " (SELECT id FROM tenants WHERE id = :tenant), :recipient, :subject, :body)"
            " ON CONFLICT (dedup) DO NOTHING RETURNING id"
        ),
        {"dedup": clean(dedup), "kind": clean(kind), "tenant": tenant_id, "recipient": recipient, "subject": subject,
         "body": clean(body)},
    )  # fmt: skip
    if ident is None:
        return False
    session.execute(
        text("INSERT INTO outbox (topic, key, payload) VALUES (:topic, :key, jsonb_build_object('id', :id))"),
        {"topic": TOPIC, "key": str(ident), "id": int(ident)},
    )
    return True


def cancel(platform: Platform, dedup: str) -> bool:
    """Do not send what waits under ``dedup``; False when it is sent, being sent or not known."""
    with platform.database.session() as session:
        found = session.scalar(
            text("UPDATE mails SET status = 'canceled' WHERE dedup = :dedup AND status = 'queued' RETURNING id"),
            {"dedup": clean(dedup)},
        )
    return found is not None


@outbox.handler(TOPIC, system="SMTP", slow=True)
def deliver(platform: Platform, messages: Sequence[outbox.Message]) -> None:
    """Send the mails that still wait. Raises AdapterError where one is to be tried again later."""
    for message in messages:
        _send(platform, message)


def _send(platform: Platform, message: outbox.Message) -> None:
    ident = int(message.payload["id"])
    with platform.database.session() as session:
        row = session.execute(
            text("SELECT dedup, recipient, subject, body, status FROM mails WHERE id = :id"), {"id": ident}
        ).one_or_none()
    if row is None or row.status != "queued":
        return
    try:
        adapter = cast(SMTP, platform.adapters["smtp"])
        adapter.send(row.recipient, row.subject, row.body, reference=row.dedup)
    except AdapterError as error:
        late = utcnow() - message.created_at > GIVEN_UP_AFTER
        final = isinstance(error, Refused) or late
        said = f"Given up after {GIVEN_UP_AFTER.days} days. {error.sentence}" if late else error.sentence
        _note(platform, ident, said, "failed" if final else "queued", tried=not isinstance(error, Unconfigured))
        if not final:
            raise
    else:
        _note(platform, ident, None, "sent")


def _note(platform: Platform, ident: int, error: str | None, status: str, *, tried: bool = True) -> None:
    said = None if error is None else clean(error)[:500]
    with platform.database.session() as session:
        session.execute(
            text(
                "UPDATE mails SET status = CASE WHEN :status = 'queued' THEN status ELSE :status END,"
                " attempts = attempts + :tried, last_error = :error,"
                " sent_at = CASE WHEN :status = 'sent' THEN clock_timestamp() END,"
                " failed_at = CASE WHEN :status = 'failed' THEN clock_timestamp() END WHERE id = :id"
            ),
            {"id": ident, "status": status, "tried": int(tried), "error": said},
        )


def retry(
    platform: Platform, actor: Actor, ident: int, *, reason: str, request_id: str | None = None
) -> change.Outcome:
    """Send a failed mail again.

    Raises access.Forbidden, Invalid (no reason, not a failed one), NotFound, StoreUnavailable.
    """
    if not (reason or "").strip():
        raise Invalid([FieldError("reason", "is asked for", "a few words on why")])
    with change.door(
        platform, actor, Permission.INFRA_OPERATE, action="mail.retry", subject=f"mail/{ident}", reason=reason,
        request_id=request_id,
    ) as door:  # fmt: skip
        row = door.session.scalars(select(Mail).where(Mail.id == ident).with_for_update()).one_or_none()
        if row is None:
            raise NotFound(f"There is no mail {ident}.")
        if row.status != "failed":
            raise Invalid([FieldError("mail", f"is {row.status}", "one that failed")])
        door.audit({"status": "failed", "error": row.last_error}, {"status": "queued", "kind": row.kind})
        row.status, row.failed_at = "queued", None
        door.publish(TOPIC, str(ident), {"id": ident})
    return door.outcome


def state(platform: Platform, actor: Actor) -> Queue:
    """The queue at a glance. Raises access.Forbidden, StoreUnavailable."""
    access.require(actor, Permission.INFRA_VIEW)
    with platform.database.session() as session:
        waiting = session.execute(text("SELECT count(*), min(created_at) FROM mails WHERE status = 'queued'")).one()
        failed = session.scalar(text("SELECT count(*) FROM mails WHERE status = 'failed'"))
        last = session.execute(
            text(
                "SELECT m.last_error, m.recipient, coalesce(m.failed_at, o.next_attempt_at, m.created_at) AS at"
                " FROM mails m LEFT JOIN LATERAL (SELECT least(max(next_attempt_at), now()) AS next_attempt_at"
                " FROM outbox WHERE topic = 'mail' AND key = m.id::text AND delivered_at IS NULL) o ON true"
                " WHERE m.last_error IS NOT NULL AND m.status IN ('queued', 'failed') ORDER BY m.id DESC LIMIT 1"
            )
        ).one_or_none()
        hours = session.execute(
            text(
                "SELECT at, count(m.*) FILTER (WHERE m.status = 'sent'), count(m.*) FILTER (WHERE m.status = 'failed')"
                " FROM generate_series(date_trunc('hour', now()) - interval '23 hours', date_trunc('hour', now()),"
                " interval '1 hour') AS at LEFT JOIN mails m ON m.created_at > now() - interval '7 days'"
                " AND date_trunc('hour', coalesce(m.sent_at, m.failed_at)) = at GROUP BY at ORDER BY at"
            )
        ).all()
        day = session.scalar(
            text("SELECT count(*) FROM mails WHERE status = 'sent' AND sent_at > now() - interval '24 hours'")
        )
    error = None if last is None else _hidden(last.last_error, last.recipient, actor)
    return Queue(
        int(waiting[0]), waiting[1], int(day or 0), int(failed or 0), error, None if last is None else last.at,
        tuple((at, int(sent), int(bad)) for at, sent, bad in hours),
    )  # fmt: skip


def recent(
    platform: Platform, actor: Actor, status: str | None = None, *, tenant: str | None = None, limit: int = 50
) -> list[Letter]:
    """Mails, newest first, at most ``limit`` (200). Raises access.Forbidden, Invalid, StoreUnavailable."""
    access.require(actor, Permission.INFRA_VIEW)
    if status is not None and status not in STATUSES:
        raise Invalid([FieldError("status", "is not one of them", ", ".join(STATUSES))])
    query = select(Mail).order_by(Mail.id.desc()).limit(max(1, min(limit, MOST)))
    if status is not None:
        query = query.where(Mail.status == status)
    if tenant is not None:
        query = query.where(Mail.tenant_id == clean(tenant))
    with platform.database.session() as session:
        return [_letter(row, actor) for row in session.scalars(query)]


def _letter(row: Any, actor: Actor) -> Letter:
    shown = row.recipient if actor.may(Permission.TENANTS_VIEW) else masked(row.recipient)
    return Letter(
        row.id, row.kind, row.tenant_id, shown, row.subject, row.status, row.attempts,
        None if row.last_error is None else _hidden(row.last_error, row.recipient, actor),
        row.created_at, row.sent_at, row.failed_at,
    )  # fmt: skip


def _hidden(error: str, recipient: str, actor: Actor) -> str:
    return error if actor.may(Permission.TENANTS_VIEW) else error.replace(recipient, masked(recipient))


def masked(address: str) -> str:
    """An address that tells the domain and no more than the first letter of the person."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}…@{domain}"
