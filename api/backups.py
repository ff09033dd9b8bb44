"""Backups of the console's own database and of every configuration."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from api import shapes
from api.auth import TheActor, ThePlatform, request_id
from operations import backups, workflow_schedule_runs
from operations.workflow_catalogue import BACKUP_SCHEDULE

router = APIRouter(prefix="/infrastructure/postgresql/backups", tags=["Infrastructure"])


class Wanted(BaseModel):
    """Why a backup is made now."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(min_length=1, max_length=300, description="Kept in the record of changes")]


@router.get("", summary="Backups, newest first")
def listing(
    platform: ThePlatform, actor: TheActor, limit: Annotated[int, Query(ge=1, le=backups.LIST_LIMIT)] = 50
) -> dict[str, Any]:
    """One that is `proved` was restored into a scratch database and found equal."""
    return {"items": [shapes.wire(row) for row in backups.listing(platform, actor, limit)]}


@router.post("", status_code=202, summary="Make a backup now")
def start(wanted: Wanted, platform: ThePlatform, actor: TheActor, request: Request) -> dict[str, Any]:
    """Starts the workflow; the backup appears in the list, and counts once it is `proved`."""
    done = workflow_schedule_runs.trigger(
        platform, actor, BACKUP_SCHEDULE, reason=wanted.reason, request_id=request_id(request)
    )
    return {"workflow_id": done.workflow_id, "run_id": done.run_id, "skipped": done.skipped}
