"""How long the questions of the PostgreSQL page take on a server with very many tables.

``python -m benchmarks.postgresql_catalogue postgresql://…/an_empty_database [tables]``
"""

from __future__ import annotations

import sys
import time

import psycopg
from pydantic import SecretStr

from adapters.core import deadline
from adapters.postgresql import PostgreSQL, PostgreSQLConfig
from benchmarks.table import Row, milliseconds, show

TABLES = 50_000
BATCH = 500
ROUNDS = 5
AIM_SECONDS = 0.5
QUESTIONS = (
    "health", "metrics", "server", "databases", "counters", "sessions_by_state", "transactions", "locks",
    "largest_tables", "unindexed_tables", "dead_rows", "bloat", "wraparound", "unused_indexes", "statements",
    "replication", "settings",
)  # fmt: skip


def fill(url: str, tables: int) -> None:
    """Create that many tables with a primary key each."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        for start in range(0, tables, BATCH):
            connection.execute(
                f"DO $$ BEGIN FOR n IN {start}..{min(start + BATCH, tables) - 1} LOOP "
                "EXECUTE format('CREATE TABLE IF NOT EXISTS bench_%s (id int PRIMARY KEY, a int)', n); END LOOP; END $$"
            )
        connection.execute("ANALYZE pg_catalog.pg_class")


def rows(url: str) -> list[Row]:
    """Median time of each question."""
    adapter = PostgreSQL(PostgreSQLConfig(url=SecretStr(url)))
    found = []
    try:
        for name in QUESTIONS:
            took = []
            for _ in range(ROUNDS):
                start = time.perf_counter()
                with deadline(10):
                    getattr(adapter, name)()
                took.append(time.perf_counter() - start)
            median = sorted(took)[ROUNDS // 2]
            found.append(Row(name, milliseconds(median), f"under {milliseconds(AIM_SECONDS)}", median < AIM_SECONDS))
    finally:
        adapter.close()
    return found


def main() -> int:
    """Fill the database, then measure."""
    url = sys.argv[1]
    tables = int(sys.argv[2]) if len(sys.argv) > 2 else TABLES
    fill(url, tables)
    show(f"Questions of the PostgreSQL page with {tables} tables", rows(url))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
