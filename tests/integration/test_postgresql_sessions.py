"""Ending sessions through the door: permission, reason, the right session, and a record of all of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from adapters.postgresql import PostgreSQL, PostgreSQLConfig
from adapters.postgresql_stats.activity import Session
from operations import audit, change, postgresql
from operations.access import Actor, Forbidden
from operations.database import Database
from operations.readings import Readings
from tests.support import poll

IVO = Actor("ivo", "Ivo", frozenset({"infra_admin"}))
ANA = Actor("ana", "Ana", frozenset({"analyst"}))


@pytest.fixture
def console(database_url: str) -> Iterator[Any]:
    made = SimpleNamespace(
        database=Database(database_url),
        adapters={"postgresql": PostgreSQL(PostgreSQLConfig(url=SecretStr(database_url)))},
        readings=Readings(),
    )
    yield made
    made.adapters["postgresql"].close()
    made.readings.close()
    made.database.close()


@pytest.fixture
def victim(database_url: str) -> Iterator[psycopg.Connection]:
    connection = psycopg.connect(database_url, application_name="victim")
    connection.execute("SELECT 1")
    yield connection
    with suppress(psycopg.Error):
        connection.close()


def found(console: Any) -> Session:
    adapter: PostgreSQL = console.adapters["postgresql"]
    return poll(lambda: [s for s in adapter.transactions() if s.application == "victim"])[0]


def outcomes(console: Any) -> list[tuple[str, str, str]]:
    return [(e.action, (e.after or {})["outcome"], e.reason) for e in audit.entries(console, IVO, "postgresql")]


def test_terminating_is_recorded_before_and_after(console: Any, victim: psycopg.Connection) -> None:
    target = found(console)
    postgresql.terminate(console, IVO, target.pid, target.backend_start, "holds a lock")
    with pytest.raises(psycopg.Error):
        poll(lambda: victim.execute("SELECT 1") and False)
    action = "postgresql.session.terminate"
    assert outcomes(console) == [(action, "done", "holds a lock"), (action, "asked for", "holds a lock")]


def test_cancelling_keeps_the_session(console: Any, victim: psycopg.Connection) -> None:
    target = found(console)
    postgresql.cancel(console, IVO, target.pid, target.backend_start, "look")
    assert victim.execute("SELECT 2").fetchone() == (2,)
    assert outcomes(console)[0][:2] == ("postgresql.session.cancel", "done")


def test_another_session_of_the_same_number_is_not_hit(console: Any, victim: psycopg.Connection) -> None:
    target = found(console)
    with pytest.raises(change.NotFound):
        postgresql.terminate(console, IVO, target.pid, target.backend_start - timedelta(seconds=1), "stale page")
    assert victim.execute("SELECT 3").fetchone() == (3,)
    assert outcomes(console) == []


@pytest.mark.parametrize("reason", ["", "   ", "x" * 301])
def test_a_reason_is_needed(console: Any, victim: psycopg.Connection, reason: str) -> None:
    target = found(console)
    with pytest.raises(change.Invalid):
        postgresql.terminate(console, IVO, target.pid, target.backend_start, reason)
    assert victim.execute("SELECT 4").fetchone() == (4,)


def test_the_permission_is_needed(console: Any, victim: psycopg.Connection) -> None:
    target = found(console)
    with pytest.raises(Forbidden):
        postgresql.cancel(console, ANA, target.pid, target.backend_start, "curious")
    assert victim.execute("SELECT 5").fetchone() == (5,)
    assert outcomes(console) == []
