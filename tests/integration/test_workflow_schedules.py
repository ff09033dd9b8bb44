"""Schedules on a real Temporal server: read, changed with conflicts told, on record, and run for a past time."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleSpec,
    ScheduleState,
)

from adapters.temporal_client.schedule_spec import Interval
from operations import access, audit, workflow_schedule_edit, workflow_schedule_runs, workflow_schedules
from operations.access import SYSTEM, Actor, Forbidden, Permission
from operations.change import Conflict, Invalid, NotFound
from operations.platform import Platform
from operations.workflow_schedule_edit import Edit
from tests.support import poll

pytestmark = pytest.mark.engines

_numbers = itertools.count(1)
ADMIN = Actor("infra", "Ines Infra", frozenset({"infra_admin"}))
VIEWER = Actor("viewer", "Vera Viewer", frozenset({"ai_viewer"}))
HOUR = timedelta(hours=1)
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def make(temporal_address: str) -> Iterator[Callable[..., str]]:
    """Make a schedule of this test alone; removed afterwards."""
    made: list[str] = []

    def schedule(every: timedelta = HOUR, *, paused: bool = True, kind: str = "Nobody") -> str:
        name = f"sch-{os.getpid()}-{next(_numbers)}"

        async def create() -> None:
            client = await Client.connect(temporal_address)
            action = ScheduleActionStartWorkflow(kind, {"tenant": "acme"}, id=f"{name}-run", task_queue=name)
            spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every)])
            await client.create_schedule(name, Schedule(action=action, spec=spec, state=ScheduleState(paused=paused)))

        asyncio.run(create())
        made.append(name)
        return name

    yield schedule

    async def remove() -> None:
        client = await Client.connect(temporal_address)
        for name in made:
            try:
                await client.get_schedule_handle(name).delete()
            except Exception as error:
                if "not found" not in str(error).lower() and "completed" not in str(error).lower():
                    raise
            async for run in client.list_workflows(f"TaskQueue='{name}' AND ExecutionStatus='Running'"):
                await client.get_workflow_handle(run.id).terminate()

    asyncio.run(remove())


def recorded(platform: Platform, name: str) -> list[audit.Entry]:
    return [one for one in audit.entries(platform, SYSTEM) if name in one.subject]


def test_a_schedule_is_read_in_words(platform: Platform, make: Callable[..., str]) -> None:
    name = make(timedelta(hours=6))
    found = workflow_schedules.one(platform, ADMIN, name)
    assert found.spec.words == "every 6 hours"
    assert (found.type, found.paused, found.overlap, found.left) == ("Nobody", True, "Skip", None)
    assert '"acme"' in found.input.text
    masked = workflow_schedules.one(platform, VIEWER, name)
    assert masked.input.masked
    assert "acme" not in masked.input.text
    with pytest.raises(NotFound):
        workflow_schedules.one(platform, ADMIN, "no-such-schedule")


def test_the_list_is_searched_and_paged(platform: Platform, make: Callable[..., str]) -> None:
    names = sorted(make() for _ in range(3))
    prefix = f"sch-{os.getpid()}-"
    found = poll(lambda: (seen := workflow_schedules.listing(platform, VIEWER, prefix)) and seen.total >= 3 and seen)
    assert set(names) <= {one.id for one in found.rows}
    assert workflow_schedules.listing(platform, VIEWER, names[0], paused=False).total == 0
    last = workflow_schedules.listing(platform, VIEWER, names[0], page=99)
    assert (last.page, last.pages, [one.id for one in last.rows]) == (1, 1, [names[0]])


def test_pausing_and_resuming_is_recorded_with_before_and_after(platform: Platform, make: Callable[..., str]) -> None:
    name = make(paused=False)
    seen = workflow_schedules.one(platform, ADMIN, name).version
    done = workflow_schedules.pause(platform, ADMIN, name, seen=seen, note="  disk is full ")
    now = workflow_schedules.one(platform, ADMIN, name)
    assert (now.paused, now.note, now.version) == (True, "disk is full", done.version)
    with pytest.raises(Conflict) as late:
        workflow_schedules.pause(platform, ADMIN, name, seen=seen, note="me too")
    assert late.value.current["note"] == "disk is full"
    workflow_schedules.resume(platform, ADMIN, name, seen=now.version, note="space again")
    assert not workflow_schedules.one(platform, ADMIN, name).paused
    with pytest.raises(Invalid, match="not paused"):
        workflow_schedules.resume(platform, ADMIN, name, seen=None, note="again")
    last, asked = recorded(platform, name)[:2]
    assert (last.before, last.reason) == ({"note": "disk is full", "paused": True}, "space again")
    assert last.after == {"outcome": "done", "note": "space again", "paused": False}
    assert asked.after["outcome"] == "asked for"


def test_a_trigger_says_what_it_started_or_skipped(platform: Platform, make: Callable[..., str]) -> None:
    name = make()
    first = workflow_schedule_runs.trigger(platform, ADMIN, name, reason="try it")
    assert first.workflow_id.startswith(f"{name}-run")
    poll(lambda: workflow_schedules.one(platform, ADMIN, name).recent[0].status == "Running")
    second = workflow_schedule_runs.trigger(platform, ADMIN, name, reason="again")
    assert second.skipped
    beside = workflow_schedule_runs.trigger(platform, ADMIN, name, reason="beside it", overlap="AllowAll")
    assert beside.workflow_id != first.workflow_id
    assert recorded(platform, name)[0].after["workflow_id"] == beside.workflow_id


def test_times_overlap_note_and_input_are_edited(platform: Platform, make: Callable[..., str]) -> None:
    name = make()
    seen = workflow_schedules.one(platform, ADMIN, name).version
    edit = Edit(crons=("0 3 * * 1-5",), overlap="AllowAll", note="nights", input='[{"tenant": "bolt"}]')
    done = workflow_schedule_edit.save(platform, ADMIN, name, edit, seen=seen, reason="quieter")
    now = workflow_schedules.one(platform, ADMIN, name)
    assert now.spec.words == "at 03:00 on Monday to Friday"
    assert (now.spec.crons, now.overlap, now.note) == (("0 3 * * 1-5",), "AllowAll", "nights")
    assert '"bolt"' in now.input.text
    entry = recorded(platform, name)[0]
    assert entry.before["times"] == "every hour"
    assert entry.after["times"] == "at 03:00 on Monday to Friday"
    assert "bolt" not in str(entry.after)
    with pytest.raises(Conflict):
        workflow_schedule_edit.save(platform, ADMIN, name, Edit(note="mine"), seen=seen, reason="late")
    again = Edit(intervals=(Interval(5400, 600),))
    workflow_schedule_edit.save(platform, ADMIN, name, again, seen=done.version, reason="more often")
    kept = workflow_schedules.one(platform, ADMIN, name)
    assert kept.spec.words == "every 90 minutes, shifted by 10 minutes"
    assert kept.note == "nights"


def test_what_cannot_be_accepted_is_named(platform: Platform, make: Callable[..., str]) -> None:
    name = make()
    before = workflow_schedules.one(platform, ADMIN, name)
    for edit, field in (
        (Edit(crons=("61 * * * *",)), "times"),
        (Edit(crons=("* * *",)), "times"),
        (Edit(crons=()), "times"),
        (Edit(intervals=(Interval(0),)), "every"),
        (Edit(intervals=(Interval(60, 60),)), "offset"),
        (Edit(overlap="Sometimes"), "overlap"),
        (Edit(input="{"), "input"),
        (Edit(input='{"tenant": 1}'), "input"),
        (Edit(note="x" * 301), "note"),
    ):
        with pytest.raises(Invalid) as refused:
            workflow_schedule_edit.save(platform, ADMIN, name, edit, seen=before.version, reason="try")
        assert [error.field for error in refused.value.errors] == [field], edit
    assert workflow_schedules.one(platform, ADMIN, name) == before


def test_a_backfill_starts_exactly_what_its_preview_says(platform: Platform, make: Callable[..., str]) -> None:
    name = make()
    end = NEW_YEAR + 3 * HOUR
    found = workflow_schedule_runs.preview(platform, VIEWER, name, NEW_YEAR, end)
    assert (found.count, found.first[0], found.last) == (4, NEW_YEAR, end)
    workflow_schedule_runs.backfill(platform, ADMIN, name, NEW_YEAR, end, reason="was down", overlap="AllowAll")
    seen = poll(lambda: (one := workflow_schedules.one(platform, ADMIN, name)) and one.started >= 4 and one)
    assert seen.started == 4
    assert [run.scheduled_at for run in seen.recent][::-1] == [NEW_YEAR + number * HOUR for number in range(4)]
    for start, stop, words in (
        (end, NEW_YEAR, "after from"),
        (NEW_YEAR, datetime.now(UTC) + HOUR, "ahead"),
        (NEW_YEAR, NEW_YEAR + 1000 * HOUR, "1,000"),
        (NEW_YEAR + HOUR / 3, NEW_YEAR + HOUR / 2, "No run"),
    ):
        with pytest.raises(Invalid, match=words):
            workflow_schedule_runs.backfill(platform, ADMIN, name, start, stop, reason="x")


def test_removing_needs_the_name_typed_and_a_reason(platform: Platform, make: Callable[..., str]) -> None:
    name = make()
    seen = workflow_schedules.one(platform, ADMIN, name).version
    with pytest.raises(Invalid, match="typed"):
        workflow_schedules.delete(platform, ADMIN, name, typed="other", seen=seen, reason="old")
    with pytest.raises(Invalid, match="Say why"):
        workflow_schedules.delete(platform, ADMIN, name, typed=name, seen=seen, reason=" ")
    workflow_schedules.delete(platform, ADMIN, name, typed=name, seen=seen, reason="old")
    with pytest.raises(NotFound):
        workflow_schedules.one(platform, ADMIN, name)
    assert recorded(platform, name)[0].after == {"outcome": "done", "removed": True}


@pytest.mark.parametrize("kind", ["Nobody", "tenant-offboarding"])
def test_who_may_only_look_or_not_start_what_it_starts_changes_nothing(
    platform: Platform, make: Callable[..., str], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = make(kind=kind)
    now, who = NEW_YEAR, VIEWER
    if kind != "Nobody":
        allowed = frozenset({Permission.INFRA_VIEW, Permission.WORKFLOWS_OPERATE, Permission.PAYLOADS_READ})
        monkeypatch.setitem(access.ROLES, "operator", allowed)
        who = Actor("operator", "Olga Operator", frozenset({"operator"}))
    for attempt in (
        lambda: workflow_schedules.pause(platform, who, name, seen=None, note="x"),
        lambda: workflow_schedule_runs.trigger(platform, who, name, reason="x"),
        lambda: workflow_schedule_runs.backfill(platform, who, name, now, now + HOUR, reason="x"),
        lambda: workflow_schedules.delete(platform, who, name, typed=name, seen=None, reason="x"),
        lambda: workflow_schedule_edit.save(platform, who, name, Edit(input="[1]"), seen=0, reason="x"),
    ):
        with pytest.raises(Forbidden):
            attempt()
    assert not recorded(platform, name)
