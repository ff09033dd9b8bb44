"""The statements a server spends its time on, from pg_stat_statements where it is installed."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from adapters.core.redact import redact
from adapters.postgresql_stats.connection import Pool

SHOWN = 30


@dataclass(frozen=True, slots=True)
class Statement:
    """One normalised statement; times in milliseconds."""

    query: str
    calls: int
    total_ms: float
    mean_ms: float
    rows: int
    share: float
    """Its share of the time of all statements, in percent."""
    temp_blocks: int


@dataclass(frozen=True, slots=True)
class Statements:
    """The top statements, or how to get them."""

    rows: tuple[Statement, ...]
    missing: str
    """What to do where pg_stat_statements is not there; empty where it is."""


INSTALLED = """
SELECT (SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
        WHERE e.extname = 'pg_stat_statements') AS schema,
       EXISTS (SELECT 1 FROM pg_available_extensions WHERE name = 'pg_stat_statements') AS available,
       position('pg_stat_statements' IN coalesce(current_setting('shared_preload_libraries', true), '')) > 0 AS loaded
"""

TOP = """
SELECT left(query, 500) AS query, calls, total_exec_time AS total_ms, mean_exec_time AS mean_ms, rows,
       coalesce(100 * total_exec_time / nullif(sum(total_exec_time) OVER (), 0), 0) AS share,
       temp_blks_read + temp_blks_written AS temp_blocks
FROM {schema}.pg_stat_statements ORDER BY total_exec_time DESC LIMIT {limit}
"""


NOT_THERE = (
    "The extension is not on the server: install PostgreSQL's contrib package there, "
    "then add pg_stat_statements to shared_preload_libraries and restart."
)


def top(pool: Pool) -> Statements:
    """The 30 statements with the largest total time, or what to do to see them."""
    found = pool.row(INSTALLED)
    if found["schema"] is None:
        if not found["available"]:
            return Statements((), NOT_THERE)
        first = "" if found["loaded"] else "Add pg_stat_statements to shared_preload_libraries and restart. Then run: "
        return Statements((), first + "CREATE EXTENSION pg_stat_statements;")
    query = sql.SQL(TOP).format(schema=sql.SQL(found["schema"]), limit=sql.Literal(SHOWN)).as_string(None)
    rows = pool.rows(query)
    return Statements(tuple(Statement(**{**row, "query": redact(row["query"] or "")}) for row in rows), "")
