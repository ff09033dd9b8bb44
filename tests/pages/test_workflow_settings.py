"""The face Settings of Temporal: edited in the form and the grid, reviewed, saved, taken back."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest
from temporalio.client import Client, WorkflowFailureError

from operations import workflow_settings, workflow_settings_history
from operations.access import SYSTEM
from operations.platform import Platform
from operations.workflow_settings import Edit
from pages.temporal_parts import settings_form
from sandbox.inprocess import Services
from tests.pages.driver import opened, signed_in, texts
from tests.support_workflows import Failing, Seen, working

pytestmark = pytest.mark.engines
FACE = {"face_temporal": "Settings"}


def settings(platform: Platform, role: str = "infra_admin") -> AppTest:
    app = opened("temporal", signed_in(platform, role), FACE)
    assert not app.exception
    return app


def press(app: AppTest, label: str) -> AppTest:
    button = next(one for one in app.button if one.label == label)
    return button.click().run()


def edit(app: AppTest, type_: str, **cells: Any) -> None:
    """Type into the grid."""
    index = [row.type for row in app.session_state["_ws_draft"].rows][1:].index(type_)
    state = {"edited_rows": {index: cells}, "added_rows": [], "deleted_rows": []}
    app.session_state[f"ws_grid_{app.session_state['_ws_draft'].generation}"] = state


def test_a_change_is_reviewed_saved_and_taken_back(platform: Platform) -> None:
    app = settings(platform)
    edit(app, "usage-sync", retry_attempts=5)
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
    attempts = next(one for one in workflow_settings_history.history(platform, SYSTEM) if one.type == "usage-sync")
    app.button(key=f"ws_revert_{attempts.id}").click().run()
    assert "attempts <del>5</del> → <b>inherits</b>, nothing of its own any more" in texts(app)
    assert workflow_settings.effective(platform, "usage-sync").retry_attempts == 5, "it was only looked at"
    workflow_settings.save(platform, SYSTEM, [Edit("usage-sync", {"retry_attempts": 9})], reason="newer")
    press(app, "Take it back")  # the page first shows what is newer
    assert workflow_settings.effective(platform, "usage-sync").retry_attempts == 9
    press(app, "Take it back")
    assert not app.exception
    assert "Somebody changed this" in texts(app)
    assert workflow_settings.effective(platform, "usage-sync").retry_attempts == 9
    app.run()
    assert "attempts <del>9</del> → <b>inherits</b>" in texts(app)
    press(app, "Take it back")
    assert f"Change {attempts.id} taken back" in texts(app)
    assert workflow_settings.effective(platform, "usage-sync").retry_attempts == 3
    app.button(key=f"ws_revert_{attempts.id}").click().run()
    assert "is already as it was before" in texts(app)


def test_the_grid_says_in_words_what_a_run_gets(platform: Platform) -> None:
    workflow_settings.save(platform, SYSTEM, [Edit("sleep-cycle", {"timeout_seconds": 7200})], reason="long nights")
    rows = {row.type: settings_form.in_effect(row) for row in workflow_settings.listing(platform, SYSTEM)}
    assert rows["sleep-cycle"] == "2 hours, 3 attempts, ×2, 100 at once"
    assert rows["tenant-offboarding"] == "90 days, 3 attempts, ×2, any number"


def test_three_attempts_made_five_in_the_grid_are_five_on_a_running_worker(
    platform: Platform, temporal_address: str
) -> None:
    workflow_settings.save(platform, SYSTEM, [Edit("test-failing", {"backoff_multiplier": 1.0})], reason="quicker")
    assert workflow_settings.effective(platform, "test-failing").retry_attempts == 3

    def change() -> None:
        app = settings(platform)
        edit(app, "test-failing", retry_attempts=5)
        press(app, "Review changes")
        next(one for one in app.text_input if one.label == "Reason").set_value("it fails often")
        press(app, "Save 1 change")

    async def work() -> None:
        client, seen, queue = await Client.connect(temporal_address), Seen(), f"grid-{uuid.uuid4().hex[:8]}"
        async with working(platform, client, queue, seen):
            await asyncio.to_thread(change)
            handle = await client.start_workflow(Failing.run, id=queue, task_queue=queue)
            with pytest.raises(WorkflowFailureError):
                await asyncio.wait_for(handle.result(), 30)
            assert seen.calls[queue] == 5

    asyncio.run(work())


def test_bad_values_are_named_with_their_range_and_typing_is_kept(platform: Platform) -> None:
    app = settings(platform)
    edit(app, "usage-sync", timeout_seconds=0, retry_attempts=101)
    press(app, "Review changes")
    said = texts(app)
    assert "usage-sync\\: timeout" in said and "365 days" in said
    assert "usage-sync\\: attempts" in said
    assert app.session_state["_ws_draft"].typed()["usage-sync"] == {"timeout_seconds": 0, "retry_attempts": 101}
    assert workflow_settings.effective(platform, "usage-sync").retry_attempts == 3


def test_a_conflict_shows_both_values_and_keeps_the_typing(platform: Platform) -> None:
    app = settings(platform)
    workflow_settings.save(platform, SYSTEM, [Edit("usage-sync", {"retry_attempts": 7})], reason="faster")
    edit(app, "usage-sync", retry_attempts=5)
    press(app, "Review changes")
    assert "| usage-sync | attempts | 7 | 5 |" in texts(app)
    next(one for one in app.text_input if one.label == "Reason").set_value("mine")
    press(app, "Save over theirs")
    assert workflow_settings.effective(platform, "usage-sync").retry_attempts == 5


def test_redis_away_is_said_and_the_change_waits(platform: Platform, standins: Services) -> None:
    app = settings(platform)
    standins.fault("redis", "refuse")
    edit(app, "usage-sync", retry_attempts=5)
    press(app, "Review changes")
    next(one for one in app.text_input if one.label == "Reason").set_value("mine")
    press(app, "Save 1 change")
    assert "waiting for Redis" in texts(app)


def test_readers_see_everything_and_are_told_why_they_change_nothing(platform: Platform) -> None:
    app = settings(platform, "product_manager")
    said = texts(app)
    assert "workflows:configure" in said and "tenant-offboarding" in said and "from the defaults" in said
    assert not [one for one in app.button if one.label in ("Review changes", "Revert")]


def test_typing_stays_while_another_face_is_looked_at(platform: Platform) -> None:
    app = settings(platform)
    edit(app, "usage-sync", retry_attempts=5)
    next(one for one in app.number_input if one.label == "Max concurrent").set_value(40)
    app.run()
    assert "Unsaved changes" in texts(app)
    app.session_state["face_temporal"] = "Configure"
    app.run()
    app.session_state["face_temporal"] = "Settings"
    app.run()
    assert not app.exception
    press(app, "Review changes")
    said = texts(app)
    assert "attempts <del>3 (default)</del> → <b>5</b>" in said
    assert "max concurrent <del>100</del> → <b>40</b>" in said
    press(app, "Discard")
    assert "Unsaved changes" not in texts(app)


def test_a_type_that_comes_late_is_added_and_takes_no_typing_away(platform: Platform) -> None:
    app = settings(platform)
    edit(app, "usage-sync", retry_attempts=5)
    next(one for one in app.text_input if one.label == "Workflow type").set_value("-wrong")
    press(app, "Add to the grid")
    assert "a letter or digit first" in texts(app)
    next(one for one in app.text_input if one.label == "Workflow type").set_value("renders")
    press(app, "Add to the grid")
    edit(app, "renders", max_concurrent=2)
    press(app, "Review changes")
    said = texts(app)
    assert "attempts <del>3 (default)</del> → <b>5</b>" in said
    assert "max concurrent <del>100 (default)</del> → <b>2</b>" in said


def test_postgresql_away_is_a_sentence(platform: Platform, standins: Services) -> None:
    sid = signed_in(platform, "infra_admin")
    app = opened("temporal", sid, FACE)
    edit(app, "usage-sync", retry_attempts=5)
    standins.fault("postgresql", "refuse")
    press(app, "Review changes")
    assert not app.exception
    assert "PostgreSQL" in texts(app)
    standins.fault("postgresql", None)
    press(app, "Review changes")
    assert "<b>5</b>" in texts(app)
