"""The sentences about what is wrong with a PostgreSQL server: said when they should be, silent otherwise."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from adapters.postgresql_stats import advice
from adapters.postgresql_stats.activity import Locks, Session, tree
from adapters.postgresql_stats.advice import Level
from adapters.postgresql_stats.indexes import Index
from adapters.postgresql_stats.replication import Replica, Replication, Slot
from adapters.postgresql_stats.server import Counters, Server
from adapters.postgresql_stats.tables import Bloat, Wraparound

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SERVER = Server("18", False, NOW - timedelta(days=1), NOW, "db", "me", 10, 100, 3)
COUNTERS = Counters(NOW, NOW, 1000, 10, 10**7, 1000, 0, 0, 0, 0, 0, 0, 0, 0)
SESSION = Session(1, NOW, "u", "d", "app", "local", "active", "", 10.0, 10.0, "SELECT 1")
REPLICATION = Replication(False, None, "0/1", 0, 0, False, 0, None, None)


def test_a_well_server_gets_no_advice() -> None:
    assert advice.connections(SERVER) == []
    assert advice.counters(COUNTERS) == []
    assert advice.sessions([SESSION]) == []
    assert advice.replication(REPLICATION) == []
    assert advice.wraparound([Wraparound("db", 190_000_000, 200_000_000)]) == []
    assert advice.tables((), (), (Bloat("t", 10**6, 10**5),)) == []
    assert advice.indexes(()) == []


def test_connections_run_out_in_two_steps() -> None:
    assert advice.connections(replace(SERVER, connections=80))[0].level is Level.WARN
    assert advice.connections(replace(SERVER, connections=95))[0].level is Level.BAD


def test_cache_spills_and_rollbacks() -> None:
    bad = replace(COUNTERS, blocks_read=10**7, temp_bytes=20 * 1024**3, rollbacks=9000)
    assert len(advice.counters(bad)) == 3


def test_idle_and_long_transactions() -> None:
    idle = replace(SESSION, state="idle in transaction", state_s=120.0, transaction_s=120.0)
    long = replace(SESSION, transaction_s=2 * 3600.0)
    found = advice.sessions([idle, long])
    assert [f.level for f in found] == [Level.WARN, Level.BAD]
    assert "1 sessions do nothing" in found[0].sentence


def test_replication_in_trouble() -> None:
    told = replace(
        REPLICATION,
        replicas=(Replica("a", "b", "streaming", "async", 1, 45.0), Replica("c", "d", "streaming", "async", 1, 90.0)),
        slots=(Slot("gone", "logical", False, "lost", None), Slot("idle", "physical", False, "extended", 2 * 1024**3)),
        archiving=True,
        last_archive_failure=NOW,
        last_archived=NOW - timedelta(hours=1),
    )
    assert [f.level for f in advice.replication(told)] == [Level.WARN, Level.BAD, Level.BAD, Level.BAD, Level.BAD]


def test_wraparound_and_indexes() -> None:
    assert advice.wraparound([Wraparound("db", 1_700_000_000, 200_000_000)])[0].level is Level.BAD
    invalid, unused = Index("i", "t", 1, 0, False, ""), Index("u", "t", 20 * 1024**2, 0, True, "")
    assert [f.level for f in advice.indexes([invalid, unused])] == [Level.BAD, Level.WARN]


def row(pid: int, *blockers: int) -> dict[str, object]:
    values = {name: getattr(SESSION, name) for name in Session.__dataclass_fields__}
    return {**values, "pid": pid, "blockers": list(blockers), "waits_for": "x"}


def test_every_waiting_session_stands_in_the_tree_once() -> None:
    forest = tree([row(1), row(2, 1), row(3, 1, 2), row(4, 2), row(9)])
    assert [root.session.pid for root in forest] == [1]
    assert forest[0].held_up == 3


def test_a_cycle_of_waiting_is_drawn_and_ends() -> None:
    forest = tree([row(1, 2), row(2, 1)])
    assert sum(1 + root.held_up for root in forest) == 2


def test_waiting_for_a_prepared_transaction_is_told() -> None:
    forest = tree([row(1, 0)])
    assert [(root.session.pid, root.held_up) for root in forest] == [(1, 0)]
    assert "prepared transaction" in advice.locks(Locks((), forest, False))[0].sentence
