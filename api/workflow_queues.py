"""Task queues and workers of Temporal for programs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictFloat

from api import shapes, versions
from api.auth import TheActor, ThePlatform, request_id
from api.confirmation import Confirm, named
from operations import workflow_queues
from operations.access import Permission, require

ORDER = -1
"""Before /infrastructure/{service}/…, whose parameter would take "temporal" for any service."""
router = APIRouter(prefix="/infrastructure/temporal", tags=["Workflows"])


class RateLimit(BaseModel):
    """How many activities a queue hands out each second, to all workers together."""

    model_config = ConfigDict(extra="forbid")

    requests_per_second: Annotated[StrictFloat, Field(description="0 blocks; to take the limit away, DELETE it")]
    kind: Annotated[str, Field(max_length=20, description="Only activity: workflow queues cannot be limited")] = (
        "activity"
    )
    confirm: Confirm = ""
    reason: Annotated[str, Field(max_length=300, description="Why; kept by Temporal and in the audit")] = (
        "Changed over the API"
    )


@router.get("/queues", summary="Task queues")
def queues(
    platform: ThePlatform,
    actor: TheActor,
    q: Annotated[str, Query(max_length=100, description="Part of a name")] = "",
    page: Annotated[int, Query(ge=1, le=100)] = 1,
) -> dict[str, Any]:
    """By name, 15 a page: those of ours, of workers, of schedules and of running workflows, as Temporal has no list.

    Each with pollers, backlog, rates and the limit set, for workflows and for activities. `more` says that there may
    be queues that were not found.
    """
    found = workflow_queues.listing(platform, actor, workflow_queues.find(platform, actor), q, page)
    items = [{**shapes.wire(row), "found_among": list(found.sources[row.name])} for row in found.rows]
    return {"items": items, "total": found.total, "page": found.page, "pages": found.pages, "more": found.cut}


@router.get("/queues/{queue:path}", summary="One task queue")
def queue(queue: str, platform: ThePlatform, actor: TheActor, response: Response) -> dict[str, Any]:
    """The ETag is the version of its rate limit. A queue nobody uses is empty."""
    found = workflow_queues.one(platform, actor, queue)
    versions.tag(response, found.activity.limit.version)
    told: dict[str, Any] = shapes.wire(found)
    return told


@router.put("/queues/{queue:path}/rate-limit", summary="Limit a task queue")
def limit(
    queue: str, body: RateLimit, platform: ThePlatform, actor: TheActor, request: Request, response: Response
) -> dict[str, Any]:
    """Needs If-Match with the queue's ETag. Read back from Temporal before it is answered.

    A limit of 0 lets no activity begin: `confirm` is the queue's name once more then.
    """
    require(actor, Permission.WORKFLOWS_OPERATE)
    if body.requests_per_second == 0:
        named(body.confirm, queue, "No activity begins until the limit is raised")
    return _set(platform, actor, queue, body.requests_per_second, request, response, reason=body.reason, kind=body.kind)


@router.delete("/queues/{queue:path}/rate-limit", summary="Take a task queue's limit away")
def unlimit(
    queue: str,
    platform: ThePlatform,
    actor: TheActor,
    request: Request,
    response: Response,
    reason: Annotated[str, Query(max_length=300)] = "Changed over the API",
) -> dict[str, Any]:
    """Needs If-Match with the queue's ETag."""
    require(actor, Permission.WORKFLOWS_OPERATE)
    return _set(platform, actor, queue, None, request, response, reason=reason)


@router.get("/workers", summary="Workers")
def workers(platform: ThePlatform, actor: TheActor) -> dict[str, Any]:
    """Those alive by heartbeat, with slots, host and build; pollers where the server knows no more."""
    names = tuple(workflow_queues.find(platform, actor).names)
    found = workflow_queues.alive(platform, actor, names)
    return {
        "items": [shapes.wire(one) for one in found.rows],
        "heartbeats": found.heartbeats,
        "why": found.why or None,
        "more": found.cut,
    }


def _set(
    platform: ThePlatform, actor: TheActor, name: str, rate: float | None, request: Request, response: Response, *,
    reason: str, kind: str = "activity",
) -> dict[str, Any]:  # fmt: skip
    seen = versions.required(request, lambda: workflow_queues.one(platform, actor, name).activity.limit.version)
    workflow_queues.set_limit(
        platform, actor, name, rate, seen=seen, reason=reason, kind=kind,
        request_id=request_id(request),
    )  # fmt: skip
    return queue(name, platform, actor, response)
