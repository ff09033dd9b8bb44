"""Sessions and locks: who is connected, who runs long, who waits for whom."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from adapters.core.redact import redact
from adapters.postgresql_stats.connection import Pool

SESSIONS_SHOWN = 50
WAITING_ASKED = 100
QUERY_LETTERS = 300
_PASSWORD = re.compile(r"(password\s+)(E?'[^']*'?|\$\w*\$.*)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Session:
    """One client session. ``pid`` may be used again after it ends; with ``backend_start`` it is unique."""

    pid: int
    backend_start: datetime
    user: str
    database: str
    application: str
    client: str
    state: str
    wait: str
    transaction_s: float | None
    """Seconds since its transaction began, None outside of one."""
    state_s: float | None
    """Seconds since it came into its present state."""
    query: str


_COLUMNS = f"""
a.pid, a.backend_start, coalesce(a.usename, '')::text AS user, coalesce(a.datname, '')::text AS database,
coalesce(a.application_name, '') AS application, coalesce(host(a.client_addr), 'local') AS client,
coalesce(a.state, '') AS state,
coalesce(a.wait_event_type || ': ' || a.wait_event, '') AS wait,
extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS transaction_s,
extract(epoch FROM clock_timestamp() - a.state_change)::float8 AS state_s,
left(a.query, {QUERY_LETTERS}) AS query
"""

LONGEST = f"""
SELECT {_COLUMNS} FROM pg_stat_activity a
WHERE a.backend_type = 'client backend' AND a.pid <> pg_backend_pid() AND a.xact_start IS NOT NULL
  AND clock_timestamp() - a.xact_start > %s * interval '1 second'
ORDER BY a.xact_start LIMIT %s
"""  # noqa: S608  constants of this module

COUNTS = """
SELECT coalesce(state, 'hidden') AS state, count(*)::int AS sessions
FROM pg_stat_activity WHERE backend_type = 'client backend' GROUP BY 1 ORDER BY 2 DESC LIMIT 20
"""


def sessions_by_state(pool: Pool) -> dict[str, int]:
    """How many client sessions are in each state ("hidden": the user may not see it)."""
    return {row["state"]: row["sessions"] for row in pool.rows(COUNTS)}


def transactions(pool: Pool, longer_than_s: float = 0.0) -> list[Session]:
    """Sessions inside a transaction, longest first, at most 50."""
    return [_session(row) for row in pool.rows(LONGEST, (longer_than_s, SESSIONS_SHOWN))]


def _session(row: dict[str, Any]) -> Session:
    return Session(**{**row, "query": _PASSWORD.sub(r"\1'••••'", redact(row["query"] or ""))})


@dataclass(frozen=True, slots=True)
class Blocked:
    """A session in the tree of who waits for whom; ``waiting`` are those that wait for it."""

    session: Session
    waits_for: str
    """What it wants, such as "relation orders (AccessExclusiveLock)"; empty for a session that waits for none."""
    waiting: tuple[Blocked, ...] = field(default=())

    @property
    def held_up(self) -> int:
        """How many sessions wait for this one, directly or through others."""
        return sum(1 + child.held_up for child in self.waiting)


@dataclass(frozen=True, slots=True)
class Locks:
    """Counts of locks by mode, and the blocking tree."""

    by_mode: tuple[tuple[str, int, int], ...]
    """(mode, granted, waited for)."""
    roots: tuple[Blocked, ...]
    """Sessions that hold others up and wait for no session themselves; largest hold-up first."""
    cut: bool
    """True where more sessions wait than were asked about (100)."""


MODES = """
SELECT mode, count(*) FILTER (WHERE granted)::int AS granted, count(*) FILTER (WHERE NOT granted)::int AS waited
FROM pg_locks GROUP BY mode ORDER BY 3 DESC, 2 DESC LIMIT 20
"""

# pg_blocking_pids() stops the lock manager while it looks, so it is asked about a bounded number.
WAITING = f"""
WITH waiting AS MATERIALIZED (
  SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' ORDER BY state_change LIMIT {WAITING_ASKED + 1}
), edges AS MATERIALIZED (SELECT pid, pg_blocking_pids(pid) AS blockers FROM waiting),
ungranted AS MATERIALIZED (
  SELECT DISTINCT ON (pid) pid, locktype, mode,
         CASE WHEN database = (SELECT oid FROM pg_database WHERE datname = current_database()) THEN relation END AS rel
  FROM pg_locks WHERE NOT granted ORDER BY pid
), concerned AS (SELECT pid FROM edges WHERE blockers <> '{{}}' UNION SELECT unnest(blockers) FROM edges)
SELECT {_COLUMNS}, e.blockers, (SELECT count(*) FROM waiting) > {WAITING_ASKED} AS cut,
       coalesce(concat_ws(' ', u.locktype, u.rel::regclass::text) || ' (' || u.mode || ')', '') AS waits_for
FROM concerned c JOIN pg_stat_activity a ON a.pid = c.pid LEFT JOIN edges e ON e.pid = c.pid
LEFT JOIN ungranted u ON u.pid = c.pid
LIMIT 500
"""  # noqa: S608  constants of this module


def locks(pool: Pool) -> Locks:
    """Locks by mode, and who waits for whom as a tree."""
    modes = tuple((row["mode"], row["granted"], row["waited"]) for row in pool.rows(MODES))
    rows = pool.rows(WAITING)
    return Locks(modes, tree(rows), any(row["cut"] for row in rows))


def tree(rows: list[dict[str, Any]]) -> tuple[Blocked, ...]:
    """The blocking forest of rows carrying a session's columns, ``blockers`` and ``waits_for``.

    A session blocked by several hangs below the first of them; one of a cycle (a deadlock that
    PostgreSQL is about to break) is taken as a root, so that every session appears exactly once. One
    that waits for a prepared transaction is a root too: nobody's session holds that lock.
    """
    by_pid = {row["pid"]: row for row in rows}
    below: dict[int, list[int]] = {}
    roots = []
    for pid, row in by_pid.items():
        first = next((blocker for blocker in row["blockers"] or () if blocker in by_pid and blocker != pid), None)
        if first is None:
            roots.append(pid)
        else:
            below.setdefault(first, []).append(pid)
    seen: set[int] = set()

    def grow(pid: int) -> Blocked:
        seen.add(pid)
        children = tuple(grow(child) for child in below.get(pid, ()) if child not in seen)
        row = by_pid[pid]
        session = _session({name: row[name] for name in Session.__dataclass_fields__})
        return Blocked(session, row["waits_for"], tuple(sorted(children, key=lambda b: -b.held_up)))

    forest = [grow(pid) for pid in roots]
    forest.extend(grow(pid) for pid in by_pid if pid not in seen)
    shown = (b for b in forest if b.waiting or by_pid[b.session.pid]["blockers"])
    return tuple(sorted(shown, key=lambda b: -b.held_up))


END = "SELECT {function}(pid) AS done FROM pg_stat_activity WHERE pid = %s AND backend_start = %s"


def end(pool: Pool, pid: int, backend_start: datetime, *, terminate: bool) -> bool:
    """Cancel the running statement of a session, or terminate the session.

    Only where pid and start are both the same, so that a pid used again is never hit. Returns
    False when that session is gone; raises Denied when the user may not.
    """
    function = "pg_terminate_backend" if terminate else "pg_cancel_backend"
    rows = pool.rows(END.format(function=function), (pid, backend_start))
    return bool(rows and rows[0]["done"])


def session(pool: Pool, pid: int, backend_start: datetime) -> Session | None:
    """The session of that pid and start, or None when it is gone."""
    query = f"SELECT {_COLUMNS} FROM pg_stat_activity a WHERE a.pid = %s AND a.backend_start = %s"  # noqa: S608
    rows = pool.rows(query, (pid, backend_start))
    return _session(rows[0]) if rows else None
