"""The server itself: version, role, connections, databases, settings, counters."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import SecretStr

from adapters.core.model import Setting
from adapters.core.redact import redact
from adapters.postgresql_stats.connection import Pool

DATABASES_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says of itself. Times are UTC."""

    version: str
    standby: bool
    started_at: datetime
    now: datetime
    database: str
    user: str
    connections: int
    max_connections: int
    reserved: int
    """Connections only superusers may take."""

    @property
    def role(self) -> str:
        """ "primary" or "standby"."""
        return "standby" if self.standby else "primary"

    @property
    def uptime_s(self) -> float:
        """Seconds since the server started, by the server's clock."""
        return (self.now - self.started_at).total_seconds()

    @property
    def connections_percent(self) -> float:
        """Connections in use as a share of those an ordinary user may get, in percent."""
        return 100.0 * self.connections / max(1, self.max_connections - self.reserved)


SERVER = """
SELECT current_setting('server_version') AS version, pg_is_in_recovery() AS standby,
       pg_postmaster_start_time() AS started_at, clock_timestamp() AS now,
       current_database()::text AS database, current_user::text AS user,
       (SELECT coalesce(sum(numbackends), 0)::int FROM pg_stat_database) AS connections,
       current_setting('max_connections')::int AS max_connections,
       current_setting('superuser_reserved_connections')::int
         + coalesce(current_setting('reserved_connections', true)::int, 0) AS reserved
"""


def server(pool: Pool) -> Server:
    """Version, role, uptime and connections of the server, in one round trip."""
    return Server(**pool.row(SERVER))


@dataclass(frozen=True, slots=True)
class Database:
    """One database of the server and its size in bytes (None where the user may not connect to it)."""

    name: str
    size_bytes: int | None
    connections: int


DATABASES = """
SELECT d.datname::text AS name, coalesce(s.numbackends, 0)::int AS connections,
       CASE WHEN has_database_privilege(d.oid, 'CONNECT') THEN pg_database_size(d.oid) END AS size_bytes
FROM (SELECT oid, datname FROM pg_database WHERE datallowconn ORDER BY oid LIMIT %s) d
LEFT JOIN pg_stat_get_db_numbackends(d.oid) AS s(numbackends) ON true
ORDER BY size_bytes DESC NULLS LAST
"""


def databases(pool: Pool) -> list[Database]:
    """Databases with their sizes, largest first, at most 100.

    PostgreSQL asks the file system for every file of a database: some 200 ms for 50,000 tables. Ask rarely.
    """
    return [Database(**row) for row in pool.rows(DATABASES, (DATABASES_SHOWN,))]


@dataclass(frozen=True, slots=True)
class Counters:
    """Counts since ``since`` over all databases of the server; a rate is the difference of two readings."""

    at: datetime
    since: datetime | None
    commits: int
    rollbacks: int
    blocks_hit: int
    blocks_read: int
    rows_returned: int
    rows_fetched: int
    rows_inserted: int
    rows_updated: int
    rows_deleted: int
    temp_files: int
    temp_bytes: int
    deadlocks: int

    @property
    def transactions(self) -> int:
        """Transactions ended, either way."""
        return self.commits + self.rollbacks

    @property
    def cache_hit_percent(self) -> float | None:
        """Share of block reads that the buffer cache served; None before the first read."""
        asked = self.blocks_hit + self.blocks_read
        return 100.0 * self.blocks_hit / asked if asked else None


COUNTERS = """
SELECT clock_timestamp() AS at, max(stats_reset) AS since,
       sum(xact_commit)::bigint AS commits, sum(xact_rollback)::bigint AS rollbacks,
       sum(blks_hit)::bigint AS blocks_hit, sum(blks_read)::bigint AS blocks_read,
       sum(tup_returned)::bigint AS rows_returned, sum(tup_fetched)::bigint AS rows_fetched,
       sum(tup_inserted)::bigint AS rows_inserted, sum(tup_updated)::bigint AS rows_updated,
       sum(tup_deleted)::bigint AS rows_deleted, sum(temp_files)::bigint AS temp_files,
       sum(temp_bytes)::bigint AS temp_bytes, sum(deadlocks)::bigint AS deadlocks
FROM pg_stat_database
"""


def counters(pool: Pool) -> Counters:
    """The server's counters now."""
    return Counters(**pool.row(COUNTERS))


def per_second(earlier: Counters, later: Counters, name: str) -> float | None:
    """Growth of one counter per second between two readings; None after a reset or in no time."""
    seconds = (later.at - earlier.at).total_seconds()
    grown = getattr(later, name) - getattr(earlier, name)
    return float(grown / seconds) if seconds > 0 and grown >= 0 else None


SETTINGS = """
SELECT name, setting, unit, category, short_desc, boot_val, source, pending_restart
FROM pg_settings ORDER BY category, name LIMIT 1000
"""
_SECRET_NAMES = ("conninfo", "passphrase", "password_file", "krb_server_keyfile")
_BYTES = {"B": 1, "kB": 1024, "8kB": 8192, "16kB": 16384, "32kB": 32768, "MB": 1024**2, "GB": 1024**3}
_MICROSECONDS = {
    "us": 1, "ms": 1000, "s": 1_000_000, "min": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000,
}  # fmt: skip


def settings(pool: Pool) -> list[Setting]:
    """Every setting the user may see, as it is for a new session, with PostgreSQL's own default beside it."""
    return [_setting(row) for row in pool.rows(SETTINGS)]


def _setting(row: dict[str, Any]) -> Setting:
    shown = human(row["setting"], row["unit"])
    value: str | SecretStr = redact(shown)
    if shown and any(part in row["name"] for part in _SECRET_NAMES):
        value = SecretStr(shown)
    waiting = " Changed, and waits for a restart of the server." if row["pending_restart"] else ""
    return Setting(
        name=row["name"],
        value=value,
        group=row["category"],
        description=f"{row['short_desc']}{waiting} Source: {row['source']}.",
        # A value that PostgreSQL computed at start (source "override") is not something anyone changed.
        default=shown if row["source"] in ("default", "override") else human(row["boot_val"], row["unit"]),
    )


def human(value: str | None, unit: str | None) -> str:
    """A value of pg_settings as SHOW prints it: ("16384", "8kB") is "128MB"."""
    if value is None:
        return ""
    for table, steps in ((_BYTES, ("GB", "MB", "kB", "B")), (_MICROSECONDS, ("d", "h", "min", "s", "ms", "us"))):
        if unit is not None and unit in table and value.isdigit() and int(value) > 0:
            amount = int(value) * table[unit]
            step = next(step for step in steps if amount % table[step] == 0)
            return f"{amount // table[step]}{step}"
    return value if value in ("0", "-1") else f"{value}{unit or ''}"
