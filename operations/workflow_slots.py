"""Places: how many runs of a type work at once over all workers, first come first served.

A run asks as it begins. While a place is free it goes on at once; otherwise it waits, costing nothing but a row,
until the run that leaves, a raised maximum or the next look of any worker gives it a place and tells it so.
Everything that gives places of a type holds that type's lock, so the maximum holds among any number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import CursorResult, text
from sqlalchemy.orm import Session

from operations import access
from operations.access import Actor, Permission
from operations.database import take_turns
from operations.platform import Platform
from operations.workflow_rules import DEFAULT, FALLBACK

AT_ONCE = 500
"""Places given in one step; the next step follows within a second."""
UNTOLD_SECONDS = 1.0
"""After this a run that has its place and was not told is told by whoever looks."""
BUSY_SECONDS, IDLE_SECONDS = 5.0, 60.0
"""How often a run is looked after: one that works while others wait for its place, and every other."""
LOOKED_AFTER = 20


@dataclass(frozen=True, slots=True)
class Place:
    """One run that has or wants a place. ``run_id`` is its original id, which a reset keeps."""

    type: str
    workflow_id: str
    run_id: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of asking: whether the run may work, and the others that got a place and must be told."""

    admitted: bool
    others: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True)
class Occupancy:
    """A type's places now."""

    type: str
    working: int
    waiting: int
    oldest: datetime | None
    """Since when the first in the queue waits."""


def ask(platform: Platform, place: Place, asked_at: datetime, *, continued: bool = False) -> Answer:
    """Take a place, or a number in the queue ordered by ``asked_at``. Asking again changes nothing.

    ``continued``: the run goes on where another of the same workflow ended, and takes over its place.
    Raises StoreUnavailable.
    """
    key = {"w": place.workflow_id, "r": place.run_id, "t": place.type}
    with platform.database.session() as session:
        _lock(session, place.type)
        state = session.scalar(text("SELECT state FROM workflow_slots WHERE workflow_id = :w AND run_id = :r"), key)
        if state is None and continued and _take_over(session, key):
            state = "running"
        if state is None:
            # A workflow has one open run at a time: what earlier runs left behind is free.
            session.execute(text("DELETE FROM workflow_slots WHERE workflow_id = :w AND run_id <> :r"), key)
            session.execute(
                text(
                    "INSERT INTO workflow_slots (workflow_id, run_id, type, state, asked_at)"
                    " VALUES (:w, :r, :t, 'waiting', :at)"
                ),
                {**key, "at": asked_at},
            )
        given = _admit(session, place.type)
        admitted = state == "running" or place in given
        if admitted:
            _note_told(session, [place])
    return Answer(admitted, tuple(one for one in given if one != place))


def leave(platform: Platform, place: Place) -> tuple[Place, ...]:
    """Give a place or a number in the queue back; the runs that got a place thereby. Raises StoreUnavailable."""
    with platform.database.session() as session:
        _lock(session, place.type)
        session.execute(
            text("DELETE FROM workflow_slots WHERE workflow_id = :w AND run_id = :r"),
            {"w": place.workflow_id, "r": place.run_id},
        )
        return tuple(_admit(session, place.type))


def admit(platform: Platform) -> tuple[Place, ...]:
    """Give every free place, and name those that got one and do not know yet. Raises StoreUnavailable."""
    with platform.database.session() as session:
        types = list(session.scalars(text("SELECT DISTINCT type FROM workflow_slots WHERE state = 'waiting'")))
        late = session.execute(
            text(
                "SELECT type, workflow_id, run_id FROM workflow_slots WHERE state = 'running' AND told_at IS NULL"
                " AND taken_at < clock_timestamp() - make_interval(secs => :after) ORDER BY taken_at LIMIT :most"
            ),
            {"after": UNTOLD_SECONDS, "most": AT_ONCE},
        ).all()
    found = [Place(*row) for row in late]
    for type_ in sorted(types):
        with platform.database.session() as session:
            _lock(session, type_)
            found += _admit(session, type_)
    return tuple(found)


def told(platform: Platform, places: list[Place]) -> None:
    """Note that these runs know they have their place. Raises StoreUnavailable."""
    with platform.database.session() as session:
        _note_told(session, places)


def due(platform: Platform) -> tuple[Place, ...]:
    """At most 20 runs to be looked after now, those whose place others wait for first; nobody else gets them too."""
    with platform.database.session() as session:
        rows = session.execute(
            text(
                "WITH busy AS (SELECT DISTINCT type FROM workflow_slots WHERE state = 'waiting'),"
                " chosen AS (SELECT s.workflow_id, s.run_id FROM workflow_slots s LEFT JOIN busy USING (type)"
                "  WHERE s.seen_at < clock_timestamp() - make_interval(secs =>"
                "   CASE WHEN s.state = 'running' AND busy.type IS NOT NULL THEN :busy ELSE :idle END)"
                "  ORDER BY s.state = 'waiting', s.seen_at LIMIT :most FOR UPDATE OF s SKIP LOCKED)"
                " UPDATE workflow_slots s SET seen_at = clock_timestamp() FROM chosen"
                " WHERE s.workflow_id = chosen.workflow_id AND s.run_id = chosen.run_id"
                " RETURNING s.type, s.workflow_id, s.run_id"
            ),
            {"busy": BUSY_SECONDS, "idle": IDLE_SECONDS, "most": LOOKED_AFTER},
        ).all()
        return tuple(Place(*row) for row in rows)


def occupancy(platform: Platform, actor: Actor) -> dict[str, Occupancy]:
    """Places by type, of types that have runs. Raises access.Forbidden, StoreUnavailable."""
    access.require(actor, Permission.INFRA_VIEW)
    with platform.database.reading() as connection:
        rows = connection.execute(
            text(
                "SELECT type, count(*) FILTER (WHERE state = 'running'), count(*) FILTER (WHERE state = 'waiting'),"
                " min(asked_at) FILTER (WHERE state = 'waiting') FROM workflow_slots GROUP BY type LIMIT 1000"
            )
        ).all()
        return {row[0]: Occupancy(*row) for row in rows}


def _lock(session: Session, type_: str) -> None:
    take_turns(session, f"places:{type_}")


def _take_over(session: Session, key: dict[str, Any]) -> bool:
    result = cast(
        "CursorResult[Any]",
        session.execute(
            text(
                "UPDATE workflow_slots SET run_id = :r, seen_at = clock_timestamp()"
                " WHERE workflow_id = :w AND type = :t AND state = 'running'"
            ),
            key,
        ),
    )
    return result.rowcount > 0


def _admit(session: Session, type_: str) -> list[Place]:
    """Give the type's free places, under its lock. A maximum below what works now takes nothing away."""
    rows = session.execute(
        text(
            "WITH most AS (SELECT coalesce((SELECT max_concurrent FROM workflow_settings WHERE type = :t),"
            "  (SELECT max_concurrent FROM workflow_settings WHERE type = :default), :fallback) AS n),"
            " free AS (SELECT greatest(0, least(:at_once, n - (SELECT count(*) FROM workflow_slots"
            "  WHERE type = :t AND state = 'running'))) AS n FROM most),"
            " next AS (SELECT workflow_id, run_id FROM workflow_slots WHERE type = :t AND state = 'waiting'"
            "  ORDER BY asked_at, workflow_id LIMIT (SELECT n FROM free))"
            " UPDATE workflow_slots s SET state = 'running', taken_at = clock_timestamp(), told_at = NULL,"
            " seen_at = clock_timestamp() FROM next"
            " WHERE s.workflow_id = next.workflow_id AND s.run_id = next.run_id"
            " RETURNING s.type, s.workflow_id, s.run_id"
        ),
        {"t": type_, "default": DEFAULT, "fallback": FALLBACK.max_concurrent, "at_once": AT_ONCE},
    ).all()
    return [Place(*row) for row in rows]


def _note_told(session: Session, places: list[Place]) -> None:
    statement = text(
        "UPDATE workflow_slots SET told_at = clock_timestamp() WHERE workflow_id = :w AND run_id = :r"
        " AND state = 'running' AND told_at IS NULL"
    )
    if places:
        session.execute(statement, [{"w": one.workflow_id, "r": one.run_id} for one in places])
