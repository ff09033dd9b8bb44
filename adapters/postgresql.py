"""PostgreSQL: a database server, watched through its own statistics. Its own parts: ``postgresql_stats``."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property

from pydantic import Field, SecretStr

from adapters.core.adapter import Adapter, ServiceConfig
from adapters.core.model import Category, Health, Metric, Service, Setting, State, Unit
from adapters.postgresql_stats import activity, indexes, replication, statements, tables
from adapters.postgresql_stats import server as about
from adapters.postgresql_stats.connection import Pool

NEARLY_FULL_PERCENT = 95.0
SIZE_EVERY_S = 60.0
RATE_OVER_S = 1.0


class PostgreSQLConfig(ServiceConfig):
    """How to reach a PostgreSQL server. The user needs CONNECT and, for the whole picture, pg_monitor."""

    url: SecretStr | None = Field(
        None,
        title="Address",
        description="postgresql://user:password@host:port/database; the console's own database where not set.",
        json_schema_extra={"required": True},
    )
    question_timeout_ms: int = Field(
        2500,
        ge=100,
        le=60_000,
        title="Longest question",
        description="Longest a question of this page may run on the server, in milliseconds.",
    )
    pool_size: int = Field(
        10, ge=1, le=200, title="Pool size", description="Connections each process of the console keeps open."
    )
    max_overflow: int = Field(
        10, ge=0, le=200, title="Overflow", description="Connections each process may open beyond the pool under load."
    )
    pool_timeout_s: float = Field(
        3.0, ge=0.1, le=60, title="Wait for a connection", description="Longest wait for a free connection, in seconds."
    )
    statement_timeout_ms: int = Field(
        5000,
        ge=100,
        le=600_000,
        title="Statement timeout",
        description="Longest a statement of the console itself may run, in milliseconds.",
    )


class PostgreSQL(Adapter[PostgreSQLConfig]):
    """One PostgreSQL server; 13 or newer."""

    service = Service(
        slug="postgresql",
        title="PostgreSQL",
        category=Category.DATA,
        path="/platform/infrastructure/database",
        purpose="Keeps the platform's data: tenants, agents, policies, the audit trail.",
        affects="everything that is saved, sign-in and changes in this console",
        order=10,
    )

    def __init__(self, config: PostgreSQLConfig) -> None:
        super().__init__(config)
        self._lock = threading.Lock()
        self._earlier: about.Counters | None = None
        self._rate: float | None = None
        self._size: tuple[float, int, float] | None = None  # due at (monotonic s), bytes, seconds it took

    @cached_property
    def _pool(self) -> Pool:
        self.require_config()
        assert self.config.url is not None
        return Pool(self.config.url, statement_timeout_ms=self.config.question_timeout_ms)

    def health(self) -> Health:
        """`SELECT 1`, and whether the server is a standby or nearly out of connections."""
        now = self.server()
        version = f"PostgreSQL {now.version}"
        if now.standby:
            return Health(State.DEGRADED, "A standby answers here: reading works, saving does not.", version)
        if now.connections_percent >= NEARLY_FULL_PERCENT:
            sentence = f"Nearly out of connections: {now.connections} of {now.max_connections} are taken."
            return Health(State.DEGRADED, sentence, version)
        return Health(State.HEALTHY, "Answers, and takes writes.", version)

    def metrics(self) -> Sequence[Metric]:
        """Latency (headline), connections, size, cache hit, rates, ages; cheap with any number of tables."""
        with self._pool.connection() as connection:  # the round trip alone, without opening a connection
            start = time.perf_counter()
            connection.execute("SELECT 1")
            latency_ms = (time.perf_counter() - start) * 1000
        now, counted = self.server(), about.counters(self._pool)
        busy = activity.transactions(self._pool)
        databases = tables.wraparound_of_databases(self._pool)
        wal = replication.lag(self._pool)
        found = [
            Metric("latency", "Latency", round(latency_ms, 2), Unit.MILLISECONDS, headline=True),
            Metric("connections", "Connections", now.connections, note=f"of {now.max_connections}"),
            Metric("connections_percent", "Connections used", round(now.connections_percent, 1), Unit.PERCENT),
            Metric("longest_transaction", "Longest transaction", _longest(busy), Unit.SECONDS),
            Metric("replication_lag", "Replication lag", round(wal or 0.0, 3), Unit.SECONDS,
                   note="" if wal is not None else "no standby"),
            Metric("wraparound", "Towards wraparound", round(max((d.percent for d in databases), default=0.0), 2),
                   Unit.PERCENT),
            Metric("deadlocks", "Deadlocks", counted.deadlocks, note="since statistics were reset"),
        ]  # fmt: skip
        if (hit := counted.cache_hit_percent) is not None:
            found.append(Metric("cache_hit", "Cache hit", round(hit, 2), Unit.PERCENT))
        if (rate := self._transactions_per_second(counted)) is not None:
            found.append(Metric("transactions", "Transactions", round(rate, 2), Unit.PER_SECOND))
        size, took = self._database_size()
        found.append(Metric("database_size", "Database size", size, Unit.BYTES, note=f"at most {took:.0f} s old"))
        return found

    def settings(self) -> Sequence[Setting]:
        """Every row of pg_settings the user may see, with PostgreSQL's default beside it."""
        return about.settings(self._pool)

    def server(self) -> about.Server:
        """Version, role, uptime, connections."""
        return about.server(self._pool)

    def databases(self) -> list[about.Database]:
        """Databases and sizes, largest first; slow with many tables, so ask rarely."""
        return about.databases(self._pool)

    def counters(self) -> about.Counters:
        """Cumulative statistics over all databases."""
        return about.counters(self._pool)

    def sessions_by_state(self) -> dict[str, int]:
        """Client sessions by state."""
        return activity.sessions_by_state(self._pool)

    def transactions(self, longer_than_s: float = 0.0) -> list[activity.Session]:
        """Open transactions longer than that many seconds, longest first."""
        return activity.transactions(self._pool, longer_than_s)

    def locks(self) -> activity.Locks:
        """Locks by mode and the blocking tree."""
        return activity.locks(self._pool)

    def session(self, pid: int, backend_start: datetime) -> activity.Session | None:
        """That very session, or None when it is gone."""
        return activity.session(self._pool, pid, backend_start)

    def cancel(self, pid: int, backend_start: datetime) -> bool:
        """Cancel the running statement of that very session; False when it is gone."""
        return activity.end(self._pool, pid, backend_start, terminate=False)

    def terminate(self, pid: int, backend_start: datetime) -> bool:
        """End that very session; False when it is gone."""
        return activity.end(self._pool, pid, backend_start, terminate=True)

    def largest_tables(self) -> list[tables.Table]:
        """The largest tables with their sizes."""
        return tables.largest(self._pool)

    def unindexed_tables(self) -> list[tables.Table]:
        """Large tables read mostly in full."""
        return tables.unindexed(self._pool)

    def dead_rows(self) -> list[tables.Table]:
        """Tables that vacuum does not keep up with."""
        return tables.dead(self._pool)

    def bloat(self) -> list[tables.Bloat]:
        """Tables with much empty space, by estimate."""
        return tables.bloat(self._pool)

    def wraparound(self) -> tuple[list[tables.Wraparound], list[tables.Wraparound]]:
        """Databases and tables nearest to transaction id wraparound."""
        return tables.wraparound(self._pool)

    def unused_indexes(self) -> list[indexes.Index]:
        """Indexes nobody reads, and invalid ones."""
        return indexes.unused(self._pool)

    def statements(self) -> statements.Statements:
        """The statements with the largest total time, or how to see them."""
        return statements.top(self._pool)

    def replication(self) -> replication.Replication:
        """Standbys, slots, WAL and its archive."""
        return replication.replication(self._pool)

    def close(self) -> None:
        """Close the console's connections to the server."""
        pool = self.__dict__.pop("_pool", None)
        if pool is not None:
            pool.close()

    def _transactions_per_second(self, now: about.Counters) -> float | None:
        with self._lock:
            earlier = self._earlier
            # Readings closer than a second would make a rate of noise: keep the earlier one.
            if earlier is None or (now.at - earlier.at).total_seconds() >= RATE_OVER_S:
                if earlier is not None:
                    self._rate = about.per_second(earlier, now, "transactions")
                self._earlier = now
            return self._rate

    def _database_size(self) -> tuple[int, float]:
        """Size in bytes and the greatest age in seconds it may have.

        Measuring touches every file of the database, so it is repeated only so often that it
        takes at most a hundredth of the server's time.
        """
        with self._lock:
            known = self._size
            if known is not None and time.monotonic() < known[0]:
                return known[1], max(SIZE_EVERY_S, known[2] * 100)
        start = time.monotonic()
        size = int(self._pool.row("SELECT pg_database_size(current_database()) AS bytes")["bytes"])
        took = time.monotonic() - start
        keep = max(SIZE_EVERY_S, took * 100)
        with self._lock:
            self._size = (start + keep, size, took)
        return size, keep


def _longest(sessions: Sequence[activity.Session]) -> float:
    return round(max((session.transaction_s or 0.0 for session in sessions), default=0.0), 1)
