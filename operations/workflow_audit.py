"""Changes made in Temporal itself, on record before and after."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from adapters.core import AdapterError
from operations import change
from operations.access import Actor, Permission, require
from operations.platform import Platform

log = logging.getLogger(__name__)
REASON_LETTERS = 300


@dataclass
class Record:
    """What is known of a change on its way; the block fills ``before`` and ``after``."""

    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = field(default=None)


def reasoned(reason: str) -> str:
    """The reason without blanks around it. Raises Invalid where there is none."""
    said = (reason or "").strip()
    if not said or len(said) > REASON_LETTERS:
        raise change.Invalid([change.FieldError("reason", "Say why.", f"1 to {REASON_LETTERS} letters")])
    return said


@contextmanager
def recorded(
    platform: Platform, actor: Actor, *, action: str, subject: str, reason: str, asked: dict[str, Any],
    request_id: str | None = None, permission: Permission = Permission.WORKFLOWS_OPERATE,
) -> Iterator[Record]:  # fmt: skip
    """Put on record that something is asked for, let the block do it, and put on record what came of it.

    The intention is kept before anything happens, so that a console that dies in between leaves a trace.
    Raises Forbidden and Invalid (no reason) before, and whatever the block raises.
    """
    require(actor, permission)
    said = reasoned(reason)

    def keep(before: dict[str, Any] | None, after: dict[str, Any]) -> None:
        with change.door(
            platform, actor, permission, action=action, subject=subject, reason=said, request_id=request_id
        ) as door:
            door.audit(before, after)

    record = Record()
    keep(None, {"outcome": "asked for", **asked})
    try:
        yield record
    except AdapterError as error:
        words = error.sentence
        _late(lambda: keep(record.before, {"outcome": f"failed: {words}"}), action, subject)
        raise
    except (change.Conflict, change.Invalid, change.NotFound) as error:
        words = str(error)
        _late(lambda: keep(record.before, {"outcome": f"refused: {words}"}), action, subject)
        raise
    after = {"outcome": "done", **(record.after or {})}
    _late(lambda: keep(record.before, after), action, subject)


def _late(keep: Any, action: str, subject: str) -> None:
    """Keep what came of it; a database that left in between has the intention, and the log has the rest."""
    try:
        keep()
    except change.StoreUnavailable:
        log.exception("what came of %s on %s could not be recorded", action, subject)
