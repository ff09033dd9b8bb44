"""Schedules of Temporal for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictFloat

from adapters.temporal_client.schedule_spec import Interval
from adapters.temporal_client.schedules import Schedule
from api import shapes, versions
from api.auth import TheActor, ThePlatform, request_id
from api.confirmation import Confirm, named
from api.problems import Problem
from operations import workflow_schedule_edit, workflow_schedule_runs, workflow_schedules
from operations import workflow_schedule_new as schedule_new
from operations.access import Actor, Permission, require
from operations.change import FieldError, Invalid
from operations.platform import Platform
from operations.workflow_catalogue import OWN_SCHEDULES
from operations.workflow_schedule_edit import Edit
from operations.workflow_schedule_new import CRON

ORDER = -1
"""Before /infrastructure/{service}/…, whose parameter would take "temporal" for any service."""
router = APIRouter(prefix="/infrastructure/temporal/schedules", tags=["Workflows"])
Overlap = Literal["Skip", "BufferOne", "BufferAll", "CancelOther", "TerminateOther", "AllowAll"]
Reason = Annotated[str, Field(max_length=300, description="Why; kept in the audit")]
OVER_API = "Changed over the API"
ENDING = {"CancelOther": "It cancels", "TerminateOther": "It terminates"}
"""Overlap policies that end what runs, and how."""


class Strict(BaseModel):
    """A body that names nothing unknown."""

    model_config = ConfigDict(extra="forbid")


class Note(Strict):
    """Why it is paused or resumed: it stays on the schedule."""

    note: Reason = OVER_API


class Trigger(Strict):
    """A run now."""

    overlap: Overlap | None = Field(None, description="Instead of the schedule's own policy")
    confirm: Confirm = ""
    reason: Reason = OVER_API


class Backfill(Strict):
    """A past time whose runs are started now, both ends included."""

    start: AwareDatetime = Field(alias="from")
    end: AwareDatetime = Field(alias="to")
    overlap: Overlap = "BufferAll"
    preview: bool = Field(False, description="Only tell what would be started")
    confirm: Confirm = ""
    reason: Reason = OVER_API


class Change(Strict):
    """New values; what is left out stays. `every_seconds` or `crons` replace all times."""

    every_seconds: StrictFloat | None = Field(None, ge=1, le=366 * 86400)
    offset_seconds: StrictFloat | None = Field(None, ge=0, description="Only with `every_seconds`")
    crons: list[str] | None = Field(None, max_length=50)
    overlap: Overlap | None = None
    note: str | None = Field(None, max_length=300)
    input: list[Any] | None = Field(None, description="The workflow's arguments; needs workflows:payloads")
    confirm: Confirm = ""
    reason: Reason = OVER_API


class New(Strict):
    """A schedule to be made. It runs every so many seconds, at the times of crons, or both."""

    id: Annotated[str, Field(min_length=1, max_length=255, description="Its runs' ids begin with it")]
    type: Annotated[str, Field(min_length=1, max_length=255)]
    input: dict[str, Any] | list[Any] | None = Field(
        None, description="Values by name for the platform's own types; for others the list of arguments, or one object"
    )
    task_queue: Annotated[str, Field(max_length=255, description="Needed for types that are not the platform's")] = ""
    every_seconds: StrictFloat | None = Field(None, ge=1, le=366 * 86400)
    offset_seconds: StrictFloat | None = Field(None, ge=0, description="Only with `every_seconds`")
    crons: list[str] = Field(default_factory=list, max_length=50, description=CRON)
    timezone: Annotated[str, Field(max_length=100, description="Of the crons")] = "UTC"
    overlap: Overlap = "Skip"
    paused: bool = False
    note: Annotated[str, Field(max_length=300, description="Needed where it begins paused")] = ""
    preview: bool = Field(False, description="Only tell what would be made")
    reason: Reason = OVER_API


def wire(one: Schedule) -> dict[str, Any]:
    """A schedule as JSON, its times in words besides."""
    return {**shapes.wire(one), "times": one.spec.words, "version": str(one.version)}


@router.get("", summary="Schedules")
def listing(
    platform: ThePlatform,
    actor: TheActor,
    q: Annotated[str, Query(max_length=100, description="Part of an id, a workflow type or a note")] = "",
    paused: bool | None = None,
    page: Annotated[int, Query(ge=1, le=1000)] = 1,
) -> dict[str, Any]:
    """By id, 20 a page, with their next and last runs. Inputs are masked without workflows:payloads."""
    found = workflow_schedules.listing(platform, actor, q, paused, page)
    return {
        "items": [wire(one) for one in found.rows],
        "total": found.total,
        "page": found.page,
        "pages": found.pages,
        "more": found.cut,
    }


@router.post("", status_code=201, summary="Make a schedule")
def create(
    body: New, platform: ThePlatform, actor: TheActor, request: Request, response: Response
) -> dict[str, Any]:  # fmt: skip
    """409 when there is one with this id. With `preview` nothing is made: 200 with its first times, in UTC."""
    wanted = schedule_new.New(
        body.id, body.type, body.input if isinstance(body.input, dict) else json.dumps(body.input or []),
        body.task_queue, _every(body.every_seconds, body.offset_seconds) or (), tuple(body.crons), body.timezone,
        body.overlap, body.paused, body.note,
    )  # fmt: skip
    made = schedule_new.plan(actor, wanted)
    if body.preview:
        response.status_code = 200
        return {"id": made.id, "times": made.words, "next": shapes.wire(made.next), "created": False}
    try:
        schedule_new.create(platform, actor, wanted, reason=body.reason, request_id=request_id(request))
    except schedule_new.ScheduleThere as error:
        raise Problem(409, "already-there", error.sentence, advice=error.advice) from error
    response.headers["Location"] = f"/api/v2{router.prefix}/{quote(made.id, safe='/')}"
    return {**one(made.id, platform, actor, response), "created": True}


@router.get("/{schedule:path}", summary="One schedule")
def one(schedule: str, platform: ThePlatform, actor: TheActor, response: Response) -> dict[str, Any]:
    """Its times, runs and input; the ETag is what a change is made against."""
    found = workflow_schedules.one(platform, actor, schedule)
    versions.tag(response, found.version)
    return wire(found)


@router.post("/{schedule:path}/pause", summary="Pause a schedule")
def pause(schedule: str, body: Note, platform: ThePlatform, actor: TheActor, request: Request) -> dict[str, Any]:
    """It starts nothing until it is resumed. With If-Match only as you saw it."""
    workflow_schedules.pause(
        platform, actor, schedule, seen=versions.optional(request, _present(platform, actor, schedule)), note=body.note,
        request_id=request_id(request),
    )  # fmt: skip
    return wire(workflow_schedules.one(platform, actor, schedule))


@router.post("/{schedule:path}/resume", summary="Resume a schedule")
def resume(schedule: str, body: Note, platform: ThePlatform, actor: TheActor, request: Request) -> dict[str, Any]:
    """It goes on at its next time. With If-Match only as you saw it."""
    workflow_schedules.resume(
        platform, actor, schedule, seen=versions.optional(request, _present(platform, actor, schedule)), note=body.note,
        request_id=request_id(request),
    )  # fmt: skip
    return wire(workflow_schedules.one(platform, actor, schedule))


@router.post("/{schedule:path}/trigger", summary="Run a schedule now")
def trigger(schedule: str, body: Trigger, platform: ThePlatform, actor: TheActor, request: Request) -> dict[str, Any]:
    """The run it started; `skipped` where its overlap policy forbade one, `seen` false where that is not known yet.

    Where the policy cancels or terminates what runs, `confirm` is the schedule's id once more.
    """
    require(actor, Permission.WORKFLOWS_OPERATE)
    _ending(schedule, body.overlap or workflow_schedules.one(platform, actor, schedule).overlap, body.confirm)
    done = workflow_schedule_runs.trigger(
        platform, actor, schedule, reason=body.reason, overlap=body.overlap or "", request_id=request_id(request)
    )
    return {"workflow_id": done.workflow_id or None, "run_id": done.run_id or None, "skipped": done.skipped,
            "seen": done.seen}  # fmt: skip


@router.post("/{schedule:path}/backfill", summary="Run a schedule for a past time")
def backfill(schedule: str, body: Backfill, platform: ThePlatform, actor: TheActor, request: Request) -> dict[str, Any]:
    """How many runs it starts, at most 999; with `preview` nothing is started.

    Where the policy cancels or terminates what runs, `confirm` is the schedule's id once more.
    """
    span: tuple[datetime, datetime] = (body.start.astimezone(UTC), body.end.astimezone(UTC))
    require(actor, Permission.WORKFLOWS_OPERATE)
    if body.preview:
        found = workflow_schedule_runs.preview(platform, actor, schedule, *span)
    else:
        _ending(schedule, body.overlap, body.confirm)
        found = workflow_schedule_runs.backfill(
            platform, actor, schedule, *span, reason=body.reason, overlap=body.overlap, request_id=request_id(request)
        )
    return {"runs": found.count, "first": shapes.wire(found.first), "last": shapes.wire(found.last),
            "started": not body.preview}  # fmt: skip


@router.put("/{schedule:path}", summary="Edit a schedule")
def edit(
    schedule: str, body: Change, platform: ThePlatform, actor: TheActor, request: Request, response: Response
) -> dict[str, Any]:
    """Needs If-Match; 412 shows both values when it is stale.

    A new overlap policy that cancels or terminates what runs is confirmed: `confirm` is the schedule's id once more.
    """
    require(actor, Permission.WORKFLOWS_OPERATE)
    seen = versions.required(request, _present(platform, actor, schedule))
    if body.overlap in ENDING and body.overlap != workflow_schedules.one(platform, actor, schedule).overlap:
        _ending(schedule, body.overlap, body.confirm)
    every = _every(body.every_seconds, body.offset_seconds)
    crons = None if body.crons is None else tuple(body.crons)
    given = None if body.input is None else json.dumps(body.input)
    workflow_schedule_edit.save(
        platform, actor, schedule, Edit(every, crons, body.overlap, body.note, given), seen=seen, reason=body.reason,
        request_id=request_id(request),
    )  # fmt: skip
    return one(schedule, platform, actor, response)


@router.delete("/{schedule:path}", status_code=204, summary="Remove a schedule")
def remove(
    schedule: str,
    platform: ThePlatform,
    actor: TheActor,
    request: Request,
    confirm: Annotated[Confirm, Query()] = "",
    reason: Annotated[str, Query(max_length=300)] = OVER_API,
) -> None:
    """Needs If-Match. What it started goes on. The platform's own cannot be removed: pause them instead.

    `confirm` is the schedule's id once more.
    """
    require(actor, Permission.WORKFLOWS_OPERATE)
    seen = versions.required(request, _present(platform, actor, schedule))
    if schedule not in OWN_SCHEDULES:
        named(confirm, schedule, "It is removed for good")
    workflow_schedules.delete(
        platform, actor, schedule, typed=confirm, seen=seen, reason=reason, request_id=request_id(request)
    )  # fmt: skip


def _present(platform: Platform, actor: Actor, schedule: str) -> Callable[[], int]:
    return lambda: workflow_schedules.one(platform, actor, schedule).version


def _ending(schedule: str, overlap: str, confirm: str) -> None:
    """Have a policy that ends runs confirmed."""
    if overlap in ENDING:
        named(confirm, schedule, f"{ENDING[overlap]} a run of this schedule that still runs")


def _every(seconds: float | None, offset: float | None) -> tuple[Interval, ...] | None:
    if seconds is not None:
        return (Interval(seconds, offset or 0.0),)
    if offset is not None:
        raise Invalid([FieldError("offset_seconds", "shifts nothing by itself", "only together with every_seconds")])
    return None
