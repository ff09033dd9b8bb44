"""Indexes nobody uses, and indexes that are broken."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.postgresql_stats.connection import Pool


@dataclass(frozen=True, slots=True)
class Index:
    """One index, its size in bytes by the catalogue, and what is wrong with it."""

    name: str
    table: str
    size_bytes: int
    scans: int
    valid: bool
    definition: str


# Unique indexes guard the data even when no query reads them, so they are never called unused.
UNUSED = """
WITH largest AS MATERIALIZED (
  SELECT c.oid, c.relname, c.relpages, n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'i' AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'
  ORDER BY c.relpages DESC, c.oid LIMIT 2000
), suspects AS (
  SELECT l.*, i.indrelid, i.indisvalid, pg_stat_get_numscans(l.oid) AS scans
  FROM largest l JOIN pg_index i ON i.indexrelid = l.oid
  WHERE NOT i.indisvalid OR (l.relpages > 1 AND NOT i.indisunique AND pg_stat_get_numscans(l.oid) = 0
        AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = l.oid))
  ORDER BY i.indisvalid, l.relpages DESC LIMIT 50
)
SELECT quote_ident(nspname) || '.' || quote_ident(relname) AS name, indrelid::regclass::text AS table,
       relpages::bigint * current_setting('block_size')::bigint AS size_bytes, scans, indisvalid AS valid,
       left(pg_get_indexdef(oid), 500) AS definition
FROM suspects ORDER BY indisvalid, size_bytes DESC
"""


def unused(pool: Pool) -> list[Index]:
    """Indexes never read since statistics were reset, and invalid ones, among the 2,000 largest; at most 50."""
    return [Index(**row) for row in pool.rows(UNUSED)]
