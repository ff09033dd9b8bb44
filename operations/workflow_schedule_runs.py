"""Runs of a schedule out of turn: one now, or those of a past time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from temporalio.api.schedule.v1 import BackfillRequest, SchedulePatch, TriggerImmediatelyRequest
from temporalio.api.workflowservice.v1 import DescribeScheduleResponse

from adapters.core import AdapterError, utcnow
from adapters.temporal_client import schedule_changes, schedules
from adapters.temporal_client.schedules import MOST, OVERLAPS
from operations.access import Actor, Permission, require
from operations.change import FieldError, Invalid, Outcome
from operations.platform import Platform
from operations.workflow_audit import reasoned, recorded
from operations.workflow_executions import adapter_of
from operations.workflow_schedules import changing, present, subject

BACKFILL_MOST = MOST - 1
"""Runs one backfill may start; the server tells of 1,000 times at most, so 1,000 may be more."""
SETTLE_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Triggered:
    """What became of a trigger: the run it started, or None where it was skipped or still waits its turn."""

    outcome: Outcome
    workflow_id: str = ""
    run_id: str = ""
    skipped: bool = False
    seen: bool = True
    """False where it was asked for, and Temporal did not tell any more what came of it."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a backfill would start."""

    count: int
    first: tuple[datetime, ...]
    """At most 5."""
    last: datetime | None


def trigger(
    platform: Platform, actor: Actor, schedule_id: str, *, reason: str, overlap: str = "", request_id: str | None = None
) -> Triggered:
    """Start a run now, paused or not. ``overlap`` overrides the schedule's own policy.

    Raises as :func:`operations.workflow_schedules.pause`.
    """
    require(actor, Permission.WORKFLOWS_OPERATE)
    before = changing(platform, actor, schedule_id)
    patch = SchedulePatch(trigger_immediately=TriggerImmediatelyRequest(overlap_policy=_overlap(overlap)))
    asked = {"overlap": overlap or "as the schedule has it"}
    with recorded(platform, actor, action="temporal.schedule.trigger", subject=subject(schedule_id), reason=reason,
                  asked=asked, request_id=request_id) as record:  # fmt: skip
        _send(platform, actor, schedule_id, patch)
        done = _settled(platform, schedule_id, before)
        record.after = {**asked, "workflow_id": done.workflow_id, "run_id": done.run_id, "skipped": done.skipped}
        if not done.seen:
            record.after["outcome"] = "asked for, not yet seen"
    platform.readings.forget("temporal:")
    return done


def preview(platform: Platform, actor: Actor, schedule_id: str, start: datetime, end: datetime) -> Preview:
    """The runs a backfill would start.

    Raises Forbidden, Invalid (the times are wrong, hold no run or too many), NotFound, AdapterError.
    """
    require(actor, Permission.INFRA_VIEW)
    if start >= end:
        raise Invalid([FieldError("to", "must be after from", "a later moment")])
    if end > utcnow():
        raise Invalid([FieldError("to", "must not lie ahead", "now or earlier")])
    present(platform, schedule_id)
    service = adapter_of(platform)
    times = service.call(lambda client: schedules.matching(client, service.config.namespace, schedule_id, start, end))
    if not times:
        raise Invalid([FieldError("from", "No run falls into that time.", "a time that holds at least one")])
    if len(times) > BACKFILL_MOST:
        words = f"That time holds {len(times):,} runs or more."
        raise Invalid([FieldError("from", words, f"a time with at most {BACKFILL_MOST:,} runs")])
    return Preview(len(times), tuple(times[:5]), times[-1])


def backfill(
    platform: Platform, actor: Actor, schedule_id: str, start: datetime, end: datetime, *,
    reason: str, overlap: str = "BufferAll", request_id: str | None = None,
) -> Preview:  # fmt: skip
    """Start the runs of a past time now, both ends included; what was started for is returned.

    With BufferAll one runs after another. Raises as :func:`preview` and :func:`operations.workflow_schedules.pause`.
    """
    require(actor, Permission.WORKFLOWS_OPERATE)
    number = _overlap(overlap)
    reasoned(reason)
    changing(platform, actor, schedule_id)
    found = preview(platform, actor, schedule_id, start, end)
    request = BackfillRequest(overlap_policy=number)
    request.start_time.FromDatetime(start)
    request.end_time.FromDatetime(end)
    asked = {"from": start, "to": end, "runs": found.count, "overlap": overlap}
    with recorded(platform, actor, action="temporal.schedule.backfill", subject=subject(schedule_id), reason=reason,
                  asked=asked, request_id=request_id) as record:  # fmt: skip
        _send(platform, actor, schedule_id, SchedulePatch(backfill_request=[request]))
        record.after = asked
    platform.readings.forget("temporal:")
    return found


def _send(platform: Platform, actor: Actor, schedule_id: str, patch: SchedulePatch) -> None:
    """Send a trigger or a backfill. Raises AdapterError."""
    service = adapter_of(platform)
    service.call(
        lambda client: schedule_changes.patch(client, service.config.namespace, schedule_id, patch, actor.name)
    )


def _settled(platform: Platform, schedule_id: str, before: DescribeScheduleResponse) -> Triggered:
    """Wait a moment for the run that a trigger starts. What is asked for stays so, whether it can be watched or not."""
    service = adapter_of(platform)
    space = service.config.namespace

    async def watch(client: Any) -> DescribeScheduleResponse | None:
        loop = asyncio.get_running_loop()
        end = loop.time() + SETTLE_SECONDS
        while True:
            now = await schedules.raw(client, space, schedule_id)
            if now is None or loop.time() > end:
                return None
            if (now.info.action_count, now.info.overlap_skipped) != (
                before.info.action_count,
                before.info.overlap_skipped,
            ):
                return now
            await asyncio.sleep(0.05)

    outcome = Outcome(schedules.version(before.conflict_token))
    try:
        now = service.call(watch)
    except AdapterError:
        return Triggered(outcome, seen=False)
    if now is None:
        return Triggered(outcome)
    if now.info.action_count == before.info.action_count:
        return Triggered(outcome, skipped=True)
    run = now.info.recent_actions[-1].start_workflow_result
    return Triggered(outcome, run.workflow_id, run.run_id)


def _overlap(name: str) -> Any:
    if name and name not in OVERLAPS:
        raise Invalid([FieldError("overlap", f"{name} is unknown", ", ".join(OVERLAPS))])
    return schedule_changes.overlap_number(name) if name else 0
