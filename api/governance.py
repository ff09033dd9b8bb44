"""The record of changes."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from api import shapes
from api.auth import TheActor, ThePlatform
from operations import audit
from operations.access import Permission, require

router = APIRouter(prefix="/audit", tags=["Governance"])


@router.get("", summary="Recorded changes")
def entries(
    platform: ThePlatform,
    actor: TheActor,
    subject: Annotated[str | None, Query(max_length=200, description="Only subjects that begin so")] = None,
    before: Annotated[int | None, Query(ge=1, description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> dict[str, Any]:
    """Newest first."""
    found = audit.entries(platform, actor, subject, limit, before)
    return {
        "items": [shapes.wire(entry) for entry in found],
        "next": found[-1].id if len(found) == limit else None,
    }


@router.get("/chain", summary="Whether the record is whole")
def chain(platform: ThePlatform, actor: TheActor) -> dict[str, Any]:
    """Recomputes every hash."""
    require(actor, Permission.AUDIT_READ)
    found: dict[str, Any] = shapes.wire(audit.verify_chain(platform))
    return found
