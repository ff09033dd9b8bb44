"""The one door for changes.

One PostgreSQL transaction holds the permission check, the change itself, its audit row and the
messages it owes to other systems. After commit the messages are delivered at once where that is
possible; where not, they stay in the outbox and the relay delivers them later, in order.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from operations import access
from operations.database import StoreUnavailable

if TYPE_CHECKING:
    from operations.platform import Platform

__all__ = [
    "Conflict",
    "Door",
    "FieldError",
    "Invalid",
    "NotFound",
    "Outcome",
    "StoreUnavailable",
    "canonical",
    "door",
    "entry_hash",
    "plain",
]

REASON_LIMIT = 500
ROWS_TOGETHER = 1000
_HEAD = text("SELECT last_id, hash, clock_timestamp() AS at FROM audit_head WHERE one = 1 FOR UPDATE")
_SEAL = text(
    "WITH entries AS (INSERT INTO audit"
    " (id, at, actor_id, actor_name, action, subject, before, after, reason, request_id, prev_hash, hash)"
    " SELECT * FROM jsonb_to_recordset(CAST(:entries AS jsonb)) AS entry (id bigint, at timestamptz, actor_id text,"
    " actor_name text, action text, subject text, before jsonb, after jsonb, reason text, request_id text,"
    " prev_hash text, hash text)),"
    " head AS (UPDATE audit_head SET last_id = :id, hash = :hash WHERE one = 1 AND last_id < :id)"
    # In the order of publishing, which ids of messages follow.
    " INSERT INTO outbox (topic, key, payload) SELECT topic, key, payload FROM ROWS FROM"
    " (jsonb_to_recordset(CAST(:messages AS jsonb)) AS (topic text, key text, payload jsonb)) WITH ORDINALITY"
    " AS message (topic, key, payload, place) ORDER BY place"
)


@dataclass(frozen=True, slots=True)
class FieldError:
    """One value that cannot be accepted, and what would be."""

    field: str
    message: str
    allowed: str = ""


class Invalid(Exception):
    """The new values cannot be accepted; nothing was changed."""

    def __init__(self, errors: list[FieldError]) -> None:
        self.errors = errors
        super().__init__("; ".join(map(_said, errors)))


def _said(error: FieldError) -> str:
    """With what would be accepted: where only the text arrives, in a workflow's failure, it is all there is."""
    allowed = f" (allowed: {error.allowed})" if error.allowed else ""
    return f"{error.field}: {error.message}{allowed}"


class Conflict(Exception):
    """Somebody else changed it first; nothing was changed. Carries both values, secrets masked."""

    def __init__(self, current: Any, yours: Any) -> None:
        self.current = current
        self.yours = yours
        super().__init__("It was changed by somebody else since you looked.")


class NotFound(Exception):
    """What was to be changed does not exist."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a change: saved under ``version``, and delivered or waiting for a system."""

    version: int = 0
    delivered: bool = True
    waiting_for: str | None = None


@dataclass
class Door:
    """One change on its way. ``session`` is inside the transaction."""

    session: Session
    actor: access.Actor
    action: str
    subject: str
    reason: str
    request_id: str | None
    version: int = 0
    """Set by the caller to the version the change produced."""
    outcome: Outcome = field(default_factory=Outcome)
    """Filled after the block has ended."""
    _audits: list[dict[str, Any]] = field(default_factory=list)
    _messages: list[dict[str, Any]] = field(default_factory=list)

    def audit(self, before: dict[str, Any] | None, after: dict[str, Any] | None, subject: str | None = None) -> None:
        """Record the change. Secrets must be masked already."""
        self._audits.append({"before": plain(before), "after": plain(after), "subject": subject or self.subject})

    def publish(self, topic: str, key: str, payload: dict[str, Any]) -> None:
        """Owe another system a message; delivered only if the transaction commits."""
        self._messages.append({"topic": topic, "key": key, "payload": plain(payload)})

    def seal(self) -> None:
        """Write the audit rows at the end of the chain, and the messages.

        The lock on the chain's head is taken last and held until commit: it gives all changes one
        order, so that ids of audit and outbox rows follow the order of commits.
        """
        if not self._audits and not self._messages:
            return
        head = self.session.execute(_HEAD).one()
        last_id, previous = head.last_id, head.hash
        rows = []
        for audit in self._audits:
            last_id += 1
            row = {
                "id": last_id,
                "at": head.at,
                "actor_id": clean(self.actor.id),
                "actor_name": clean(self.actor.name),
                "action": self.action,
                "reason": self.reason,
                "request_id": self.request_id,
                **audit,
            }
            row["subject"] = clean(row["subject"])
            row["prev_hash"], row["hash"] = previous, entry_hash(previous, row)
            previous = row["hash"]
            rows.append(row)
        # In one statement, or few of thousands of rows: everybody else waits for the lock.
        for start in range(0, max(len(rows), 1), ROWS_TOGETHER):
            last = start + ROWS_TOGETHER >= len(rows)
            values = {
                "entries": json.dumps(rows[start : start + ROWS_TOGETHER], default=datetime.isoformat),
                "messages": json.dumps(self._messages if last else []),
                "id": last_id,
                "hash": previous,
            }
            self.session.execute(_SEAL, values)

    @property
    def messages(self) -> list[tuple[str, str]]:
        """Topic and key of every message, each pair once, in order."""
        return list(dict.fromkeys((message["topic"], message["key"]) for message in self._messages))


@contextmanager
def door(
    platform: Platform,
    actor: access.Actor,
    permission: access.Permission,
    *,
    action: str,
    subject: str,
    reason: str = "",
    request_id: str | None = None,
    seconds: float | None = None,
) -> Iterator[Door]:
    """Let one change through, as a whole or not at all.

    It is stopped after ``seconds`` (default: the database's own limit); a change of thousands of rows asks for more,
    and then no single statement of it is stopped earlier. Raises access.Forbidden, StoreUnavailable, and whatever the
    block raises (Conflict, Invalid, NotFound); in each case nothing was changed.
    """
    from operations import outbox

    access.require(actor, permission)
    words = clean(reason or "").strip()
    if len(words) > REASON_LIMIT:
        raise Invalid([FieldError("reason", "is too long", f"at most {REASON_LIMIT} characters")])
    with _stopped_in_time(platform, seconds), platform.database.session(seconds=seconds) as session:
        if seconds is not None:
            session.execute(text(f"SET LOCAL statement_timeout = {int(seconds * 1000)}"))
        opened = Door(session, actor, action, subject, words, clean(request_id) if request_id else None)
        yield opened
        opened.seal()
    waiting = [
        outbox.system_of(topic) for topic, key in opened.messages if not outbox.deliver_soon(platform, topic, key)
    ]
    opened.outcome = Outcome(opened.version, not waiting, ", ".join(dict.fromkeys(waiting)) or None)


@contextmanager
def _stopped_in_time(platform: Platform, seconds: float | None) -> Iterator[None]:
    """Say of a change that was cut off that it took too long, not that PostgreSQL is away."""
    allowed = seconds or platform.database.pool.statement_timeout_ms / 1000 + 2
    began = time.monotonic()
    try:
        yield
    except StoreUnavailable as error:
        if time.monotonic() - began < allowed:
            raise
        raise StoreUnavailable(
            f"This change took longer than {allowed:.0f} s and was stopped.", detail=error.detail,
            advice="Nothing was changed. Try again when PostgreSQL has less to do, or change less at once.",
        ) from error  # fmt: skip


def clean(words: str) -> str:
    """Text that PostgreSQL can keep: no NUL, no lone surrogates."""
    if words.isascii() and "\x00" not in words:
        return words  # nearly always: a bulk change cleans a hundred thousand
    return words.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def plain(value: Any) -> Any:
    """``value`` as JSON that PostgreSQL's jsonb gives back unchanged."""
    if isinstance(value, str):
        return clean(value)
    if value is None or isinstance(value, int):  # and so is a bool
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        return int(value) if value.is_integer() else value
    if isinstance(value, dict):
        return {clean(str(name)): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return clean(str(value))


def canonical(value: Any) -> str:
    """JSON with one spelling per value: sorted keys, no spaces."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


_HASHED = ("id", "actor_id", "actor_name", "action", "subject", "before", "after", "reason", "request_id")


def entry_hash(previous: str, row: dict[str, Any]) -> str:
    """SHA-256, as hex, over the previous entry's hash and the canonical JSON of this one."""
    covered = {name: row[name] for name in _HASHED} | {"at": row["at"].astimezone(UTC).isoformat()}
    return hashlib.sha256(f"{previous}\n{canonical(covered)}".encode()).hexdigest()
