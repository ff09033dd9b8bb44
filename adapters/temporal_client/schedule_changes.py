"""Changes of a schedule.

An update is sent with the conflict token of what was read. The server takes one that comes too late without a word and
drops it, so each is read back before it counts.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from temporalio.api.enums.v1 import ScheduleOverlapPolicy
from temporalio.api.schedule.v1 import Schedule, SchedulePatch
from temporalio.api.workflowservice.v1 import (
    CreateScheduleRequest,
    DeleteScheduleRequest,
    DescribeScheduleResponse,
    PatchScheduleRequest,
    UpdateScheduleRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from adapters.core.errors import Rejected
from adapters.core.redact import redact
from adapters.temporal_client.control import IDENTITY
from adapters.temporal_client.executions import left
from adapters.temporal_client.schedules import OVERLAPS, raw


class ScheduleThere(Rejected):
    """There is a schedule with this id already."""

    advice = "Open that schedule, or choose another id."


async def create(client: Client, namespace: str, schedule_id: str, schedule: Schedule, identity: str) -> bytes:
    """Make a schedule; its conflict token. Raises ScheduleThere, RPCError."""
    request = CreateScheduleRequest(schedule=schedule, **_named(namespace, schedule_id, identity))
    try:
        return (await client.workflow_service.create_schedule(request, timeout=left())).conflict_token
    except RPCError as error:
        if error.status is not RPCStatusCode.ALREADY_EXISTS:
            raise
        raise ScheduleThere(f"There is a schedule {schedule_id} already.", detail=redact(error.message)) from error


async def update(
    client: Client, namespace: str, schedule_id: str, schedule: Schedule, token: bytes, identity: str
) -> DescribeScheduleResponse | None:
    """Replace a schedule as it was read under ``token``, and return it as read back.

    None where the server dropped the update because somebody else was first. Raises RPCError, TimedOut.
    """
    named = _named(namespace, schedule_id, identity)
    request = UpdateScheduleRequest(schedule=schedule, conflict_token=token, **named)
    await client.workflow_service.update_schedule(request, timeout=left())
    while True:
        answer = await raw(client, namespace, schedule_id)
        if answer is None:
            return None
        if answer.conflict_token != token:
            return answer if _same(answer.schedule, schedule) else None
        await asyncio.sleep(0.05)


async def patch(client: Client, namespace: str, schedule_id: str, change: SchedulePatch, identity: str) -> None:
    """Trigger or backfill. Raises RPCError."""
    request = PatchScheduleRequest(patch=change, **_named(namespace, schedule_id, identity))
    await client.workflow_service.patch_schedule(request, timeout=left())


async def delete(client: Client, namespace: str, schedule_id: str, identity: str) -> None:
    """Remove a schedule; what it started goes on. Raises RPCError."""
    request = DeleteScheduleRequest(namespace=namespace, schedule_id=schedule_id, identity=identity or IDENTITY)
    await client.workflow_service.delete_schedule(request, timeout=left())


def overlap_number(name: str) -> ScheduleOverlapPolicy.ValueType:
    """The server's number of an overlap policy of :data:`OVERLAPS`."""
    return ScheduleOverlapPolicy.ValueType(OVERLAPS.index(name) + 1)


def _named(namespace: str, schedule_id: str, identity: str) -> dict[str, Any]:
    """What every change names: the schedule, who asks, and a number by which the server knows one sent twice."""
    who = identity or IDENTITY
    return {"namespace": namespace, "schedule_id": schedule_id, "identity": who, "request_id": str(uuid.uuid4())}


def _same(now: Schedule, sent: Schedule) -> bool:
    """Whether what is stored is what was sent. Crons come back as calendars, and runs left count on by themselves."""
    stored, wanted = now.state, sent.state
    return (
        (stored.paused, stored.notes) == (wanted.paused, wanted.notes)
        and now.action == sent.action
        and now.policies == sent.policies
        and (bool(sent.spec.cron_string) or list(now.spec.interval) == list(sent.spec.interval))
    )
