"""Schedules, task queues and workers on the Temporal page: read by everyone, changed by those who may."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Iterator
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

from operations import health, workflow_queues, workflow_schedules
from operations.access import SYSTEM
from operations.platform import Platform
from tests.pages.driver import opened, signed_in, texts
from tests.support import poll

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
        await client.get_schedule_handle(name).delete()

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


def choose(app: AppTest, schedule: str, what: str) -> None:
    app.session_state[f"schedule_what_{schedule}_0"] = what
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
    try:
        held = workflow_queues.one(platform, SYSTEM, "pilothouse").activity.limit
        assert (held.rate, held.reason) == (0.0, "be gentle")
        assert "blocked" in texts(until(lambda: opened("temporal", sid, LIMITS), "be gentle"))
    finally:
        workflow_queues.set_limit(platform, SYSTEM, "pilothouse", None, seen=None, reason="test ended")


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
