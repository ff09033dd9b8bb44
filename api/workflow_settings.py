"""Workflow settings for programs: the defaults, what a type has of its own, who holds what, what was changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt

from api import shapes, versions
from api.auth import TheActor, ThePlatform, platform_of, request_id
from operations import access, workflow_held, workflow_settings, workflow_settings_history, workflow_slots
from operations.access import Actor, Permission
from operations.change import NotFound
from operations.platform import Platform
from operations.workflow_rules import FIELDS
from operations.workflow_settings import Edit, Row, Saved
from operations.workflow_slots import Occupancy

ORDER = -1
"""Before /infrastructure/{service}/…, whose parameter would take "temporal" for any service."""
router = APIRouter(prefix="/infrastructure/temporal", tags=["Workflow settings"])
Type = Annotated[str, Path(max_length=200, description='A workflow type, or "default"')]


class Values(BaseModel):
    """What a type has of its own. Null inherits the default; what is left out keeps its value."""

    model_config = ConfigDict(extra="forbid")

    timeout_seconds: Annotated[StrictInt | None, Field(ge=1, le=31_536_000)] = None
    retry_attempts: Annotated[StrictInt | None, Field(ge=1, le=100, description="The first attempt included")] = None
    backoff_multiplier: Annotated[StrictFloat | None, Field(ge=1, le=10)] = None
    max_concurrent: Annotated[StrictInt | None, Field(ge=0, le=10_000, description="0: every new run waits")] = None
    reason: Annotated[str, Field(max_length=500, description="Why; kept in the audit")] = ""


def _wire(row: Row, now: Occupancy | None = None) -> dict[str, Any]:
    one = row.effective
    return {
        "type": row.type, **row.values(), "version": row.version, "reason": row.reason,
        "updated_at": shapes.wire(row.updated_at), "updated_by": row.updated_by,
        "effective": {name: {"value": getattr(one, name), "source": one.sources[name]} for name in FIELDS},
        "runs": {"working": now.working if now else 0, "waiting": now.waiting if now else 0},
    }  # fmt: skip


def _version(platform: Platform, actor: Actor, type_: str) -> Callable[[], int]:
    return lambda: workflow_settings.get(platform, actor, type_).version


def _save(actor: Actor, request: Request, response: Response, edit: Edit, reason: str) -> dict[str, Any]:
    platform = platform_of(request)
    saved = workflow_settings.save(
        platform, actor, [edit], reason=reason or request.headers.get("x-reason", "") or "Changed over the API",
        request_id=request_id(request),
    )  # fmt: skip
    return _saved(actor, request, response, saved)


def _saved(actor: Actor, request: Request, response: Response, saved: Saved) -> dict[str, Any]:
    row = workflow_settings.get(platform_of(request), actor, saved.done[0].type)
    versions.tag(response, row.version)
    return {**_wire(row), "delivered": saved.outcome.delivered, "waiting_for": saved.outcome.waiting_for}


@router.get("/settings", summary="Settings of every workflow type")
def listing(platform: ThePlatform, actor: TheActor) -> dict[str, Any]:
    """`default` first. `effective` is what a run gets that starts now; `runs` are those at work and waiting."""
    now = workflow_slots.occupancy(platform, actor)
    rows = workflow_settings.listing(platform, actor, now)
    return {"items": [_wire(row, now.get(row.type)) for row in rows], "total": len(rows)}


@router.get("/settings/{type:path}", summary="Settings of one type")
def one(type: Type, platform: ThePlatform, actor: TheActor, response: Response) -> dict[str, Any]:  # noqa: A002
    """Its version is the ETag, 0 where the type has nothing of its own."""
    row = workflow_settings.get(platform, actor, type)
    versions.tag(response, row.version)
    return _wire(row, workflow_slots.occupancy(platform, actor).get(type))


@router.put("/settings/{type:path}", summary="Change what a type has of its own")
def put(
    type: Type,  # noqa: A002
    values: Values,
    platform: ThePlatform,
    actor: TheActor,
    request: Request,
    response: Response,
) -> dict[str, Any]:
    """`If-Match` with the ETag you read; without it only a type that has nothing of its own yet (428 otherwise)."""
    access.require(actor, Permission.WORKFLOWS_CONFIGURE)
    given = values.model_dump(exclude_unset=True, exclude={"reason"})
    present = _version(platform, actor, type)
    seen = versions.optional(request, present)
    if seen is None:
        if present():
            versions.required(request, present)
        seen = 0
    return _save(actor, request, response, Edit(type, given, seen), values.reason)


@router.delete("/settings/{type:path}", summary="Have a type inherit everything again")
def delete(
    type: Type,  # noqa: A002
    platform: ThePlatform,
    actor: TheActor,
    request: Request,
    response: Response,
) -> dict[str, Any]:
    """`If-Match` is needed."""
    access.require(actor, Permission.WORKFLOWS_CONFIGURE)
    seen = versions.required(request, _version(platform, actor, type))
    return _save(actor, request, response, Edit(type, None, seen), "")


@router.get("/held-settings", summary="What each worker holds now")
def held(platform: ThePlatform, actor: TheActor) -> dict[str, Any]:
    """Of workers that spoke within 15 seconds; `source` is Redis, last known (Redis is away) or PostgreSQL."""
    return {"items": [shapes.wire(item) for item in workflow_held.held(platform, actor)]}


@router.get("/settings-changes", summary="What was changed")
def changes(
    platform: ThePlatform,
    actor: TheActor,
    type: Annotated[str, Query(max_length=200)] = "",  # noqa: A002
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before: Annotated[int | None, Query(ge=1, description="Older than this change")] = None,
) -> dict[str, Any]:
    """Newest first."""
    found = workflow_settings_history.history(platform, actor, type_=type, limit=limit, before=before)
    return {"items": [shapes.wire(item) for item in found]}


@router.post("/settings-changes/{change}/revert", summary="Take a change back")
def revert(
    change: Annotated[str, Path(max_length=19)], platform: ThePlatform, actor: TheActor, request: Request,
    response: Response,
) -> dict[str, Any]:  # fmt: skip
    """Brings the type back to what it was before, as a new change. `If-Match` with the type's ETag if you have it."""
    access.require(actor, Permission.WORKFLOWS_CONFIGURE)
    if not change.isdecimal() or int(change) >= 2**63:
        raise NotFound(f"There is no change {change} of workflow settings.")
    seen = versions.optional(
        request, lambda: workflow_settings_history.reverting(platform, actor, int(change)).version
    )  # fmt: skip
    saved = workflow_settings_history.revert(platform, actor, int(change), seen=seen, request_id=request_id(request))
    return _saved(actor, request, response, saved)
