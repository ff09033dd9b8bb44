"""The PostgreSQL page: its sections in every situation, changing the pool, ending a session."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from operations import health, services
from operations.access import SYSTEM
from operations.platform import Platform
from pages.postgresql_parts.monitor import SECTIONS
from sandbox.processes import free_port
from tests.pages.driver import opened, signed_in, texts
from tests.support import poll

pytestmark = pytest.mark.engines

MONITOR, CONFIGURE = {"face_postgresql": "Monitor"}, {"face_postgresql": "Configure"}


@pytest.fixture
def down(monkeypatch: pytest.MonkeyPatch, platform: Platform) -> None:
    """The administered server refuses; the console's own database answers."""
    monkeypatch.setenv("PILOTHOUSE_POSTGRESQL_URL", f"postgresql://nobody@127.0.0.1:{free_port()}/nothing")
    platform.reload("postgresql")
    health.refresh(platform, SYSTEM)


@pytest.fixture
def lingering(database_url: str) -> Iterator[psycopg.Connection]:
    """A session that stays inside its transaction."""
    with psycopg.connect(database_url, application_name="lingering") as connection:
        connection.execute("SELECT 1")
        yield connection


@pytest.mark.parametrize("role", ["infra_admin", "analyst"])
def test_status_tells_version_role_and_databases(platform: Platform, role: str) -> None:
    health.refresh(platform, SYSTEM)
    sid = signed_in(platform, role)
    drawn = poll(
        lambda: (text := texts(opened("postgresql", sid))) and "Databases" in text and "primary" in text and text
    )
    for word in ("Version", "Role", "Up for", "Latency", "Connections", "What needs attention"):
        assert word in drawn


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("role", ["infra_admin", "analyst"])
def test_every_section_of_monitor(platform: Platform, role: str, section: str) -> None:
    app = opened("postgresql", signed_in(platform, role), {**MONITOR, "pg_section": section})
    assert not app.exception
    app.run()
    assert not app.exception
    assert "Could not read" not in texts(app)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_while_the_server_is_down(platform: Platform, down: None, section: str) -> None:
    app = opened("postgresql", signed_in(platform, "infra_admin"), {**MONITOR, "pg_section": section})
    assert not app.exception
    assert "Could not read" in texts(app), "a failure must not look empty"


def test_status_while_the_server_is_down(platform: Platform, down: None) -> None:
    drawn = texts(opened("postgresql", signed_in(platform, "analyst")))
    assert "Nothing is known" in drawn
    assert "What to do" in drawn


def test_limits_are_said_not_to_apply(platform: Platform) -> None:
    app = opened("postgresql", signed_in(platform, "analyst"), {"face_postgresql": "Limits"})
    assert "Not applicable." in texts(app)


def test_the_servers_settings_are_found_by_words(platform: Platform) -> None:
    app = opened("postgresql", signed_in(platform, "analyst"), CONFIGURE)
    search = next(box for box in app.text_input if box.key == "pg_settings_search")
    search.set_value("application name session")
    app.button_group(key="pg_settings_which").set_value("All") if app.get("button_group") else None
    app.run()
    assert not app.exception
    assert "application_name" in texts(app)


def test_the_pool_is_changed_live(platform: Platform) -> None:
    app = opened("postgresql", signed_in(platform, "infra_admin"), CONFIGURE)
    next(box for box in app.number_input if box.key == "config_postgresql_pool_size_0").set_value(17)
    next(box for box in app.text_input if box.label == "Reason").set_value("more people")
    next(button for button in app.button if button.label == "Save").click()
    app.run()
    assert not app.exception
    poll(lambda: platform.reload("postgresql") or platform.database.pool.pool_size == 17)
    assert platform.database.pool_status()["size"] == 17


def test_a_conflict_shows_both_values_and_keeps_what_was_typed(platform: Platform) -> None:
    app = opened("postgresql", signed_in(platform, "infra_admin"), CONFIGURE)
    next(box for box in app.number_input if box.key == "config_postgresql_pool_size_0").set_value(21)
    seen = services.describe(platform, SYSTEM, "postgresql").version
    services.change(platform, SYSTEM, "postgresql", seen, {"pool_size": 33}, "faster")
    next(button for button in app.button if button.label == "Save").click()
    app.run()
    assert not app.exception
    drawn = texts(app)
    assert "33" in drawn
    assert "21" in drawn
    kept = next(box for box in app.number_input if box.key == "config_postgresql_pool_size_0")
    assert kept.value == 21


def test_a_session_is_chosen_by_what_it_is_and_confirmed(platform: Platform, lingering: psycopg.Connection) -> None:
    pid = lingering.info.backend_pid
    app = opened("postgresql", signed_in(platform, "infra_admin"), {**MONITOR, "pg_section": "Sessions"})

    def choice() -> str | None:
        app.run()
        boxes = [box for box in app.selectbox if box.key == "pg_end_pick"]
        return next((o for o in boxes[0].options if o.startswith(f"{pid} ")), None) if boxes else None

    option = poll(choice)
    next(box for box in app.selectbox if box.key == "pg_end_pick").select(option)
    app.run()
    next(button for button in app.button if button.key == "pg_terminate").click()
    app.run()
    assert not app.exception
    assert any(box.label == f"Type {pid} to confirm" for box in app.text_input)
    assert lingering.execute("SELECT 2").fetchone() == (2,), "nothing happens before it is confirmed"


def test_who_may_not_end_a_session_reads_whom_to_ask(platform: Platform, lingering: psycopg.Connection) -> None:
    sid = signed_in(platform, "analyst")
    query = {**MONITOR, "pg_section": "Sessions"}
    drawn = poll(lambda: (text := texts(opened("postgresql", sid, query))) and "lingering" in text and text)
    assert "Ending a session needs the role" in drawn
