"""What can be done to a PostgreSQL server's sessions: cancel a statement, end a session."""

from __future__ import annotations

from datetime import datetime
from typing import cast

from adapters.core import AdapterError
from adapters.postgresql import PostgreSQL
from adapters.postgresql_stats.activity import Session
from operations import change
from operations.access import Actor, Permission, require
from operations.platform import Platform

REASON_LETTERS = 300


def cancel(
    platform: Platform, actor: Actor, pid: int, backend_start: datetime, reason: str, request_id: str | None = None
) -> Session:
    """Cancel the running statement of that very session, and return the session as it was.

    The session is named by pid and start, so a pid used again is never hit. Raises Forbidden,
    Invalid (no reason), NotFound (the session is gone) or AdapterError (the server refused).
    """
    return _end(platform, actor, pid, backend_start, reason, request_id, terminate=False)


def terminate(
    platform: Platform, actor: Actor, pid: int, backend_start: datetime, reason: str, request_id: str | None = None
) -> Session:
    """End that very session; its transaction is rolled back. Raises as :func:`cancel`."""
    return _end(platform, actor, pid, backend_start, reason, request_id, terminate=True)


def _end(
    platform: Platform, actor: Actor, pid: int, backend_start: datetime, reason: str, request_id: str | None,
    *, terminate: bool,
) -> Session:  # fmt: skip
    require(actor, Permission.INFRA_OPERATE)
    reason = reason.strip()
    if not reason or len(reason) > REASON_LETTERS:
        raise change.Invalid([change.FieldError("reason", "Say why.", f"1 to {REASON_LETTERS} letters")])
    adapter = cast(PostgreSQL, platform.adapters["postgresql"])
    session = adapter.session(pid, backend_start)
    if session is None:
        raise change.NotFound(f"Session {pid} has ended.")
    action = f"postgresql.session.{'terminate' if terminate else 'cancel'}"
    subject = f"postgresql:session:{pid}"
    before = {
        "pid": pid,
        "backend_start": backend_start.isoformat(),
        "user": session.user,
        "database": session.database,
        "application": session.application,
        "client": session.client,
        "state": session.state,
        "query": session.query,
    }

    def record(outcome: str) -> None:
        with change.door(
            platform, actor, Permission.INFRA_OPERATE, action=action, subject=subject, reason=reason,
            request_id=request_id,
        ) as door:  # fmt: skip
            door.audit(before, {"outcome": outcome})

    # The intention is on record before anything happens: a console that dies in between leaves a trace.
    record("asked for")
    try:
        done = adapter.terminate(pid, backend_start) if terminate else adapter.cancel(pid, backend_start)
    except AdapterError as error:
        record(f"failed: {error.sentence}")
        raise
    record("done" if done else "the session had ended")
    platform.readings.forget("postgresql:")
    if not done:
        raise change.NotFound(f"Session {pid} has ended.")
    return session
