"""What the PostgreSQL adapter tells, on a real server in the states it has to tell about."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta

import psycopg
import pytest
from pydantic import SecretStr

from adapters.core import deadline
from adapters.postgresql import PostgreSQL, PostgreSQLConfig
from adapters.postgresql_stats import advice
from tests.support import poll


@pytest.fixture
def adapter(empty_database_url: str) -> Iterator[PostgreSQL]:
    made = PostgreSQL(PostgreSQLConfig(url=SecretStr(empty_database_url)))
    yield made
    made.close()


@pytest.fixture
def db(empty_database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        yield connection


def test_an_empty_database_answers_everything_with_nothing(adapter: PostgreSQL) -> None:
    assert adapter.largest_tables() == []
    assert adapter.unindexed_tables() == []
    assert adapter.dead_rows() == []
    assert adapter.bloat() == []
    assert adapter.unused_indexes() == []
    assert adapter.locks().roots == ()
    told = adapter.replication()
    assert (told.standby, told.replicas, told.slots) == (False, (), ())
    assert "pg_stat_statements" in adapter.statements().missing
    databases, tables = adapter.wraparound()
    assert databases
    assert len(tables) <= 20


def test_idle_in_transaction_is_seen_and_terminated(adapter: PostgreSQL, empty_database_url: str) -> None:
    victim = psycopg.connect(empty_database_url, application_name="forgetful")
    victim.execute("SELECT 'secret', 1 AS password")
    found = poll(lambda: [s for s in adapter.transactions() if s.application == "forgetful"])
    assert found[0].state == "idle in transaction"
    assert adapter.session(found[0].pid, found[0].backend_start) is not None
    wrong = found[0].backend_start - timedelta(microseconds=1)
    assert adapter.terminate(found[0].pid, wrong) is False, "a pid used again must never be hit"
    assert victim.execute("SELECT 1").fetchone() == (1,)
    assert adapter.terminate(found[0].pid, found[0].backend_start) is True
    with pytest.raises(psycopg.Error):
        poll(lambda: victim.execute("SELECT 1") and False)
    assert adapter.terminate(found[0].pid, found[0].backend_start) is False
    with suppress(psycopg.Error):
        victim.close()


def test_cancelling_ends_the_statement_and_keeps_the_session(adapter: PostgreSQL, empty_database_url: str) -> None:
    outcome: list[str] = []

    def sleep() -> None:
        with psycopg.connect(empty_database_url, application_name="sleeper", autocommit=True) as connection:
            try:
                connection.execute("SELECT pg_sleep(30)")
            except psycopg.errors.QueryCanceled:
                outcome.append("cancelled")
            outcome.append(str(connection.execute("SELECT 1").fetchone()))

    thread = threading.Thread(target=sleep)
    thread.start()
    found = poll(lambda: [s for s in adapter.transactions() if s.application == "sleeper" and s.state == "active"])
    assert adapter.cancel(found[0].pid, found[0].backend_start) is True
    thread.join(10)
    assert outcome == ["cancelled", "(1,)"]


def test_a_chain_of_locks_is_a_tree(adapter: PostgreSQL, db: psycopg.Connection, empty_database_url: str) -> None:
    db.execute("CREATE TABLE held (id int)")
    with ExitStack() as stack:
        holder = stack.enter_context(psycopg.connect(empty_database_url, application_name="holder"))
        holder.execute("LOCK held IN ACCESS EXCLUSIVE MODE")
        threads = []

        def wait_for_it(name: str) -> None:
            with suppress(psycopg.Error), psycopg.connect(empty_database_url, application_name=name) as connection:
                connection.execute("LOCK held IN ACCESS EXCLUSIVE MODE")

        for name in ("first", "second", "third"):
            threads.append(threading.Thread(target=wait_for_it, args=(name,)))
            threads[-1].start()
        roots = poll(lambda: [r for r in adapter.locks().roots if r.held_up == 3])
        assert roots[0].session.application == "holder"
        assert roots[0].waits_for == ""
        assert all("held" in child.waits_for for child in roots[0].waiting)
        assert any(row[0] == "AccessExclusiveLock" and row[2] >= 1 for row in adapter.locks().by_mode)
        assert advice.locks(adapter.locks())[0].sentence.endswith("holds up 3 others.")
        holder.rollback()
        for thread in threads:
            thread.join(10)
    assert poll(lambda: not adapter.locks().roots)


def test_passwords_in_statements_are_masked(adapter: PostgreSQL, empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, application_name="secretive") as victim:
        victim.execute("CREATE ROLE canary_role PASSWORD 'canary-secret'")
        found = poll(lambda: [s for s in adapter.transactions() if s.application == "secretive"])
        assert "canary-secret" not in found[0].query
        victim.rollback()


def test_missing_unused_and_invalid_indexes_dead_rows_and_bloat(adapter: PostgreSQL, db: psycopg.Connection) -> None:
    db.execute("CREATE TABLE big (id int, other int, pad text) WITH (autovacuum_enabled = off)")
    db.execute("INSERT INTO big SELECT n, n, repeat('x', 200) FROM generate_series(1, 40000) n")
    db.execute("CREATE INDEX big_unused ON big (other)")
    db.execute("CREATE UNIQUE INDEX big_unique ON big (id)")
    db.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'big_unique'::regclass")
    db.execute("ANALYZE big")
    db.execute("SET max_parallel_workers_per_gather = 0")
    for _ in range(60):
        db.execute("SELECT count(*) FROM big WHERE pad = 'y'")
    db.execute("DELETE FROM big WHERE id % 2 = 0")
    db.execute("ANALYZE big")
    db.execute("SELECT pg_stat_force_next_flush()")
    db.execute("SELECT 1")

    unindexed = poll(lambda: adapter.unindexed_tables())
    assert unindexed[0].name == "public.big"
    assert unindexed[0].seq_scans >= 60
    dead = poll(lambda: adapter.dead_rows())
    assert dead[0].dead_percent > 20
    bloated = poll(lambda: adapter.bloat())
    assert bloated[0].name == "public.big"
    assert 35 < bloated[0].percent < 65, "half of the rows are gone, so about half of the pages hold nothing"
    suspects = {i.name: i for i in adapter.unused_indexes()}
    assert suspects["public.big_unused"].valid
    assert not suspects["public.big_unique"].valid
    sentences = " ".join(
        f.sentence
        for f in [*advice.tables(unindexed, dead, bloated), *advice.indexes(list(suspects.values()))]
    )  # fmt: skip
    assert "read mostly in full" in sentences
    assert "invalid" in sentences
    assert adapter.largest_tables()[0].name == "public.big"


def test_a_table_without_waste_is_not_called_bloated(adapter: PostgreSQL, db: psycopg.Connection) -> None:
    db.execute("CREATE TABLE tidy (id bigint, name text, at timestamptz, note text)")
    db.execute("INSERT INTO tidy SELECT n, 'name ' || n, now(), repeat('y', n % 50) FROM generate_series(1, 50000) n")
    db.execute("VACUUM ANALYZE tidy")
    assert [b.name for b in adapter.bloat()] == []


def test_a_slot_nobody_reads_is_told(adapter: PostgreSQL, db: psycopg.Connection) -> None:
    if db.execute("SHOW wal_level").fetchone() == ("minimal",):
        pytest.skip("this server is set up without replication")
    db.execute("SELECT pg_create_physical_replication_slot('forgotten', true)")
    try:
        slots = {slot.name: slot for slot in adapter.replication().slots}
        assert not slots["forgotten"].active
        assert slots["forgotten"].retained_bytes is not None
    finally:
        db.execute("SELECT pg_drop_replication_slot('forgotten')")


def test_a_user_without_rights_gets_what_it_may_see(
    adapter: PostgreSQL, db: psycopg.Connection, empty_database_url: str
) -> None:
    db.execute("DROP ROLE IF EXISTS nobody_much")
    db.execute("CREATE ROLE nobody_much LOGIN")
    parts = psycopg.conninfo.conninfo_to_dict(empty_database_url)
    parts["user"] = "nobody_much"
    made = PostgreSQL(PostgreSQLConfig(url=SecretStr(psycopg.conninfo.make_conninfo("", **parts))))
    try:
        assert made.replication().wal_files_bytes is None
        assert made.metrics()
        assert made.settings()
        assert made.locks().roots == ()
        assert made.bloat() == []
    finally:
        made.close()
        db.execute("DROP ROLE nobody_much")


def test_five_thousand_tables_do_not_slow_it(adapter: PostgreSQL, db: psycopg.Connection) -> None:
    db.execute("SET synchronous_commit = off")
    for start in range(0, 5000, 500):
        db.execute(
            "DO $$ BEGIN FOR n IN " + f"{start}..{start + 499}"
            " LOOP EXECUTE format('CREATE TABLE t%s (id int primary key, a int)', n); END LOOP; END $$"
        )
    db.execute("ANALYZE pg_catalog.pg_class")
    for ask in (
        adapter.largest_tables, adapter.unindexed_tables, adapter.dead_rows, adapter.bloat, adapter.unused_indexes,
        adapter.wraparound, adapter.locks, adapter.transactions, adapter.server,
    ):  # fmt: skip
        start_at = time.monotonic()
        with deadline(5):
            found = ask()
        took = time.monotonic() - start_at
        assert took < 1.5, f"{ask.__name__} took {took:.2f} s with 5,000 tables"
        assert not isinstance(found, list) or len(found) <= 100
