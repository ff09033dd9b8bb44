"""``python -m sandbox.demo PLAN.json``: create and migrate the database, and put the demo world into it once."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from operations.database import migrate
from sandbox.demo import history, limits
from sandbox.demo.world import TIERS, World, world
from sandbox.people import Person


def copy(
    connection: psycopg.Connection[Any], table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """COPY rows into a table."""
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with connection.cursor() as cursor, cursor.copy(statement) as target:
        for row in rows:
            target.write_row(row)


def add_tiers(connection: psycopg.Connection[Any]) -> None:
    """The four plans exist even in an empty sandbox; rows that are there are kept."""
    for tier in TIERS:
        quotas = {**tier.quotas, **tier.limits}
        connection.execute(
            "INSERT INTO tiers (code, name, rank, price_cents, public, quotas) VALUES (%s, %s, %s, %s, %s, %s) "
            "ON CONFLICT DO NOTHING",
            (tier.code, tier.name, tier.rank, tier.price_cents, tier.public, Jsonb(quotas)),
        )


def add_tokens(connection: psycopg.Connection[Any], people: Iterable[Person]) -> None:
    """Each demo person's API token, as a hash."""
    for person in people:
        connection.execute(
            "INSERT INTO api_tokens (name, token_hash, owner, roles) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (
                f"Sandbox token of {person.name}",
                hashlib.sha256(person.api_token.encode()).hexdigest(),
                person.id,
                Jsonb(list(person.roles)),
            ),
        )


def add_world(connection: psycopg.Connection[Any], made: World) -> None:
    """Tenants, agents, usage, and the past of every service."""
    copy(
        connection, "tenants",
        ("id", "name", "tier_code", "status", "created_at", "lago_customer_id", "keycloak_realm", "somabrain_tenant",
         "contact_email"),
        ((one.id, one.name, one.tier, one.status, one.created_at, one.id, None, one.id,
          # As in life, some never told where to write to.
          None if number % 9 == 4 else one.email) for number, one in enumerate(made.tenants)),
    )  # fmt: skip
    copy(
        connection, "agents", ("id", "tenant_id", "name", "created_at"),
        ((agent.id, one.id, agent.name, one.created_at) for one in made.tenants for agent in one.agents),
    )  # fmt: skip
    copy(
        connection, "usage_daily", ("tenant_id", "key", "day", "amount", "over", "blocked"),
        ((row.tenant_id, row.key, row.day, row.amount, row.over, row.blocked) for row in made.usage),
    )  # fmt: skip
    now = history.utc_now()
    health = ("service", "bucket", "n", "healthy", "degraded", "no_answer", "down", "other", "latency_n", "latency_min",
              "latency_max", "latency_sum")  # fmt: skip
    metrics = ("service", "metric", "bucket", "n", "min", "max", "sum")
    for resolution in ("hour", "minute"):
        copy(connection, f"health_{resolution}", health, history.health_rows(made, now, resolution))
        copy(connection, f"samples_{resolution}", metrics, history.metric_rows(made, now, resolution))
    copy(
        connection, "state_changes", ("service", "at", "from_state", "to_state", "message"),
        history.state_change_rows(made, now),
    )  # fmt: skip


def add_workflow_settings(connection: psycopg.Connection[Any]) -> None:
    """What the demo product's workflows need that the defaults do not give."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO workflow_settings (type, timeout_seconds, max_concurrent, version, reason, updated_by)"
            " VALUES (%s, %s, %s, nextval('workflow_settings_version'), %s, 'Pilothouse')",
            [("Conversation", 3600, None, "people take their time"), ("IndexDocuments", None, 4, "embedding is dear")],
        )


def prepare(server: str, database: str, seed: int | None, today: date, people: Iterable[Person]) -> None:
    """Bring a database to its state at the first start. Everything or nothing; safe to repeat.

    ``server`` is the DSN of the maintenance database, ``database`` the one to make.
    """
    name = database.rsplit("/", 1)[1]
    with psycopg.connect(server, autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    migrate(database)
    with psycopg.connect(database) as connection:
        add_tiers(connection)
        add_tokens(connection, people)
        empty = not connection.execute("SELECT 1 FROM tenants LIMIT 1").fetchone()
        if seed is not None and empty:
            made, now = world(seed, today), history.utc_now()
            add_world(connection, made)
            limits.add_overrides(connection, now)
            add_workflow_settings(connection)
            columns = ("key", "subject", "hour", "amount", "over", "blocked", "billed", "billed_over")
            copy(connection, "rate_limit_usage", columns, limits.hourly(made, now))
        connection.commit()
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("ANALYZE")


def main(plan: dict[str, Any]) -> None:
    """Prepare the database of a plan."""
    database = plan["database"]
    prepare(
        f"{database.rsplit('/', 1)[0]}/postgres",
        database,
        plan["seed"],
        date.fromisoformat(plan["today"]),
        [Person.from_dict(one) for one in plan["people"]],
    )


if __name__ == "__main__":
    try:
        main(json.loads(Path(sys.argv[1]).read_text()))
    except Exception as error:
        detail = getattr(error, "detail", "")
        sys.exit(f"{type(error).__name__}: {error} {detail}".replace("\n", " ").strip())
