"""What was changed, and taking it back: a whole change at once, never over somebody else's unseen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from limiter import Scope
from models import AuditEntry
from operations import access, change, ratelimit_store
from operations.access import Actor, Permission
from operations.change import FieldError, Invalid, NotFound
from operations.platform import Platform
from operations.ratelimit_values import FIELDS, Edit, Policy, Saved, Target, Under
from operations.ratelimits import EDITS_LIMIT, save, under

PREFIX = "ratelimit/"
SHOWN = 5
"""Entries of one change that are read to be shown; of the others only their number."""


@dataclass(frozen=True, slots=True)
class Change:
    """One recorded change of a policy."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    reason: str


@dataclass(frozen=True, slots=True)
class Whole:
    """Everything one save changed: its first entries (at most 5), and how many there are."""

    entries: tuple[Change, ...]
    size: int
    newest: int
    """The id of its last entry: what is older than it is asked for with ``before``."""

    @property
    def revertible(self) -> bool:
        """Whether it changed policies, and did not merely reset a counter or repair Redis."""
        return all(_is_policy(entry.subject) for entry in self.entries)


@dataclass(frozen=True, slots=True)
class Plan:
    """What taking a change back would do now, for somebody to look at."""

    entry: int
    edits: tuple[Edit, ...]
    """Against the versions the change left behind: a conflict where something changed since."""
    decided: tuple[Edit, ...]
    """The same against what is stored now, and shown by this plan."""
    conflicts: tuple[tuple[Edit, Policy | None], ...]
    """What changed since, with what is stored now."""
    lost: int
    """Overrides that would be deleted: with their key, or many at once."""


def history(
    platform: Platform, actor: Actor, *, key: str = "", limit: int = 50, before: int | None = None
) -> list[Change]:
    """Changes of single policies, newest first, at most ``limit`` (200), older than entry ``before``.

    Raises access.Forbidden without infra:ratelimit:view.
    """
    access.require(actor, Permission.RATELIMIT_VIEW)
    query = select(AuditEntry).where(AuditEntry.subject.startswith(_prefix(key), autoescape=True))
    if before is not None:
        query = query.where(AuditEntry.id < before)
    with platform.database.session() as session:
        rows = session.scalars(query.order_by(AuditEntry.id.desc()).limit(max(1, min(limit, 200))))
        return [_change(row) for row in rows]


_HEADS = """
WITH RECURSIVE heads AS (
    (SELECT id, at, 1 AS place FROM audit WHERE subject LIKE :like AND id < :before ORDER BY id DESC LIMIT 1)
    UNION ALL
    SELECT older.id, older.at, heads.place + 1 FROM heads, LATERAL (
        SELECT id, at FROM audit WHERE subject LIKE :like AND id < heads.id AND at <> heads.at
        ORDER BY id DESC LIMIT 1
    ) AS older WHERE heads.place < :limit
)
SELECT at FROM heads
"""


def changes(
    platform: Platform, actor: Actor, *, key: str = "", limit: int = 20, before: int | None = None
) -> list[Whole]:
    """Changes as they were made, newest first, at most ``limit`` (100): a save of thousands is one of them.

    With ``key`` those that changed something of it. Raises access.Forbidden, StoreUnavailable.
    """
    access.require(actor, Permission.RATELIMIT_VIEW)
    like = _prefix(key).replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_") + "%"
    asked = {"like": like, "before": before or 2**62, "limit": max(1, min(limit, 100))}
    a = AuditEntry
    with platform.database.session() as session:
        moments = session.scalars(text(_HEADS), asked).all()
        place = func.row_number().over(partition_by=a.at, order_by=(a.subject.like(like).desc(), a.id))
        size, newest = func.count().over(partition_by=a.at), func.max(a.id).over(partition_by=a.at)
        # All entries of one change have the moment at which it was sealed, and no other change has it.
        ranked = (
            select(a.id, place.label("place"), size.label("size"), newest.label("newest"))
            .where(a.at.in_(moments), a.subject.startswith(PREFIX))
            .subquery()
        )
        rows = session.execute(
            select(a, ranked.c.size, ranked.c.newest)
            .join(ranked, a.id == ranked.c.id)
            .where(ranked.c.place <= SHOWN)
            .order_by(ranked.c.newest.desc(), ranked.c.place)
        )
        found: dict[int, tuple[list[Change], int]] = {}
        for row, count, last in rows:
            found.setdefault(last, ([], count))[0].append(_change(row))
    return [Whole(tuple(entries), count, last) for last, (entries, count) in found.items()]


def plan(platform: Platform, actor: Actor, entry: int) -> Plan:
    """What taking back the whole change that ``entry`` belongs to would do now.

    Raises access.Forbidden, change.NotFound, change.Invalid (it changed no policy, or all is as it was before).
    """
    access.require(actor, Permission.RATELIMIT_EDIT)
    with platform.database.session(seconds=20) as session:
        was, left = _of_change(session, entry)
        stored = ratelimit_store.read(session, was)
    below = under(platform, actor, [t.key for t, values in was.items() if values is None and t.scope is Scope.GLOBAL])
    whole = {key for key in below if Target(key) in stored}
    edits, decided, conflicts, lost = [], [], [], 0
    for target, values in sorted(was.items(), key=lambda item: item[0].scope is not Scope.GLOBAL):
        now = stored.get(target)
        if target.scope is not Scope.GLOBAL and target.key in whole:
            continue  # goes with its key
        if (now is None) if values is None else (now is not None and now.values() == {**now.values(), **values}):
            continue  # is so already
        edit = Edit(target, values, left[target])
        if values is None and target.scope is Scope.GLOBAL:
            own = [version for t, version in left.items() if t.key == target.key and t != target and version]
            edit = replace(edit, under=Under(len(own), max(own, default=0)))
            lost += below[target.key].count
        edits.append(edit)
        version = now.version if now else 0
        decided.append(replace(edit, seen=version, under=edit.under and below[target.key]))
        if version != edit.seen:
            conflicts.append((edit, now))
    if not edits:
        raise Invalid([FieldError("entry", "is taken back already", "a change that still stands")])
    single = sum(edit.values is None and edit.target.scope is not Scope.GLOBAL for edit in edits)
    return Plan(entry, tuple(edits), tuple(decided), tuple(conflicts), lost + (single if single > 1 else 0))


def revert(
    platform: Platform, actor: Actor, entry: int, *, shown: Plan | None = None, request_id: str | None = None
) -> Saved:
    """Bring everything one change touched back to what it was before; itself a new change, all or nothing.

    ``shown`` is the plan somebody looked at and decided for. Without it, what was changed since, and overrides that
    came under a key since, are a change.Conflict. Raises access.Forbidden, change.NotFound, change.Invalid,
    change.Conflict.
    """
    access.require(actor, Permission.RATELIMIT_EDIT)
    edits: Sequence[Edit] = plan(platform, actor, entry).edits if shown is None else shown.decided
    return save(
        platform, actor, edits, reason=f"Reverted change {entry}", action="ratelimit.revert", request_id=request_id
    )


def _of_change(session: Session, entry: int) -> tuple[dict[Target, dict[str, Any] | None], dict[Target, int]]:
    """By target: the values before the change (None: there was none), and the version it left (0: none)."""
    one = session.get(AuditEntry, entry)
    if one is None or not one.subject.startswith(PREFIX):
        raise NotFound(f"There is no change {entry} of a rate limit.")
    parse_target(one.subject)
    a = AuditEntry
    rows = session.execute(
        select(a.subject, a.before, a.after)
        .where(a.at == one.at, a.actor_id == one.actor_id, a.action == one.action, a.subject.startswith(PREFIX))
        .order_by(a.id)
        .limit(EDITS_LIMIT + 1)
    ).all()
    if len(rows) > EDITS_LIMIT:
        raise Invalid([FieldError("entry", "changed too many policies to be taken back", f"at most {EDITS_LIMIT:,}")])
    was: dict[Target, dict[str, Any] | None] = {}
    left: dict[Target, int] = {}
    for subject, before, after in rows:
        target = parse_target(subject)
        was.setdefault(target, None if before is None else _values(before))
        left[target] = 0 if after is None else int(after["version"])
    return was, left


def _values(recorded: dict[str, Any]) -> dict[str, Any]:
    values = {field: recorded[field] for field in FIELDS if field in recorded}
    if values.get("expires_at"):
        values["expires_at"] = datetime.fromisoformat(values["expires_at"])
    return values


def _change(row: AuditEntry) -> Change:
    return Change(row.id, row.at, row.actor_name, row.action, row.subject, row.before, row.after, row.reason)


def _prefix(key: str) -> str:
    return f"{PREFIX}{change.clean(key)}/" if key else PREFIX


def _is_policy(name: str) -> bool:
    try:
        parse_target(name)
    except Invalid:
        return False
    return True


def parse_target(name: str) -> Target:
    """The target an audit subject names. Raises Invalid for another subject."""
    parts = name.split("/", 3)
    if len(parts) < 3 or parts[0] != "ratelimit" or parts[2].upper() not in Scope.__members__:
        raise Invalid([FieldError("entry", "is no change of a policy", "a change of a limit")])
    return Target(parts[1], Scope(parts[2].upper()), parts[3] if len(parts) > 3 else "")
