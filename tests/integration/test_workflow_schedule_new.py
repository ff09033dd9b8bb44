"""New schedules on a real Temporal server: told before, made as told, on record; the platform's own stay."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from adapters.core import TimedOut, utcnow
from adapters.temporal_client import schedules
from adapters.temporal_client.schedule_spec import Interval
from api import create_api
from operations import (
    apitokens,
    audit,
    workflow_executions,
    workflow_schedule_new,
    workflow_schedule_runs,
    workflow_schedules,
)
from operations.access import SYSTEM, Actor, Forbidden
from operations.change import Invalid
from operations.platform import Platform
from operations.workflow_catalogue import OWN_SCHEDULES
from operations.workflow_schedule_new import New, ScheduleThere
from tests.support import poll

pytestmark = pytest.mark.engines

ADMIN = Actor("infra", "Ines Infra", frozenset({"infra_admin"}))
VIEWER = Actor("viewer", "Vera Viewer", frozenset({"ai_viewer"}))
ROOT = "/infrastructure/temporal/schedules"
_numbers = itertools.count(1)


@pytest.fixture
def name(platform: Platform) -> Iterator[str]:
    """An id of this test alone; its schedule is removed afterwards."""
    made = f"new-{os.getpid()}-{next(_numbers)}"
    yield made
    adapter = workflow_executions.adapter_of(platform)
    if adapter.call(lambda client: schedules.raw(client, "default", made)) is not None:
        adapter.call(lambda client: client.get_schedule_handle(made).delete())


def of(name: str, **more: Any) -> New:
    """A schedule every six hours of a type that is not ours."""
    return replace(New(name, "Nobody", '["acme"]', "somewhere", (Interval(6 * 3600, 1800),)), **more)


@pytest.mark.parametrize(
    "times",
    [
        {},
        {"intervals": (), "crons": ("30 2 * * 1-5",), "timezone": "America/New_York"},
        {
            "intervals": (Interval(86400),),
            "crons": ("*/20 5,17 * * *", "0 0 1 * * # billing"),
            "timezone": "Asia/Tokyo",
        },
        {"intervals": (), "crons": ("30 2 * 3,10 0",), "timezone": "Europe/Berlin"},
        {"intervals": (), "crons": ("0 0 13 * 5", "5/25 1-9/4 * feb *"), "timezone": "UTC"},
    ],
)
def test_it_runs_when_it_was_said_to(platform: Platform, name: str, times: dict[str, Any]) -> None:
    wanted = of(name, overlap="BufferOne", note="for the books", **times)
    told = workflow_schedule_new.plan(ADMIN, wanted)
    workflow_schedule_new.create(platform, ADMIN, wanted, reason="asked for by sales")
    made = workflow_schedules.one(platform, ADMIN, name)
    assert list(told.next) == [at for at in made.next if at > utcnow() - timedelta(seconds=30)][:5]
    assert told.words == made.spec.words
    assert (made.type, made.task_queue, made.overlap, made.note, made.paused, made.workflow_id) == (
        "Nobody", "somewhere", "BufferOne", "for the books", False, name,
    )  # fmt: skip
    assert '"acme"' in made.input.text
    done, asked = audit.entries(platform, SYSTEM, f"temporal:schedule:{name}")
    assert (done.action, done.reason, done.actor_name) == (
        "temporal.schedule.create", "asked for by sales", "Ines Infra",
    )  # fmt: skip
    assert done.after == {**(asked.after or {}), "outcome": "done"}
    assert (done.after["times"], done.after["type"]) == (told.words, "Nobody")
    assert "acme" not in str(done.after)


def test_it_begins_paused_with_what_our_own_type_takes(platform: Platform, name: str) -> None:
    wanted = New(
        name, "sleep-cycle", {"target": "deep", "tenants": ["acme"]}, crons=("0 4 * * *",), paused=True, note="not yet"
    )
    workflow_schedule_new.create(platform, ADMIN, wanted, reason="try")
    made = workflow_schedules.one(platform, ADMIN, name)
    assert (made.paused, made.note, made.task_queue) == (True, "not yet", "pilothouse")
    assert '"deep"' in made.input.text
    with pytest.raises(ScheduleThere, match="already"):
        workflow_schedule_new.create(platform, ADMIN, wanted, reason="once more")
    assert audit.entries(platform, SYSTEM, f"temporal:schedule:{name}")[0].after["outcome"].startswith("failed")  # type: ignore[index]


def test_what_cannot_be_made_is_named_field_by_field(platform: Platform, name: str) -> None:
    for wrong, fields in (
        ({"id": " "}, ["id"]),
        ({"id": "pilothouse-backup"}, ["id"]),
        ({"type": ""}, ["type"]),
        ({"task_queue": ""}, ["task_queue"]),
        ({"type": "tenant-offboarding"}, ["type"]),
        ({"given": "["}, ["input"]),
        ({"type": "usage-sync", "given": {"batch": "many"}}, ["batch"]),
        ({"intervals": ()}, ["times"]),
        ({"intervals": (Interval(0),)}, ["every"]),
        ({"intervals": (Interval(60, 60),)}, ["offset"]),
        ({"crons": ("61 * * * *",)}, ["cron"]),
        ({"intervals": (), "crons": ("0 0 30 2 *",)}, ["cron"]),
        ({"crons": ("0 0 * * *",), "timezone": "Mars/Base"}, ["timezone"]),
        ({"overlap": "Sometimes"}, ["overlap"]),
        ({"paused": True}, ["note"]),
        ({"id": "", "task_queue": "", "given": "[", "overlap": "x"}, ["id", "task_queue", "input", "overlap"]),
    ):
        with pytest.raises(Invalid) as refused:
            workflow_schedule_new.create(platform, SYSTEM, of(name, **wrong), reason="try")
        assert [one.field for one in refused.value.errors] == fields, wrong
        assert all(one.allowed for one in refused.value.errors), wrong
    with pytest.raises(Invalid, match="reason"):
        workflow_schedule_new.create(platform, ADMIN, of(name), reason=" ")
    with pytest.raises(Forbidden):
        workflow_schedule_new.create(platform, VIEWER, of(name), reason="try")
    assert not audit.entries(platform, SYSTEM, f"temporal:schedule:{name}")


def test_over_the_api(platform: Platform, name: str) -> None:
    token = apitokens.create(platform, SYSTEM, "t", frozenset({"infra_admin"}))
    with TestClient(create_api(platform), headers={"Authorization": f"Bearer {token}"}) as client:
        body = {"id": name, "type": "Nobody", "task_queue": "q", "crons": ["0 4 * * *"], "timezone": "Europe/Berlin"}
        seen = client.post(ROOT, json={**body, "preview": True})
        assert (seen.status_code, seen.json()["created"], len(seen.json()["next"])) == (200, False, 5)
        assert client.get(f"{ROOT}/{name}").status_code == 404
        made = client.post(ROOT, json=body)
        assert (made.status_code, made.json()["times"]) == (201, "at 04:00 every day (Europe/Berlin)")
        assert made.json()["next"][0] == seen.json()["next"][0]
        assert made.headers["location"] == f"/api/v2{ROOT}/{name}"
        assert client.post(ROOT, json=body).status_code == 409
        tag = {"If-Match": made.headers["etag"]}
        alone = client.put(f"{ROOT}/{name}", json={"offset_seconds": 60, "note": "x"}, headers=tag)
        assert (alone.status_code, alone.json()["errors"][0]["field"]) == (422, "offset_seconds")
        both = client.put(f"{ROOT}/{name}", json={"every_seconds": 3600, "offset_seconds": 60}, headers=tag)
        assert both.json()["times"] == "every hour, shifted by 1 minute"
        wrong = client.post(ROOT, json={**body, "id": f"{name}-b", "crons": ["x"], "offset_seconds": 5})
        assert wrong.status_code == 422
        viewer = apitokens.create(platform, SYSTEM, "v", frozenset({"ai_viewer"}))
        refused = client.post(ROOT, json=body, headers={"Authorization": f"Bearer {viewer}"})
        assert refused.status_code == 403


def test_our_own_are_paused_rather_than_removed(platform: Platform) -> None:
    for own in sorted(OWN_SCHEDULES):
        with pytest.raises(Invalid, match="come back") as refused:
            workflow_schedules.delete(platform, ADMIN, own, typed=own, seen=None, reason="no more")
        assert refused.value.errors[0].allowed == "pause it instead"
    token = apitokens.create(platform, SYSTEM, "t", frozenset({"infra_admin"}))
    with TestClient(create_api(platform), headers={"Authorization": f"Bearer {token}", "If-Match": '"1"'}) as client:
        gone = client.delete(f"{ROOT}/pilothouse-backup", params={"confirm": "pilothouse-backup"})
        assert gone.status_code == 422, gone.text
        assert "pause it instead" in gone.text


def test_a_trigger_that_cannot_be_watched_was_asked_for_all_the_same(
    platform: Platform, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow_schedule_new.create(platform, ADMIN, of(name, paused=True, note="by hand"), reason="try")
    read, reads = schedules.raw, itertools.count(1)

    async def late(*given: Any) -> Any:
        if next(reads) > 1:  # the first looks at what is there before
            raise TimedOut("Temporal did not answer in time.")
        return await read(*given)

    with monkeypatch.context() as patched:
        patched.setattr(schedules, "raw", late)
        done = workflow_schedule_runs.trigger(platform, ADMIN, name, reason="now")
    assert (done.seen, done.skipped, done.workflow_id) == (False, False, "")
    last = audit.entries(platform, SYSTEM, f"temporal:schedule:{name}")[0]
    assert (last.after or {})["outcome"] == "asked for, not yet seen"
    assert poll(lambda: workflow_schedules.one(platform, ADMIN, name).started == 1)
