"""Replication, replication slots, WAL and its archive."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from adapters.core.errors import Denied
from adapters.postgresql_stats.connection import Pool


@dataclass(frozen=True, slots=True)
class Replica:
    """One standby as the primary sees it; lag in bytes of WAL and in seconds (None while idle)."""

    name: str
    client: str
    state: str
    sync: str
    lag_bytes: int | None
    lag_s: float | None


@dataclass(frozen=True, slots=True)
class Slot:
    """One replication slot and how many bytes of WAL it keeps the server from removing."""

    name: str
    kind: str
    active: bool
    wal_status: str
    retained_bytes: int | None


@dataclass(frozen=True, slots=True)
class Replication:
    """Everything about replication and WAL that the user may see."""

    standby: bool
    lag_s: float | None
    """On a standby: seconds since the last replayed transaction; None on a primary or before the first."""
    lsn: str
    wal_bytes_written: int
    """Bytes of WAL written since the statistics were reset."""
    wal_files_bytes: int | None
    """Bytes in the WAL folder; None where the user may not ask."""
    archiving: bool
    archive_failures: int
    last_archive_failure: datetime | None
    last_archived: datetime | None
    replicas: tuple[Replica, ...] = ()
    slots: tuple[Slot, ...] = ()


_NOW = "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END"

# A standby that has replayed all it received is not behind, however long ago the last transaction was.
WAL = f"""
SELECT pg_is_in_recovery() AS standby, coalesce(({_NOW})::text, '') AS lsn,
       CASE WHEN NOT pg_is_in_recovery() THEN NULL
            WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
            ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 END AS lag_s,
       (SELECT wal_bytes::bigint FROM pg_stat_wal) AS wal_bytes_written,
       current_setting('archive_mode') <> 'off' AS archiving,
       a.failed_count AS archive_failures, a.last_failed_time AS last_archive_failure,
       a.last_archived_time AS last_archived
FROM pg_stat_archiver a
"""  # noqa: S608
REPLICAS = f"""
SELECT coalesce(application_name, '') AS name, coalesce(host(client_addr), 'local') AS client,
       coalesce(state, '') AS state, coalesce(sync_state, '') AS sync,
       pg_wal_lsn_diff({_NOW}, replay_lsn)::bigint AS lag_bytes,
       extract(epoch FROM replay_lag)::float8 AS lag_s
FROM pg_stat_replication ORDER BY 5 DESC NULLS LAST LIMIT 50
"""  # noqa: S608
SLOTS = f"""
SELECT slot_name::text AS name, slot_type AS kind, active, coalesce(wal_status, '') AS wal_status,
       pg_wal_lsn_diff({_NOW}, restart_lsn)::bigint AS retained_bytes
FROM pg_replication_slots ORDER BY 5 DESC NULLS LAST LIMIT 50
"""  # noqa: S608
WAL_FILES = "SELECT coalesce(sum(size), 0)::bigint AS bytes FROM pg_ls_waldir()"


def replication(pool: Pool) -> Replication:
    """Replication and WAL now; standbys and slots at most 50 each."""
    row = pool.row(WAL)
    files: int | None = None
    with suppress(Denied):  # needs pg_monitor; the page says what is missing
        files = pool.row(WAL_FILES)["bytes"]
    return Replication(
        **row,
        wal_files_bytes=files,
        replicas=tuple(Replica(**r) for r in pool.rows(REPLICAS)),
        slots=tuple(Slot(**r) for r in pool.rows(SLOTS)),
    )


LAG = """
SELECT CASE WHEN NOT pg_is_in_recovery()
            THEN (SELECT extract(epoch FROM max(coalesce(replay_lag, interval '0')))::float8 FROM pg_stat_replication)
            WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
            ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 END AS lag_s
"""


def lag(pool: Pool) -> float | None:
    """Seconds the furthest standby is behind (on a standby: it itself); None where there is none."""
    value = pool.row(LAG)["lag_s"]
    return None if value is None else float(value)
