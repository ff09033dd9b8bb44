"""What is wrong with a server, in plain sentences, from what it told. Pure functions; nothing here asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from adapters.postgresql_stats.activity import Locks, Session
from adapters.postgresql_stats.indexes import Index
from adapters.postgresql_stats.replication import Replication
from adapters.postgresql_stats.server import Counters, Server
from adapters.postgresql_stats.tables import Bloat, Table, Wraparound

MINUTE, HOUR = 60.0, 3600.0
MIB, GIB = 1024**2, 1024**3
LAG_WARN_S, LAG_BAD_S = 30.0, 60.0


class Level(StrEnum):
    """How much a finding matters."""

    BAD = "bad"
    WARN = "warn"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and what to do about it."""

    level: Level
    sentence: str
    advice: str


def _size(number: float) -> str:
    return f"{number / GIB:.1f} GiB" if number >= GIB else f"{number / MIB:.0f} MiB"


def _span(seconds: float) -> str:
    return f"{seconds / HOUR:.1f} h" if seconds >= HOUR else f"{seconds / MINUTE:.0f} min"


def connections(server: Server) -> list[Finding]:
    """Too few connections left: warned of at 80 %, bad at 95 %."""
    share = server.connections_percent
    if share < 80:
        return []
    sentence = f"{server.connections} of {server.max_connections} connections are taken ({share:.0f} % of the usable)."
    advice = "End idle sessions below, lower the pools of the clients, or put a pooler such as PgBouncer in front."
    return [Finding(Level.BAD if share >= 95 else Level.WARN, sentence, advice)]


def counters(now: Counters) -> list[Finding]:
    """A cold cache, and queries that spill to disk."""
    found = []
    hit = now.cache_hit_percent
    if hit is not None and hit < 90 and now.blocks_hit + now.blocks_read > 100_000:
        found.append(
            Finding(
                Level.WARN,
                f"Only {hit:.1f} % of block reads are served from memory.",
                "Raise shared_buffers (a quarter of memory is usual), or look for statements that read whole tables.",
            )
        )
    if now.temp_bytes > 10 * GIB:
        found.append(
            Finding(
                Level.WARN,
                f"Queries wrote {_size(now.temp_bytes)} of temporary files since the statistics were reset.",
                "Raise work_mem for the statements that sort or hash much, or give them an index.",
            )
        )
    if now.transactions > 1000 and now.rollbacks > 0.1 * now.transactions:
        share = 100 * now.rollbacks / now.transactions
        found.append(
            Finding(
                Level.WARN,
                f"{share:.0f} % of all transactions are rolled back.",
                "Look at the log of the server and of its clients for the errors behind it.",
            )
        )
    return found


def sessions(open_transactions: Sequence[Session]) -> list[Finding]:
    """Long transactions (warned of at 5 min, bad at 1 h) and sessions idle inside of one (1 min)."""
    found = []
    idle = [s for s in open_transactions if s.state.startswith("idle in transaction") and (s.state_s or 0) > MINUTE]
    if idle:
        longest = max(s.state_s or 0 for s in idle)
        found.append(
            Finding(
                Level.BAD if longest > HOUR else Level.WARN,
                f"{len(idle)} sessions do nothing inside a transaction, the longest for {_span(longest)}.",
                "They hold locks and keep vacuum from cleaning. Terminate them, then fix the client or set "
                "idle_in_transaction_session_timeout.",
            )
        )
    long = [s for s in open_transactions if s.state == "active" and (s.transaction_s or 0) > 5 * MINUTE]
    if long:
        longest = max(s.transaction_s or 0 for s in long)
        found.append(
            Finding(
                Level.BAD if longest > HOUR else Level.WARN,
                f"{len(long)} transactions run for more than 5 min, the longest for {_span(longest)}.",
                "See what they do; cancel those that are not wanted.",
            )
        )
    return found


def locks(held: Locks) -> list[Finding]:
    """Sessions that hold others up, and those held up by a prepared transaction."""
    found = [
        Finding(
            Level.BAD if root.held_up >= 10 else Level.WARN,
            f"Session {root.session.pid} holds up {root.held_up} others.",
            "Wait for it, or cancel it below: cancelling ends its statement, terminating its session.",
        )
        for root in held.roots[:5]
        if root.held_up
    ]
    prepared = [root.session.pid for root in held.roots if root.waits_for]
    if prepared:
        found.append(
            Finding(
                Level.BAD,
                f"{len(prepared)} sessions wait for a prepared transaction: {', '.join(map(str, prepared[:5]))}.",
                "See pg_prepared_xacts; COMMIT PREPARED or ROLLBACK PREPARED the one its owner forgot.",
            )
        )
    return found


def tables(unindexed: Sequence[Table], dead: Sequence[Table], bloated: Sequence[Bloat]) -> list[Finding]:
    """Missing indexes, vacuum that falls behind, wasted space over 100 MiB."""
    found = []
    if unindexed:
        names = ", ".join(t.name for t in unindexed[:3])
        found.append(
            Finding(
                Level.WARN,
                f"{len(unindexed)} large tables are read mostly in full: {names}.",
                "Look at the statements that read them and add an index on the columns they filter by.",
            )
        )
    if dead:
        names = ", ".join(t.name for t in dead[:3])
        found.append(
            Finding(
                Level.WARN,
                f"More than a fifth of the rows of {len(dead)} tables are dead: {names}.",
                "Look for long transactions first; then run VACUUM, or lower autovacuum_vacuum_scale_factor for them.",
            )
        )
    wasted = sum(b.wasted_bytes for b in bloated)
    if wasted > 100 * MIB:
        found.append(
            Finding(
                Level.WARN,
                f"About {_size(wasted)} of table space holds nothing (estimate).",
                "It is used again by new rows. To give it back: pg_repack, or VACUUM FULL while nobody uses the table.",
            )
        )
    return found


def indexes(suspects: Sequence[Index]) -> list[Finding]:
    """Indexes that are broken, and those nobody reads, over 10 MiB together."""
    found = []
    invalid = [index for index in suspects if not index.valid]
    if invalid:
        found.append(
            Finding(
                Level.BAD,
                f"{len(invalid)} indexes are invalid: {', '.join(i.name for i in invalid[:3])}.",
                "A failed CREATE INDEX CONCURRENTLY left them: each write pays for them, no query uses them. "
                "Drop them and create them again.",
            )
        )
    unused = [index for index in suspects if index.valid]
    size = sum(index.size_bytes for index in unused)
    if size > 10 * MIB:
        found.append(
            Finding(
                Level.WARN,
                f"{len(unused)} indexes of {_size(size)} were never read since the statistics were reset.",
                "If the statistics cover a whole business cycle, and no standby uses them, drop them.",
            )
        )
    return found


def replication(told: Replication) -> list[Finding]:
    """Standbys that lag (30 s, 60 s), slots that keep WAL, an archive that fails."""
    found = [
        Finding(
            Level.BAD if (replica.lag_s or 0) > LAG_BAD_S else Level.WARN,
            f"Standby {replica.name or replica.client} is {replica.lag_s:.0f} s behind.",
            "Look at its disk and at the network; a failover now would lose that much.",
        )
        for replica in told.replicas
        if (replica.lag_s or 0) > LAG_WARN_S
    ]
    if told.standby and (told.lag_s or 0) > LAG_WARN_S:
        level = Level.BAD if (told.lag_s or 0) > LAG_BAD_S else Level.WARN
        found.append(
            Finding(
                level, f"This standby is {told.lag_s:.0f} s behind.", "Look at the network and at long queries here."
            )
        )
    for slot in told.slots:
        if slot.wal_status == "lost":
            advice = "Its consumer has to start anew. Drop the slot and create it again."
            found.append(Finding(Level.BAD, f"Replication slot {slot.name} has lost the WAL it needs.", advice))
        elif not slot.active and (slot.retained_bytes or 0) > GIB:
            found.append(
                Finding(
                    Level.BAD,
                    f"Nobody reads slot {slot.name}, and it keeps {_size(slot.retained_bytes or 0)} of WAL.",
                    "Start its consumer, or drop the slot before the disk is full.",
                )
            )
    failed, done = told.last_archive_failure, told.last_archived
    if told.archiving and failed is not None and (done is None or failed > done):
        advice = "Look at archive_command and its target: WAL piles up until it works again."
        found.append(Finding(Level.BAD, "Archiving WAL fails.", advice))
    return found


def wraparound(databases: Sequence[Wraparound]) -> list[Finding]:
    """Transaction ids: warned of when automatic freezing is overdue by a half, bad at 75 % of what is usable."""
    return [
        Finding(
            Level.BAD if one.percent >= 75 else Level.WARN,
            f"Database {one.name} has used {one.percent:.0f} % of its transaction ids.",
            "Autovacuum does not finish freezing: end long transactions and drop dead slots, then run VACUUM FREEZE. "
            "At 100 % the server refuses to write.",
        )
        for one in databases
        if one.age > 1.5 * one.freeze_at or one.percent >= 75
    ]
