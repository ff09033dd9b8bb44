"""The face Settings of Temporal: edited in the form and the grid, reviewed, saved, taken back."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from operations import workflow_settings
from operations.access import SYSTEM
from operations.platform import Platform
from operations.workflow_settings import Edit
from sandbox.inprocess import Services
from tests.pages.driver import opened, signed_in, texts

pytestmark = pytest.mark.engines
FACE = {"face_temporal": "Settings"}


def settings(platform: Platform, role: str = "infra_admin") -> AppTest:
    app = opened("temporal", signed_in(platform, role), FACE)
    assert not app.exception
    return app


def press(app: AppTest, label: str) -> AppTest:
    button = next(one for one in app.button if one.label == label)
    return button.click().run()


def rows_of(platform: Platform) -> list[str]:
    return [row.type for row in workflow_settings.listing(platform, SYSTEM)][1:]


def edit(app: AppTest, platform: Platform, type_: str, **cells: Any) -> None:
    """Type into the grid."""
    index = [row.type for row in app.session_state["_ws_draft"].rows][1:].index(type_)
    state = {"edited_rows": {index: cells}, "added_rows": [], "deleted_rows": []}
    app.session_state[f"ws_grid_{app.session_state['_ws_draft'].generation}"] = state


def test_a_change_is_reviewed_saved_and_taken_back(platform: Platform) -> None:
    app = settings(platform)
    edit(app, platform, "usage-sync", retry_attempts=5)
    next(one for one in app.number_input if one.label == "Max concurrent").set_value(40)
    press(app, "Review changes")
    said = texts(app)
    assert "attempts <del>3 (default)</del> → <b>5</b>" in said
    assert "max concurrent <del>100</del> → <b>40</b>" in said
    press(app, "Save 2 changes")
    assert "reason" in texts(app)
    next(one for one in app.text_input if one.label == "Reason").set_value("it fails often")
    press(app, "Save 2 changes")
    assert not app.exception
    now = workflow_settings.effective(platform, "usage-sync")
    assert (now.retry_attempts, now.max_concurrent) == (5, 40)
    assert "it fails often" in texts(app)
    press(app, "Revert")
    assert not app.exception


def test_bad_values_are_named_with_their_range_and_typing_is_kept(platform: Platform) -> None:
    app = settings(platform)
    edit(app, platform, "usage-sync", timeout_seconds=0, retry_attempts=101)
    press(app, "Review changes")
    said = texts(app)
    assert "usage-sync\\: timeout" in said and "365 days" in said
    assert "usage-sync\\: attempts" in said
    assert app.session_state["ws_grid_0"]["edited_rows"]
    assert workflow_settings.effective(platform, "usage-sync").retry_attempts == 3


def test_a_conflict_shows_both_values_and_keeps_the_typing(platform: Platform) -> None:
    app = settings(platform)
    workflow_settings.save(platform, SYSTEM, [Edit("usage-sync", {"retry_attempts": 7})], reason="faster")
    edit(app, platform, "usage-sync", retry_attempts=5)
    press(app, "Review changes")
    assert "| usage-sync | attempts | 7 | 5 |" in texts(app)
    next(one for one in app.text_input if one.label == "Reason").set_value("mine")
    press(app, "Save over theirs")
    assert workflow_settings.effective(platform, "usage-sync").retry_attempts == 5


def test_redis_away_is_said_and_the_change_waits(platform: Platform, standins: Services) -> None:
    app = settings(platform)
    standins.fault("redis", "refuse")
    edit(app, platform, "usage-sync", retry_attempts=5)
    press(app, "Review changes")
    next(one for one in app.text_input if one.label == "Reason").set_value("mine")
    press(app, "Save 1 change")
    assert "waiting for Redis" in texts(app)


def test_readers_see_everything_and_are_told_why_they_change_nothing(platform: Platform) -> None:
    app = settings(platform, "product_manager")
    said = texts(app)
    assert "workflows:configure" in said and "tenant-offboarding" in said and "from the defaults" in said
    assert not [one for one in app.button if one.label in ("Review changes", "Revert")]


def test_postgresql_away_is_a_sentence(platform: Platform, standins: Services) -> None:
    sid = signed_in(platform, "infra_admin")
    app = opened("temporal", sid, FACE)
    edit(app, platform, "usage-sync", retry_attempts=5)
    standins.fault("postgresql", "refuse")
    app.run()
    assert not app.exception
