"""Executions of workflows for programs: looked up, started, signaled, canceled, terminated, reset."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictInt

from api import shapes
from api.auth import TheActor, ThePlatform, request_id
from api.confirmation import Confirm, named
from api.problems import Problem
from operations import workflow_control, workflow_detail, workflow_executions, workflow_start
from operations.access import Permission, require
from operations.tenant_lifecycle import AlreadyRunning
from operations.workflow_control import AlreadyThere
from operations.workflow_detail import Detail
from operations.workflow_executions import Execution

ORDER = -1
"""Before /infrastructure/{service}/…, whose parameter would take "temporal" for any service."""
router = APIRouter(prefix="/infrastructure/temporal/executions", tags=["Workflows"])
OVER_API = "Changed over the API"
Reason = Annotated[str, Field(max_length=300, description="Why; kept in the audit")]
Ident = Annotated[str, Path(min_length=1, max_length=1000)]
Run = Annotated[str, Query(max_length=100, description="The run's id; the latest where left out")]
_STATUSES = ", ".join(workflow_executions.FILTERED)


class Strict(BaseModel):
    """A body that names nothing unknown."""

    model_config = ConfigDict(extra="forbid")


class Why(Strict):
    """Why it is done."""

    reason: Reason = OVER_API


class End(Why):
    """Why it is ended, and that it is this one."""

    confirm: Confirm = ""


class Start(Strict):
    """An execution to be started."""

    type: Annotated[str, Field(min_length=1, max_length=255)]
    input: dict[str, Any] | list[Any] | None = Field(
        None, description="Values by name for the platform's own types; for others the list of arguments, or one object"
    )
    id: Annotated[str, Field(max_length=255)] = ""
    task_queue: Annotated[str, Field(max_length=255, description="Needed for types that are not the platform's")] = ""
    reason: Reason = OVER_API


class Signal(Strict):
    """A signal with its arguments."""

    name: Annotated[str, Field(min_length=1, max_length=255)]
    input: list[Any] = Field(default_factory=list, max_length=50)
    reason: Reason = OVER_API


class Reset(Strict):
    """A point to go on from: the number of one of the execution's ``points``."""

    event: Annotated[StrictInt, Field(ge=1)]
    confirm: Confirm = ""
    reason: Reason = OVER_API


@router.get("", summary="Executions")
def listing(
    platform: ThePlatform,
    actor: TheActor,
    type: Annotated[str, Query(max_length=300)] = "",  # noqa: A002  names of the address
    status: Annotated[str, Query(max_length=30, description=_STATUSES)] = "",
    id: Annotated[str, Query(max_length=300, description="What the id begins with")] = "",  # noqa: A002
    hours: Annotated[str, Query(max_length=20, description="Started within so many hours")] = "",
    attribute: Annotated[str, Query(max_length=400, description="A search attribute: TenantId=acme")] = "",
    page: Annotated[str, Query(max_length=2000, description="`next` of the page before")] = "",
) -> dict[str, Any]:
    """Running ones first, then those that ended last. 50 a page: `next` is empty on the last, `total` counts all.

    `complete` is false where more runs wait for a place of their type than can be listed as Pending: name a type then.
    """
    require(actor, Permission.INFRA_VIEW)
    given = {"type": type, "status": status, "id": id, "hours": hours, "attribute": attribute}
    filters = workflow_executions.filters_of(given)
    found = workflow_executions.page(platform, actor, filters, page)
    return {
        "items": [_row(one) for one in found.rows],
        "total": workflow_executions.count(platform, actor, filters),
        "next": workflow_executions.token_text(found.next_token),
        "complete": not workflow_executions.cut(platform, filters),
    }


@router.post("", status_code=201, summary="Start an execution")
def start(
    wanted: Start, platform: ThePlatform, actor: TheActor, request: Request, response: Response
) -> dict[str, Any]:  # fmt: skip
    """409 when the id is taken by a running execution. The platform's own types need their own permission."""
    given = wanted.input if isinstance(wanted.input, dict) else json.dumps(wanted.input or [])
    with _taken():
        begun = workflow_start.start(
            platform, actor, wanted.type, given=given, workflow_id=wanted.id, task_queue=wanted.task_queue,
            reason=wanted.reason, request_id=request_id(request),
        )  # fmt: skip
    response.headers["Location"] = f"/api/v2{router.prefix}/{quote(begun.id, safe='/')}?run_id={begun.run_id}"
    return {"id": begun.id, "run_id": begun.run_id}


@router.post("/{execution:path}/signal", status_code=202, summary="Signal")
def signal(
    execution: Ident, sent: Signal, platform: ThePlatform, actor: TheActor, request: Request, run_id: Run = ""
) -> dict[str, str]:
    """404 when it is not there or has ended."""
    workflow_control.signal(
        platform, actor, execution, run_id, sent.name, json.dumps(sent.input), sent.reason, request_id(request)
    )
    return {"id": execution, "status": "sent"}


@router.post("/{execution:path}/cancel", status_code=202, summary="Ask to end")
def cancel(
    execution: Ident, why: End, platform: ThePlatform, actor: TheActor, request: Request, run_id: Run = ""
) -> dict[str, str]:
    """Its code may clean up first, or carry on. `confirm` is its id once more."""
    require(actor, Permission.WORKFLOWS_OPERATE)
    named(why.confirm, execution, "It is asked to end")
    workflow_control.cancel(platform, actor, execution, run_id, why.reason, request_id(request))
    return {"id": execution, "status": "asked"}


@router.post("/{execution:path}/terminate", summary="End at once")
def terminate(
    execution: Ident, why: End, platform: ThePlatform, actor: TheActor, request: Request, run_id: Run = ""
) -> dict[str, str]:
    """Nothing is cleaned up. `confirm` is its id once more."""
    require(actor, Permission.WORKFLOWS_OPERATE)
    named(why.confirm, execution, "It ends at once")
    workflow_control.terminate(platform, actor, execution, run_id, why.reason, request_id(request))
    return {"id": execution, "status": "terminated"}


@router.post("/{execution:path}/reset", status_code=201, summary="Go on from a point")
def reset(
    execution: Ident, to: Reset, platform: ThePlatform, actor: TheActor, request: Request, run_id: Run = ""
) -> dict[str, str]:
    """A new run, whose `run_id` is answered; one that still runs ends. `confirm` is the execution's id once more."""
    require(actor, Permission.WORKFLOWS_OPERATE)
    named(to.confirm, execution, "A new run goes on from there, and one that still runs ends")
    made = workflow_control.reset(platform, actor, execution, run_id, to.event, to.reason, request_id(request))
    return {"id": execution, "run_id": made}


@router.post("/{execution:path}/again", status_code=201, summary="Run again what failed")
def again(
    execution: Ident, why: Why, platform: ThePlatform, actor: TheActor, request: Request, run_id: Run = ""
) -> dict[str, str]:
    """The same input under the same id, as a new run. 409 when it runs, or has completed since."""
    with _taken():
        made = workflow_control.again(platform, actor, execution, run_id, why.reason, request_id(request))
    return {"id": execution, "run_id": made}


@router.get("/{execution:path}", summary="One execution")
def one(execution: Ident, platform: ThePlatform, actor: TheActor, run_id: Run = "") -> dict[str, Any]:
    """Its steps, and what it was given and came to: masked without workflows:payloads."""
    return _wire(workflow_detail.detail(platform, actor, execution, run_id))


def _row(found: Execution) -> dict[str, Any]:
    body: dict[str, Any] = shapes.wire(found)
    return body


def _wire(of: Detail) -> dict[str, Any]:
    body: dict[str, Any] = shapes.wire(of)
    return {**body.pop("execution"), **body}


@contextmanager
def _taken() -> Iterator[None]:
    try:
        yield
    except (AlreadyThere, AlreadyRunning) as error:
        raise Problem(409, "already-there", error.sentence, advice=error.advice) from error
