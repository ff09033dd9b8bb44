"""Schedules, task queues and workers on the Temporal page: read by everyone, changed by those who may."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleSpec,
)
from temporalio.service import RPCError

from adapters.temporal_client.schedule_spec import Interval
from operations import health, workflow_queues, workflow_schedule_edit, workflow_schedule_new, workflow_schedules
from operations.access import SYSTEM
from operations.change import NotFound
from operations.platform import Platform
from operations.workflow_schedule_edit import Edit
from operations.workflow_schedule_new import New
from tests.pages.driver import opened, signed_in, texts
from tests.support import poll
from workflows import worker

pytestmark = pytest.mark.engines

SCHEDULES, LIMITS, WORKERS = ({"face_temporal": face} for face in ("Schedules", "Limits", "Workers"))
_numbers = itertools.count(1)


@pytest.fixture
def schedule(temporal_address: str) -> Iterator[str]:
    """A six-hourly schedule of this test alone."""
    name = f"page-{os.getpid()}-{next(_numbers)}"

    async def create() -> None:
        client = await Client.connect(temporal_address)
        action = ScheduleActionStartWorkflow("Nobody", "acme-secret", id=f"{name}-run", task_queue=name)
        spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(hours=6))])
        await client.create_schedule(name, Schedule(action=action, spec=spec))

    async def remove() -> None:
        client = await Client.connect(temporal_address)
        with suppress(RPCError):  # a test removed it
            await client.get_schedule_handle(name).delete()
        async for run in client.list_workflows(f"TaskQueue='{name}' AND ExecutionStatus='Running'"):
            await client.get_workflow_handle(run.id).terminate()

    asyncio.run(create())
    yield name
    asyncio.run(remove())


def until(open_page: Callable[[], AppTest], words: str) -> AppTest:
    """The page, opened again until it says these words: readings come in the background."""
    found: list[AppTest] = []

    def said() -> bool:
        found.append(open_page())
        assert not found[-1].exception
        return words in texts(found[-1])

    poll(said, 15, every=0.2, what=words)
    return found[-1]


def box(app: AppTest, kind: str, label: str) -> Any:
    return next(one for one in app.get(kind) if one.label == label)


def press(app: AppTest, label: str) -> None:
    next(one for one in app.button if one.label == label).click()
    app.run()
    assert not app.exception


def inside(app: AppTest, opener: str, label: str = "") -> str:
    """Press a button of an open dialog, or none; a browser runs the dialog alone, here it is opened again."""
    for one in app.button:
        if one.label in (opener, label):
            one.click()
    app.run()
    assert not app.exception
    return plain(app)


def plain(app: AppTest) -> str:
    """What the page says, without the escapes of Markdown."""
    return texts(app).replace("\\", "")


def choose(app: AppTest, schedule: str, what: str, generation: int = 0) -> None:
    app.session_state[f"schedule_what_{schedule}_{generation}"] = what
    app.run()
    assert not app.exception


def test_everyone_reads_the_list_and_one_schedule(platform: Platform, schedule: str) -> None:
    health.refresh(platform, SYSTEM)
    sid = signed_in(platform, "ai_viewer")
    drawn = texts(until(lambda: opened("temporal", sid, SCHEDULES), schedule))
    assert "every 6 hours" in drawn
    one = until(lambda: opened("temporal", sid, {**SCHEDULES, "schedule": schedule}), "Next runs")
    drawn = texts(one)
    assert "acme-secret" not in drawn
    assert "Changing a schedule needs the role" in drawn
    lost = until(lambda: opened("temporal", sid, {**SCHEDULES, "schedule": "no-such"}), "There is no schedule")
    assert not lost.exception


def test_a_schedule_is_paused_in_its_form(platform: Platform, schedule: str) -> None:
    sid = signed_in(platform, "infra_admin")
    app = until(lambda: opened("temporal", sid, {**SCHEDULES, "schedule": schedule}), "Next runs")
    assert "acme-secret" in texts(app)
    choose(app, schedule, "Pause or resume")
    press(app, "Pause")
    assert "Say why" in texts(app)
    box(app, "text_input", "Note").set_value("moving house")
    press(app, "Pause")
    assert workflow_schedules.one(platform, SYSTEM, schedule).note == "moving house"
    assert "Paused." in texts(app)


def test_an_edit_keeps_what_was_typed_through_refusal_and_conflict(platform: Platform, schedule: str) -> None:
    sid = signed_in(platform, "infra_admin")
    app = until(lambda: opened("temporal", sid, {**SCHEDULES, "schedule": schedule}), "Next runs")
    choose(app, schedule, "Edit")
    app.session_state[f"schedule_how_{schedule}_0"] = "Cron"
    app.run()
    box(app, "text_area", "Cron").set_value("61 3 * * *")
    box(app, "text_input", "Reason").set_value("nights only")
    press(app, "Save")
    assert "not in range" in texts(app)
    assert box(app, "text_area", "Cron").value == "61 3 * * *"
    box(app, "text_area", "Cron").set_value("30 3 * * *")
    seen = workflow_schedules.one(platform, SYSTEM, schedule).version
    workflow_schedules.pause(platform, SYSTEM, schedule, seen=seen, note="faster")
    press(app, "Save")
    assert "Somebody changed this" in texts(app)
    assert box(app, "text_area", "Cron").value == "30 3 * * *"
    press(app, "Save")
    now = workflow_schedules.one(platform, SYSTEM, schedule)
    assert (now.spec.words, now.note) == ("at 03:30 every day", "faster")


def test_an_edit_says_what_else_there_is_and_keeps_it(platform: Platform, schedule: str) -> None:
    sid = signed_in(platform, "infra_admin")
    seen = workflow_schedules.one(platform, SYSTEM, schedule)
    both = Edit((Interval(6 * 3600), Interval(86400, 600)), ("0 3 * * *",))
    workflow_schedule_edit.save(platform, SYSTEM, schedule, both, seen=seen.version, reason="more")
    app = until(lambda: opened("temporal", sid, {**SCHEDULES, "schedule": schedule}), "shifted by")
    choose(app, schedule, "Edit")
    app.session_state[f"schedule_how_{schedule}_0"] = "Every"
    app.run()
    box(app, "text_input", "Every").set_value("2h")
    box(app, "text_input", "Reason").set_value("oftener")
    kept = next(one for one in app.checkbox if one.label.startswith("Keep its other times"))
    assert kept.value
    assert "every day, shifted by 10 minutes; at 03:00 every day" in kept.label.replace("\\", "")
    press(app, "Save")
    words = "every 2 hours; every day, shifted by 10 minutes; at 03:00 every day"
    assert workflow_schedules.one(platform, SYSTEM, schedule).spec.words == words
    choose(app, schedule, "Edit", 1)
    app.session_state[f"schedule_how_{schedule}_1"] = "Every"
    app.run()
    next(one for one in app.checkbox if one.label.startswith("Keep its other times")).uncheck()
    app.run()
    assert "Dropped on saving: every day, shifted by 10 minutes; at 03:00 every day." in plain(app)
    box(app, "text_input", "Reason").set_value("only these")
    press(app, "Save")
    assert workflow_schedules.one(platform, SYSTEM, schedule).spec.words == "every 2 hours"


def test_a_schedule_is_made_after_its_times_were_told(platform: Platform) -> None:
    name = f"made-{os.getpid()}"
    viewer = until(lambda: opened("temporal", signed_in(platform, "ai_viewer"), SCHEDULES), "Schedules")
    assert "New schedule" not in {one.label for one in viewer.button}
    app = until(lambda: opened("temporal", signed_in(platform, "infra_admin"), SCHEDULES), "Schedules")
    inside(app, "New schedule")
    box(app, "selectbox", "Type").select("usage-sync")
    inside(app, "New schedule")
    said = inside(app, "New schedule", "Create schedule")
    assert "is no length of time" in said
    assert "told here once these are right" in said
    box(app, "text_input", "Id").set_value(name)
    box(app, "text_input", "Every").set_value("6h")
    said = inside(app, "New schedule")
    assert "Starts **usage-sync** on the task queue pilothouse, **every 6 hours**" in said
    assert "Next at" in said
    box(app, "checkbox", "Begin paused").check()
    assert "told here once these are right: note" in inside(app, "New schedule")
    box(app, "text_input", "Note").set_value("from January")
    box(app, "text_input", "Reason").set_value("asked for")
    assert "Nothing is started until somebody resumes it" in inside(app, "New schedule")
    said = inside(app, "New schedule", "Create schedule")
    made = workflow_schedules.one(platform, SYSTEM, name)
    try:
        assert (made.spec.words, made.paused, made.note) == ("every 6 hours", True, "from January")
        assert f"{name} was made" in said
    finally:
        workflow_schedules.delete(platform, SYSTEM, name, typed=name, seen=None, reason="test ended")


def test_a_run_is_started_now_and_the_schedule_removed_once_named(platform: Platform, schedule: str) -> None:
    app = until(
        lambda: opened("temporal", signed_in(platform, "infra_admin"), {**SCHEDULES, "schedule": schedule}), "Next runs"
    )
    choose(app, schedule, "Run now")
    press(app, "Run now")
    assert "Say why" in texts(app)
    box(app, "text_input", "Reason").set_value("to see it")
    press(app, "Run now")
    assert f"Started [{schedule}-run" in texts(app)
    assert workflow_schedules.one(platform, SYSTEM, schedule).started == 1
    choose(app, schedule, "Delete", 1)
    box(app, "text_input", "Reason").set_value("not needed")
    press(app, "Delete")
    assert "is not the schedule's name" in texts(app)
    box(app, "text_input", f"Type {schedule} to confirm").set_value(schedule)
    press(app, "Delete")
    assert "has been removed" in texts(app)
    with pytest.raises(NotFound):
        workflow_schedules.one(platform, SYSTEM, schedule)


def test_our_own_schedule_is_not_offered_for_removal(platform: Platform, temporal_address: str) -> None:
    planned = [one for one in worker.schedules() if one.id == "usage-sync"]

    async def ensure() -> None:
        await worker.ensure_schedules(await Client.connect(temporal_address), planned, "nobody-works-here")

    asyncio.run(ensure())
    sid = signed_in(platform, "infra_admin")
    app = until(lambda: opened("temporal", sid, {**SCHEDULES, "schedule": "usage-sync"}), "Next runs")
    assert "paused rather than deleted" in texts(app)
    offered = next(one for one in app.get("button_group") if one.label == "Change it").options
    assert [getattr(one, "content", one) for one in offered] == [
        "Pause or resume",
        "Run now",
        "Edit",
        "Run a past time",
    ]


def test_a_past_time_is_run_after_its_preview(platform: Platform, schedule: str) -> None:
    app = until(
        lambda: opened("temporal", signed_in(platform, "infra_admin"), {**SCHEDULES, "schedule": schedule}), "Next runs"
    )
    choose(app, schedule, "Run a past time")
    assert not any(one.label.startswith("Start ") for one in app.button)
    press(app, "Preview")
    found = texts(app)
    assert "**4** runs:" in found or "**5** runs:" in found
    go = next(one.label for one in app.button if one.label.startswith("Start "))
    press(app, go)
    assert "Say why" in texts(app)
    box(app, "text_input", "Reason").set_value("was down")
    press(app, go)
    assert "Asked for" in texts(app)
    poll(lambda: workflow_schedules.one(platform, SYSTEM, schedule).started >= 1)


def test_a_queue_is_limited_in_its_form(platform: Platform) -> None:
    viewer = signed_in(platform, "ai_viewer")
    drawn = texts(until(lambda: opened("temporal", viewer, LIMITS), "pilothouse"))
    assert "Limiting a task queue needs the role" in drawn
    sid = signed_in(platform, "infra_admin")
    app = until(lambda: opened("temporal", sid, LIMITS), "pilothouse")
    box(app, "selectbox", "Task queue").select("pilothouse")
    app.run()
    box(app, "text_input", "Requests per second").set_value("many")
    box(app, "text_input", "Reason").set_value("be gentle")
    press(app, "Save limit")
    assert "is no number" in texts(app)
    assert box(app, "text_input", "Requests per second").value == "many"
    box(app, "text_input", "Requests per second").set_value("0")
    press(app, "Save limit")
    assert "What was typed is not pilothouse." in texts(app)
    assert workflow_queues.one(platform, SYSTEM, "pilothouse").activity.limit.rate is None
    box(app, "text_input", "Type pilothouse to confirm").set_value("pilothouse")
    press(app, "Save limit")
    try:
        held = workflow_queues.one(platform, SYSTEM, "pilothouse").activity.limit
        assert (held.rate, held.reason) == (0.0, "be gentle")
        assert "blocked" in texts(until(lambda: opened("temporal", sid, LIMITS), "be gentle"))
    finally:
        workflow_queues.set_limit(platform, SYSTEM, "pilothouse", None, seen=None, reason="test ended")


def test_a_queue_whose_name_is_too_long_is_a_sentence(platform: Platform, temporal_address: str) -> None:
    name = f"long-{os.getpid()}-{'x' * 200}"
    new = New(f"long-{os.getpid()}", "Nobody", "", name, (Interval(86400),), paused=True, note="for its queue")
    workflow_schedule_new.create(platform, SYSTEM, new, reason="a test begins")
    try:
        sid = signed_in(platform, "infra_admin")
        app = until(lambda: opened("temporal", sid, LIMITS), name)
        box(app, "selectbox", "Task queue").select(name)
        app.run()
        assert not app.exception
        assert "is no name of a task queue. Allowed: 1 to 200 letters" in plain(app)
    finally:
        workflow_schedules.delete(platform, SYSTEM, new.id, typed=new.id, seen=None, reason="test ended")


def test_what_ends_a_run_has_the_name_typed(platform: Platform, schedule: str) -> None:
    app = until(
        lambda: opened("temporal", signed_in(platform, "infra_admin"), {**SCHEDULES, "schedule": schedule}), "Next runs"
    )
    for what, button, overlap, done in (
        ("Run now", "Run now", "TerminateOther", "Started ["),
        ("Edit", "Save", "CancelOther", "Saved."),
        ("Run a past time", "Start ", "TerminateOther", "Asked for"),
    ):
        choose(app, schedule, what, app.session_state["_schedule_forms"].generation)
        box(app, "selectbox", "If one still runs").select(overlap)
        app.run()
        if what == "Run a past time":
            press(app, "Preview")
        label = next(one.label for one in app.button if one.label.startswith(button) and one.label != "Run a past time")
        box(app, "text_input", "Reason").set_value("make room")
        assert "of this schedule that still runs" in texts(app)
        press(app, label)
        assert "What was typed is not" in texts(app), what
        box(app, "text_input", f"Type {schedule} to confirm").set_value(schedule)
        press(app, label)
        assert done in texts(app), what
    assert workflow_schedules.one(platform, SYSTEM, schedule).overlap == "CancelOther"
    choose(app, schedule, "Edit", app.session_state["_schedule_forms"].generation)
    assert not any("to confirm" in one.label for one in app.text_input), "it is so already"


def test_workers_are_listed_or_it_is_said_that_there_are_none(platform: Platform) -> None:
    sid = signed_in(platform, "ai_viewer")

    def drawn() -> str:
        app = opened("temporal", sid, WORKERS)
        assert not app.exception
        return texts(app)

    said = poll(lambda: (text := drawn()) and ("No worker is alive" in text or "Slots: used" in text) and text)
    assert "Could not read" not in str(said)


@pytest.mark.parametrize("face", ["Schedules", "Limits", "Workers"])
def test_a_server_that_is_away_looks_like_a_failure(platform: Platform, standins: Any, face: str) -> None:
    standins.fault("temporal", "refuse")
    sid = signed_in(platform, "infra_admin")
    until(lambda: opened("temporal", sid, {"face_temporal": face}), "Could not read")
