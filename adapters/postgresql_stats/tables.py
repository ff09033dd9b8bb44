"""Tables: size, dead rows, bloat, sequential reading, and how near to wraparound they are.

Every list starts from the largest tables by ``pg_class.relpages``, which the catalogue holds, so
that the cost does not grow with the number of tables; ``pg_stat_user_tables`` over 50,000 tables
takes seconds, this takes one pass over the catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from adapters.postgresql_stats.connection import Pool

LARGEST_ASKED = 1000
SHOWN = 50
BLOAT_ASKED = 200
XIDS_USABLE = 2**31 - 3_000_000
"""PostgreSQL stops taking transactions with three million ids left (documentation, "Routine Vacuuming")."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table with its size in bytes including indexes and TOAST, and how it is read and cleaned."""

    name: str
    total_bytes: int
    rows: int
    """The planner's estimate; -1 where the table was never analysed."""
    dead_rows: int
    seq_scans: int
    seq_rows_read: int
    index_scans: int
    last_vacuum: datetime | None
    last_analyze: datetime | None

    @property
    def dead_percent(self) -> float:
        """Dead rows as a share of all rows, in percent."""
        return 100.0 * self.dead_rows / max(1, self.dead_rows + max(0, self.rows))


_LARGEST = f"""
largest AS MATERIALIZED (
  SELECT c.oid, n.nspname, c.relname, c.relpages, c.reltuples, c.reloptions
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'
  ORDER BY c.relpages DESC, c.oid LIMIT {LARGEST_ASKED}
)"""  # noqa: S608  constants of this module

_TABLE = """
quote_ident(nspname) || '.' || quote_ident(relname) AS name, reltuples::bigint AS rows,
pg_stat_get_dead_tuples(oid) AS dead_rows, pg_stat_get_numscans(oid) AS seq_scans,
pg_stat_get_tuples_returned(oid) AS seq_rows_read,
coalesce((SELECT sum(pg_stat_get_numscans(indexrelid))::bigint FROM pg_index WHERE indrelid = s.oid), 0) AS index_scans,
greatest(pg_stat_get_last_vacuum_time(oid), pg_stat_get_last_autovacuum_time(oid)) AS last_vacuum,
greatest(pg_stat_get_last_analyze_time(oid), pg_stat_get_last_autoanalyze_time(oid)) AS last_analyze
"""

# pg_total_relation_size asks the file system and waits for exclusive locks: only for the rows shown.
LARGEST = f"""
WITH {_LARGEST}
SELECT {_TABLE}, coalesce(pg_total_relation_size(oid), 0) AS total_bytes
FROM (SELECT * FROM largest ORDER BY relpages DESC, oid LIMIT {SHOWN}) s ORDER BY total_bytes DESC
"""  # noqa: S608

UNINDEXED = f"""
WITH {_LARGEST}, read AS (SELECT {_TABLE}, relpages FROM largest s)
SELECT name, rows, dead_rows, seq_scans, seq_rows_read, index_scans, last_vacuum, last_analyze,
       relpages::bigint * current_setting('block_size')::bigint AS total_bytes
FROM read
WHERE rows >= 10000 AND seq_scans >= 50 AND seq_rows_read >= 5000 * seq_scans AND seq_scans > index_scans
ORDER BY seq_rows_read DESC LIMIT {SHOWN}
"""  # noqa: S608

DEAD = f"""
WITH {_LARGEST}, read AS (SELECT {_TABLE}, relpages FROM largest s)
SELECT name, rows, dead_rows, seq_scans, seq_rows_read, index_scans, last_vacuum, last_analyze,
       relpages::bigint * current_setting('block_size')::bigint AS total_bytes
FROM read WHERE dead_rows >= 10000 AND dead_rows > 0.2 * greatest(rows, 1) ORDER BY dead_rows DESC LIMIT {SHOWN}
"""  # noqa: S608


def largest(pool: Pool) -> list[Table]:
    """The largest tables, at most 50."""
    return [Table(**row) for row in pool.rows(LARGEST)]


def unindexed(pool: Pool) -> list[Table]:
    """Tables of at least 10,000 rows read mostly in full, at least 5,000 rows a time: an index is likely missing."""
    return [Table(**row) for row in pool.rows(UNINDEXED)]


def dead(pool: Pool) -> list[Table]:
    """Tables in which more than a fifth of the rows are dead: vacuum does not keep up."""
    return [Table(**row) for row in pool.rows(DEAD)]


@dataclass(frozen=True, slots=True)
class Bloat:
    """A table's size in bytes and how much of it, by estimate, holds nothing."""

    name: str
    size_bytes: int
    wasted_bytes: int

    @property
    def percent(self) -> float:
        """Wasted share of the size, in percent."""
        return 100.0 * self.wasted_bytes / max(1, self.size_bytes)


BLOAT = f"""
WITH {_LARGEST}, sized AS (
  SELECT l.*, current_setting('block_size')::int AS block,
         coalesce(substring(array_to_string(reloptions, ' ') FROM 'fillfactor=([0-9]+)')::int, 100) AS fillfactor,
         w.width, w.columns_known, a.columns
  FROM (SELECT * FROM largest WHERE reltuples > 0 AND relpages >= 128
        ORDER BY relpages DESC, oid LIMIT {BLOAT_ASKED}) l
  CROSS JOIN LATERAL (SELECT sum((1 - null_frac) * avg_width)::float8 AS width, count(*) AS columns_known
                      FROM pg_stats s WHERE s.schemaname = l.nspname AND s.tablename = l.relname AND NOT inherited) w
  CROSS JOIN LATERAL (SELECT count(*) AS columns FROM pg_attribute
                      WHERE attrelid = l.oid AND attnum > 0 AND NOT attisdropped) a
), expected AS (
  SELECT *, ceil(reltuples * (ceil((24 + width) / 8.0) * 8 + 4) / ((block - 24) * fillfactor / 100.0)) AS pages
  FROM sized WHERE columns_known = columns
)
SELECT quote_ident(nspname) || '.' || quote_ident(relname) AS name, relpages::bigint * block AS size_bytes,
       (greatest(0, relpages - pages) * block)::bigint AS wasted_bytes
FROM expected WHERE relpages > 1.2 * pages ORDER BY wasted_bytes DESC LIMIT {SHOWN}
"""  # noqa: S608


def bloat(pool: Pool) -> list[Bloat]:
    """Tables with more than a fifth of their pages wasted, by estimate; most wasted first, at most 50.

    The estimate compares ``relpages`` with the pages the rows would need: each row its average
    data width from ``pg_stats`` plus a 24-byte header, rounded up to 8 bytes, plus a 4-byte line
    pointer; each page less its 24-byte header, times the fill factor. Sizes of header, pointer and
    alignment: PostgreSQL documentation, "Database Page Layout" (storage-page-layout). The method is
    that of check_postgres and of ioguix/pgsql-bloat-estimation. It ignores padding between columns,
    so a few percent are normal; tables under 1 MiB or without statistics are left out.
    """
    return [Bloat(**row) for row in pool.rows(BLOAT)]


@dataclass(frozen=True, slots=True)
class Wraparound:
    """How far a database or table is towards transaction id wraparound."""

    name: str
    age: int
    """Transactions since everything older was frozen."""
    freeze_at: int
    """Age at which PostgreSQL vacuums by itself whatever the settings (autovacuum_freeze_max_age)."""

    @property
    def percent(self) -> float:
        """Share of the usable transaction ids consumed; at 100 PostgreSQL refuses to write."""
        return 100.0 * self.age / XIDS_USABLE


WRAP_DATABASES = """
SELECT datname::text AS name, age(datfrozenxid)::int AS age,
       current_setting('autovacuum_freeze_max_age')::int AS freeze_at
FROM pg_database ORDER BY 2 DESC LIMIT 20
"""
WRAP_TABLES = """
SELECT c.oid::regclass::text AS name, age(c.relfrozenxid)::int AS age,
       current_setting('autovacuum_freeze_max_age')::int AS freeze_at
FROM (SELECT oid, relfrozenxid FROM pg_class WHERE relkind IN ('r', 'm', 't')
      ORDER BY age(relfrozenxid) DESC, oid LIMIT 20) c ORDER BY 2 DESC
"""


def wraparound(pool: Pool) -> tuple[list[Wraparound], list[Wraparound]]:
    """Databases, and tables of this database, nearest to wraparound; at most 20 each."""
    return wraparound_of_databases(pool), [Wraparound(**row) for row in pool.rows(WRAP_TABLES)]


def wraparound_of_databases(pool: Pool) -> list[Wraparound]:
    """Databases nearest to wraparound alone: cheap however many tables there are."""
    return [Wraparound(**row) for row in pool.rows(WRAP_DATABASES)]
