"""Migrations: from nothing, twice, by several at once, and equal to the tables as declared."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from models import Base
from operations.database import Database, StoreUnavailable, migrate, normalise
from sandbox.engines import Postgres
from sandbox.processes import free_port

pytestmark = pytest.mark.engines
OURS = set(Base.metadata.tables)


def test_declared_tables_are_the_migrated_ones(empty_database_url: str) -> None:
    migrate(empty_database_url)
    engine = create_engine(normalise(empty_database_url))
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_server_default": True,
                "include_name": lambda name, kind, _parents: kind != "table" or name in OURS,
            },
        )
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_many_migrate_at_once(empty_database_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(migrate, empty_database_url) for _ in range(4)]:
            done.result(60)
    database = Database(empty_database_url)
    with database.session() as session:
        assert session.scalar(text("SELECT count(*) FROM alembic_version")) == 1
    database.close()


def test_maintenance_gets_four_hours_where_nobody_has_changed_it(postgres: Postgres) -> None:
    for name, changed, wanted in (("unchanged", "", 14_400), ("changed", "timeout_seconds = 3600,", 3600)):
        url = postgres.create_database(f"maintenance_{name}")
        migrate(url, revision="0004")
        database = Database(url)
        with database.session() as session:
            if changed:
                session.execute(
                    text(f"UPDATE workflow_settings SET {changed} updated_by = 'Ada' WHERE type = 'maintenance'")
                )
        migrate(url)
        with database.session() as session:
            found = session.execute(
                text("SELECT timeout_seconds, version FROM workflow_settings WHERE type = 'maintenance'")
            ).one()
        assert (found.timeout_seconds, found.version > 1) == (wanted, not changed)
        database.close()
        postgres.drop_database(f"maintenance_{name}")


def test_no_server_is_a_sentence() -> None:
    with pytest.raises(StoreUnavailable) as caught:
        migrate(f"postgresql://postgres@127.0.0.1:{free_port()}/none")
    assert caught.value.sentence == "PostgreSQL cannot be reached."


def test_pool_settings_apply_live(database_url: str) -> None:
    database = Database(database_url)
    with database.session() as held:
        database.reconfigure(pool_size=1, max_overflow=0, pool_timeout_s=0.1, statement_timeout_ms=150)
        assert held.scalar(text("SELECT 1")) == 1  # a session under way finishes on the old pool
    with database.session() as session:
        assert session.scalar(text("SHOW statement_timeout")) == "150ms"
        with pytest.raises(StoreUnavailable, match="in use"), database.session() as second:
            second.execute(text("SELECT 1"))
    with pytest.raises(StoreUnavailable, match="in time"), database.session() as session:
        session.execute(text("SELECT pg_sleep(5)"))
    database.close()
