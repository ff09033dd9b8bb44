"""A platform with a past, made once and copied for each test that wants it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import date

import psycopg
import pytest

from sandbox.demo.__main__ import add_tiers, add_world
from sandbox.demo.world import world
from sandbox.engines import Postgres

SEED = 7
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def template_world(postgres: Postgres, template_database: str) -> str:
    """Name of a migrated database with tenants, usage and history. Copy it; never connect to it."""
    with psycopg.connect(postgres.create_database("template_world", template_database)) as connection:
        add_tiers(connection)
        add_world(connection, world(SEED, date.today()))
    return "template_world"


@pytest.fixture
def database_url(postgres: Postgres, template_database: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """DSN of a database of this test alone: with a past where the test's situation is "well"."""
    parameters = getattr(getattr(request.node, "callspec", None), "params", {})
    well = parameters.get("situation") == "well"
    template = request.getfixturevalue("template_world") if well else template_database
    name = f"pages_{next(_numbers)}"
    yield postgres.create_database(name, template)
    postgres.drop_database(name)
