"""Delivering what committed changes owe to other systems: in order per key, at least once.

Everything waiting for one topic and key is delivered together, under an advisory lock of that key,
so that order holds among any number of processes. Handlers must be idempotent: a process killed
between delivering and noting it delivers again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from adapters.core import AdapterError, deadline, utcnow
from adapters.core.redact import redact
from operations.database import TURNS_IN_TIME, StoreUnavailable, take_turns, together
from operations.loop import Loop
from operations.platform import Platform

log = logging.getLogger(__name__)

SOON_SECONDS = 2.0
HANDLER_SECONDS = 5.0
KEYS_PER_PASS = 100
ROWS_PER_KEY = 200
FAILURES_PER_PASS = 3
"""Of one topic, in a row."""
LONGEST_BACKOFF_S = 60
RELAY_LOCK = 0x50_49_4C_4F_54_02
_WAITING = (
    "SELECT id, topic, key, payload, created_at, attempts FROM outbox"
    " WHERE delivered_at IS NULL AND topic = %(topic)s AND key = %(key)s ORDER BY id LIMIT %(limit)s"
)
_DELIVERED = text(
    "UPDATE outbox SET delivered_at = clock_timestamp(), attempts = attempts + 1, last_error = NULL"
    " WHERE id = ANY(:ids)"
)


@dataclass(frozen=True, slots=True)
class Message:
    """One message as a handler receives it."""

    id: int
    topic: str
    key: str
    payload: dict[str, Any]
    created_at: datetime
    attempts: int


Handler = Callable[[Platform, Sequence[Message]], None]
_handlers: dict[str, tuple[str, Handler]] = {}
_slow: set[str] = set()


def handler(topic: str, system: str = "Redis", *, slow: bool = False) -> Callable[[Handler], Handler]:
    """Register the function that delivers a topic's messages to ``system`` (named to people who wait).

    It gets all waiting messages of one key in order of commit, and raises when they were not delivered.
    ``slow``: a relay of its own brings it, so that a receiver that takes its time holds up nobody else.
    """

    def register(function: Handler) -> Handler:
        _handlers[topic] = (system, function)
        if slow:
            _slow.add(topic)
        return function

    return register


def system_of(topic: str) -> str:
    """The system a topic is delivered to."""
    return _handlers[topic][0] if topic in _handlers else topic


def deliver_soon(platform: Platform, topic: str, key: str) -> bool:
    """Deliver what waits for a key now; False where it must wait for the relay. Never raises."""
    try:
        return deliver(platform, topic, key, seconds=SOON_SECONDS)
    except (StoreUnavailable, AdapterError) as error:
        log.warning("%s %s waits in the outbox: %s", topic, key, error)
        return False


def hold(session: Session, topic: str, key: str) -> None:
    """Let nobody else deliver this key until the transaction ends: what is read now is the newest that may be there."""
    take_turns(session, _turns(topic, key))


def _turns(topic: str, key: str) -> str:
    return f"outbox:{topic}:{key}"


def deliver(platform: Platform, topic: str, key: str, *, seconds: float = HANDLER_SECONDS) -> bool:
    """Deliver everything waiting for one key, in order; True when nothing waits any more.

    A failing handler is noted on the rows with the time of the next attempt. Raises StoreUnavailable.
    """
    while True:
        with platform.database.session(seconds=seconds + 5) as session:
            # Statements of their own: the second sees what was delivered while the first one waited.
            _, rows = together(
                session,
                (TURNS_IN_TIME, {"name": _turns(topic, key), "wait": f"{int(seconds * 1000)}ms"}),
                (_WAITING, {"topic": topic, "key": key, "limit": ROWS_PER_KEY}),
            )
            if not rows:
                return True
            messages = [Message(*row) for row in rows]
            problem = _hand_over(platform, topic, messages, seconds)
            ids = [message.id for message in messages]
            if problem:
                wait = min(LONGEST_BACKOFF_S, 2 ** min(messages[0].attempts, 10))
                session.execute(
                    text(
                        "UPDATE outbox SET attempts = attempts + 1, last_error = :error, next_attempt_at = :next"
                        " WHERE id = ANY(:ids)"
                    ),
                    {"error": problem, "next": utcnow() + timedelta(seconds=wait), "ids": ids},
                )
                return False
            session.execute(_DELIVERED, {"ids": ids})
        if len(rows) < ROWS_PER_KEY:
            return True


def _hand_over(platform: Platform, topic: str, messages: list[Message], seconds: float) -> str:
    if topic not in _handlers:
        return f"this process knows no handler for {topic}"
    try:
        with deadline(seconds):
            _handlers[topic][1](platform, messages)
    except Exception as error:  # noqa: BLE001  whatever a handler raises, its messages wait and others go on
        log.warning("delivering %s %s failed: %s", topic, messages[0].key, redact(repr(error)))
        return redact(f"{type(error).__name__}: {error}")[:500] or type(error).__name__
    return ""


def relay_once(platform: Platform, *, slow: bool = False) -> int:
    """One pass: deliver every key that is due, oldest first, at most 100; the number of keys delivered.

    Of the slow topics, or of all others. Only one process passes at a time; the others return 0 at once.
    """
    with platform.database.session(seconds=60) as session:
        lock = RELAY_LOCK + 0x100 * slow
        if not session.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": lock}):
            return 0
        topics = [topic for topic in _handlers if (topic in _slow) is slow]
        due = session.execute(
            text(
                "SELECT topic, key FROM (SELECT DISTINCT ON (topic, key) topic, key, id, next_attempt_at FROM outbox"
                " WHERE delivered_at IS NULL AND topic = ANY(:topics) ORDER BY topic, key, id) first"
                " WHERE next_attempt_at <= clock_timestamp() ORDER BY id LIMIT :limit"
            ),
            {"limit": KEYS_PER_PASS, "topics": topics},
        ).all()
        end = utcnow() + timedelta(seconds=40)
        done = 0
        failed: Counter[str] = Counter()
        for topic, key in due:
            # A receiver that is away is asked again in the next pass: a thousand waiting mails must not take hours.
            if utcnow() < end and failed[topic] < FAILURES_PER_PASS:
                delivered = deliver(platform, topic, key)
                done += delivered
                failed[topic] = 0 if delivered else failed[topic] + 1
        return done


def waiting(platform: Platform) -> int:
    """How many messages wait."""
    with platform.database.session() as session:
        return int(session.scalar(text("SELECT count(*) FROM outbox WHERE delivered_at IS NULL")) or 0)


class Relay(Loop):
    """The thread that delivers what waits: for the slow systems, or for all others."""

    def __init__(self, platform: Platform, every: float = 1.0, *, slow: bool = False) -> None:
        super().__init__(
            "outbox-relay-slow" if slow else "outbox-relay", lambda: relay_once(platform, slow=slow), log,
            "the outbox waits", every=every, first=every,
        )  # fmt: skip
