"""A new schedule: checked, its next times told before it is made, made, and on record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from temporalio.api.common.v1 import Payload
from temporalio.api.schedule.v1 import Schedule, ScheduleSpec

from adapters.core import Rejected, utcnow
from adapters.temporal_client import control, schedule_changes, schedules
from adapters.temporal_client.schedule_changes import ScheduleThere
from adapters.temporal_client.schedule_spec import Interval, read, write
from adapters.temporal_client.schedule_times import NotCron, calendar, following
from operations import change, workflow_settings, workflow_start
from operations.access import Actor, Permission, require
from operations.change import FieldError, Invalid, Outcome
from operations.platform import Platform
from operations.workflow_audit import recorded
from operations.workflow_catalogue import CATALOGUE, OWN_SCHEDULES, TASK_QUEUE
from operations.workflow_control import arguments
from operations.workflow_detail import starts_with
from operations.workflow_executions import adapter_of
from operations.workflow_schedule_edit import Edit, checked, server_words
from operations.workflow_schedules import facts_of, subject

__all__ = ["CRON", "New", "Plan", "ScheduleThere", "create", "plan", "schedulable", "zones"]

CRON = "five fields: minute, hour, day of the month, month, day of the week (0 to 6, 0 is Sunday)"
SHOWN = 5


@dataclass(frozen=True, slots=True)
class New:
    """What is asked for. ``given`` is the values of an own type by name, or JSON for any other."""

    id: str
    type: str
    given: Mapping[str, Any] | str = ""
    task_queue: str = ""
    """Needed for types that are not the platform's."""
    intervals: tuple[Interval, ...] = ()
    crons: tuple[str, ...] = ()
    timezone: str = ""
    """Of the crons; empty is UTC."""
    overlap: str = "Skip"
    paused: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What making it means."""

    id: str
    type: str
    task_queue: str
    words: str
    """When it runs, as a sentence."""
    next: tuple[datetime, ...]
    """The first five times, in UTC, were it not paused."""
    payloads: tuple[Payload, ...]


@cache
def zones() -> tuple[str, ...]:
    """Names of the time zones there are, UTC first."""
    return ("UTC", *sorted(available_timezones() - {"UTC"}))


@cache
def schedulable() -> tuple[str, ...]:
    """The platform's own types that a schedule may start: not those of one tenant, which go through their own door."""
    return tuple(name for name in CATALOGUE if not workflow_start.per_tenant(name))


def plan(actor: Actor, new: New) -> Plan:
    """What would be made; asks nobody. Raises Forbidden, and Invalid with everything that is wrong."""
    require(actor, Permission.WORKFLOWS_OPERATE)
    kind, schedule_id = change.clean(new.type).strip(), change.clean(new.id).strip()
    require(actor, starts_with(kind))
    own = kind in CATALOGUE
    queue = TASK_QUEUE if own else change.clean(new.task_queue).strip()
    errors: list[FieldError] = []
    for field, text in (("id", schedule_id), ("type", kind), ("task_queue", queue)):
        if not workflow_start.nameable(text):
            errors.append(FieldError(field, "is needed" if not text else "is no name", workflow_start.NAME_ALLOWED))
    if schedule_id in OWN_SCHEDULES:
        errors.append(FieldError("id", f"{schedule_id} is the platform's own: its worker makes it", "another id"))
    payloads: list[Payload] = []
    if own and kind not in schedulable():
        errors.append(FieldError("type", f"{kind} is begun for one tenant at a time", ", ".join(schedulable())))
    else:
        try:
            payloads = _input(kind, new.given)
        except Invalid as error:
            errors.extend(error.errors)
    errors += _times(new)
    if new.paused and not new.note.strip():
        errors.append(FieldError("note", "Say why it begins paused.", "1 to 300 letters"))
    if errors:
        raise Invalid(errors)
    found = following(new.intervals, new.crons, new.timezone, utcnow(), SHOWN)
    if not found:
        raise Invalid([FieldError("cron", "names no day that comes", "a date that there is")])
    return Plan(schedule_id, kind, queue, read(_spec(new, shown=True)).words, tuple(found), tuple(payloads))


def create(platform: Platform, actor: Actor, new: New, *, reason: str, request_id: str | None = None) -> Outcome:
    """Make it. Its runs' ids begin with its own.

    Raises Forbidden, Invalid, ScheduleThere, AdapterError, StoreUnavailable.
    """
    made = plan(actor, new)
    schedule = Schedule(spec=_spec(new))
    start = schedule.action.start_workflow
    start.workflow_id, start.workflow_type.name, start.task_queue.name = made.id, made.type, made.task_queue
    start.input.payloads.extend(made.payloads)
    if made.type not in CATALOGUE:
        # Nobody else ends its runs; the worker of our own obeys the settings by itself.
        start.workflow_execution_timeout.FromSeconds(workflow_settings.effective(platform, made.type).timeout_seconds)
    schedule.policies.overlap_policy = schedule_changes.overlap_number(new.overlap)
    schedule.state.paused, schedule.state.notes = new.paused, change.clean(new.note).strip()
    told = {"type": made.type, "task_queue": made.task_queue, **facts_of(schedule), "times": made.words}
    service = adapter_of(platform)
    with recorded(platform, actor, action="temporal.schedule.create", subject=subject(made.id), reason=reason,
                  asked=told, request_id=request_id, permission=starts_with(made.type)) as record:  # fmt: skip
        try:
            token = service.call(
                lambda client: schedule_changes.create(client, service.config.namespace, made.id, schedule, actor.name)
            )
        except ScheduleThere:
            raise
        except Rejected as error:
            raise Invalid([FieldError("schedule", server_words(error), "what the server takes")]) from error
        record.after = told
    platform.readings.forget("temporal:")
    return Outcome(schedules.version(token))


def _input(kind: str, given: Mapping[str, Any] | str) -> list[Payload]:
    if kind in CATALOGUE:
        return control.payloads([workflow_start.made(kind, workflow_start.by_name(given))])
    return control.payloads(arguments(given) if isinstance(given, str) else [dict(given)])


def _times(new: New) -> list[FieldError]:
    errors: list[FieldError] = []
    try:
        checked(Edit(new.intervals, new.crons, new.overlap, new.note))
    except Invalid as error:
        errors.extend(error.errors)
    for line in new.crons:
        try:
            calendar(line)
        except NotCron as error:
            errors.append(FieldError("cron", f"{line[:60]!r}: {error}", CRON))
    if new.timezone and new.timezone not in zones():
        errors.append(FieldError("timezone", f"{new.timezone[:60]!r} is no time zone", "such as UTC, Europe/Berlin"))
    return errors


def _spec(new: New, *, shown: bool = False) -> ScheduleSpec:
    """The server's spec; ``shown`` has crons as the server gives them back, which are put into words."""
    made = ScheduleSpec(timezone_name=new.timezone if new.crons else "")
    write(made, new.intervals, () if shown else new.crons)
    if shown:
        made.structured_calendar.extend(calendar(line) for line in new.crons)
    return made
