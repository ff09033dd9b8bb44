"""The PostgreSQL adapter on a real server, in particular through a proxy that breaks it half-way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from adapters.core import State, TimedOut, deadline
from adapters.core.probe import probe
from adapters.postgresql import PostgreSQL, PostgreSQLConfig
from adapters.postgresql_stats.server import Counters, human, per_second
from sandbox.faults import Fault
from sandbox.inprocess import Services
from tests.support_faulty import no_leaks


@pytest.fixture
def adapter(empty_database_url: str) -> Iterator[PostgreSQL]:
    made = PostgreSQL(PostgreSQLConfig(url=SecretStr(empty_database_url)))
    yield made
    made.close()


def test_a_well_server_is_healthy_with_one_headline(adapter: PostgreSQL) -> None:
    sample = probe(adapter)
    assert sample.health.state is State.HEALTHY, sample.health
    assert (sample.health.version or "").startswith("PostgreSQL 1")
    assert sample.metrics_error == ""
    assert [m.name for m in sample.metrics if m.headline] == ["latency"]
    names = {m.name for m in sample.metrics}
    assert {"connections", "connections_percent", "database_size", "longest_transaction", "wraparound"} <= names
    assert len(names) == len(sample.metrics)


def test_settings_carry_units_and_defaults(adapter: PostgreSQL) -> None:
    settings = {s.name: s for s in adapter.settings()}
    assert len(settings) > 200
    assert settings["fsync"].value != settings["fsync"].default
    assert str(settings["shared_buffers"].value).endswith("B")
    assert settings["statement_timeout"].default == "0"


def test_the_watching_connection_cannot_write(adapter: PostgreSQL) -> None:
    from adapters.core import Rejected

    with pytest.raises(Rejected):
        adapter._pool.rows("CREATE TABLE nothing (a int)")
    assert adapter.server().role == "primary"


def test_a_wrong_password_or_database_is_named(postgres_url: str) -> None:
    wrong = PostgreSQL(PostgreSQLConfig(url=SecretStr(postgres_url.rsplit("/", 1)[0] + "/nowhere")))
    health = probe(wrong).health
    assert health.state is State.DOWN
    assert health.kind == "Rejected"
    wrong.close()


def test_a_connection_lost_while_idle_is_replaced(adapter: PostgreSQL, postgres_url: str) -> None:
    adapter.server()
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pilothouse-watch'"
        )
    assert adapter.server().role == "primary"


@pytest.mark.parametrize("fault", list(Fault))
def test_faults_in_the_middle_of_a_connection(empty_database_url: str, tmp_path: Path, fault: Fault) -> None:
    services = Services(tmp_path)
    try:
        parts = psycopg.conninfo.conninfo_to_dict(empty_database_url)
        port = services.front("postgresql", int(parts["port"] or 0), "postgresql")
        parts["port"] = port
        adapter = PostgreSQL(PostgreSQLConfig(url=SecretStr(psycopg.conninfo.make_conninfo("", **parts))))
        assert probe(adapter).health.state is State.HEALTHY
        with no_leaks(ignore_threads=("adapter-loop", "asyncio_", "probe", "sandbox")):
            services.fault("postgresql", fault)
            start = time.monotonic()
            health = probe(adapter).health
            assert time.monotonic() - start < 3.4
            assert health.state in (State.DOWN, State.NO_ANSWER), health
            adapter.close()
    finally:
        services.close()


def test_a_slow_question_ends_with_the_deadline(adapter: PostgreSQL) -> None:
    start = time.monotonic()
    with pytest.raises(TimedOut), deadline(0.3):
        adapter._pool.rows("SELECT pg_sleep(5)")
    assert time.monotonic() - start < 1.0
    assert adapter.server().role == "primary"


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        ("16384", "8kB", "128MB"),
        ("0", "ms", "0"),
        ("-1", "kB", "-1"),
        ("300", "s", "5min"),
        ("90", "s", "90s"),
        ("4096", "kB", "4MB"),
        ("on", None, "on"),
        (None, None, ""),
    ],
)
def test_values_are_shown_as_show_prints_them(value: str | None, unit: str | None, shown: str) -> None:
    assert human(value, unit) == shown


def test_a_rate_needs_two_readings_without_a_reset(adapter: PostgreSQL) -> None:
    import dataclasses
    from datetime import timedelta

    first: Counters = adapter.counters()
    later = dataclasses.replace(first, at=first.at + timedelta(seconds=10), commits=first.commits + 50)
    assert per_second(first, later, "transactions") == 5.0
    assert per_second(later, dataclasses.replace(first, at=later.at + timedelta(seconds=1)), "transactions") is None
    assert per_second(first, first, "transactions") is None
