"""Schedules of Temporal: read, paused, resumed, removed.

Edits are in :mod:`operations.workflow_schedule_edit`, runs out of turn in
:mod:`operations.workflow_schedule_runs`. Every change names the version that was seen; where the schedule is another
by now it is a conflict and nothing happens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from temporalio.api.schedule.v1 import Schedule as Wire
from temporalio.api.workflowservice.v1 import DescribeScheduleResponse

from adapters.temporal_client import schedule_changes, schedules
from adapters.temporal_client.schedule_spec import read
from adapters.temporal_client.schedules import OVERLAPS, Named, Schedule
from operations import change
from operations.access import Actor, Permission, require
from operations.change import FieldError, Invalid, NotFound, Outcome
from operations.platform import Platform
from operations.workflow_audit import reasoned, recorded
from operations.workflow_catalogue import CATALOGUE, OWN_SCHEDULES
from operations.workflow_executions import adapter_of

PER_PAGE = 20
NOTE_LETTERS = 300
_OPERATE = Permission.WORKFLOWS_OPERATE


@dataclass(frozen=True, slots=True)
class Listed:
    """One page of schedules. ``total`` counts all that match; ``cut`` says that the server has more than were read."""

    rows: tuple[Schedule, ...]
    total: int
    page: int
    pages: int
    cut: bool


def listing(platform: Platform, actor: Actor, words: str = "", paused: bool | None = None, page: int = 1) -> Listed:
    """A page of 20, by id; ``words`` is part of an id, a type or a note. Raises Forbidden, AdapterError."""
    require(actor, Permission.INFRA_VIEW)
    service = adapter_of(platform)
    space = service.config.namespace
    sought = words.strip().lower()

    def fits(one: Named) -> bool:
        said = f"{one.id} {one.type} {one.note}".lower()
        return sought in said and (paused is None or one.paused is paused)

    names = service.call(lambda client: schedules.names(client, space))
    matching = [one.id for one in names.rows if fits(one)]
    pages = max(1, -(-len(matching) // PER_PAGE))
    page = max(1, min(page, pages))
    ids = matching[(page - 1) * PER_PAGE : page * PER_PAGE]
    found = service.call(lambda client: schedules.describe(client, space, ids))
    return Listed(tuple(_masked(actor, one) for one in found), len(matching), page, pages, names.cut)


def one(platform: Platform, actor: Actor, schedule_id: str) -> Schedule:
    """One schedule; its input is masked for who may not read payloads. Raises Forbidden, NotFound, AdapterError."""
    require(actor, Permission.INFRA_VIEW)
    service = adapter_of(platform)
    found = service.call(lambda client: schedules.describe(client, service.config.namespace, [schedule_id]))
    if not found:
        raise NotFound(f"There is no schedule {schedule_id}.")
    return _masked(actor, found[0])


def pause(
    platform: Platform, actor: Actor, schedule_id: str, *, seen: int | None, note: str, request_id: str | None = None
) -> Outcome:
    """Start nothing more until it is resumed; ``note`` says why and stays on the schedule.

    Raises Forbidden, Invalid, NotFound, Conflict, AdapterError, StoreUnavailable.
    """
    return _set_paused(platform, actor, schedule_id, True, seen, note, request_id)


def resume(
    platform: Platform, actor: Actor, schedule_id: str, *, seen: int | None, note: str, request_id: str | None = None
) -> Outcome:
    """Let a paused schedule go on. Raises as :func:`pause`."""
    return _set_paused(platform, actor, schedule_id, False, seen, note, request_id)


def delete(
    platform: Platform, actor: Actor, schedule_id: str, *, typed: str, seen: int | None, reason: str,
    request_id: str | None = None,
) -> Outcome:  # fmt: skip
    """Remove a schedule; the runs it started go on. ``typed`` is its id, typed. Raises as :func:`pause`.

    The platform's own are refused: each worker makes them anew as it starts, and running again would be a surprise.
    """
    require(actor, _OPERATE)
    if schedule_id in OWN_SCHEDULES:
        words = f"{schedule_id} is the platform's own and would come back with the next start of a worker."
        raise Invalid([FieldError("schedule", words, "pause it instead")])
    if typed.strip() != schedule_id:
        raise Invalid([FieldError("name", "What was typed is not the schedule's name.", schedule_id)])
    reasoned(reason)
    now = changing(platform, actor, schedule_id)
    guard(now, seen, {"removed": True})
    with recorded(platform, actor, action="temporal.schedule.delete", subject=subject(schedule_id), reason=reason,
                  asked={"removed": True}, request_id=request_id) as record:  # fmt: skip
        record.before = facts(now)
        service = adapter_of(platform)
        service.call(lambda client: schedule_changes.delete(client, service.config.namespace, schedule_id, actor.name))
        record.after = {"removed": True}
    platform.readings.forget("temporal:")
    return Outcome()


def present(platform: Platform, schedule_id: str) -> DescribeScheduleResponse:
    """What the server says of it now. Raises NotFound, AdapterError."""
    service = adapter_of(platform)
    found = service.call(lambda client: schedules.raw(client, service.config.namespace, schedule_id))
    if found is None:
        raise NotFound(f"There is no schedule {schedule_id}.")
    return found


def changing(platform: Platform, actor: Actor, schedule_id: str) -> DescribeScheduleResponse:
    """As :func:`present`, for who may start what it starts: an own type may need more than operating workflows.

    Raises Forbidden, NotFound, AdapterError.
    """
    require(actor, _OPERATE)
    found = present(platform, schedule_id)
    kind = CATALOGUE.get(found.schedule.action.start_workflow.workflow_type.name)
    if kind is not None:
        require(actor, kind.permission)
    return found


def guard(now: DescribeScheduleResponse, seen: int | None, yours: dict[str, Any]) -> None:
    """Raise Conflict where the schedule is not what was seen."""
    version = schedules.version(now.conflict_token)
    if seen is not None and seen != version:
        current = {name: value for name, value in facts(now).items() if name in yours}
        raise change.Conflict({**current, "version": version}, {**yours, "version": seen})


def facts(now: DescribeScheduleResponse) -> dict[str, Any]:
    """What a person can change about a schedule, for the record; never the input."""
    return facts_of(now.schedule)


def facts_of(made: Wire) -> dict[str, Any]:
    """The same of a schedule that need not be there."""
    return {
        "times": read(made.spec).words,
        "overlap": OVERLAPS[max(0, made.policies.overlap_policy - 1)],
        "note": made.state.notes,
        "paused": made.state.paused,
    }


def subject(schedule_id: str) -> str:
    """The schedule's name in the record of changes."""
    return f"temporal:schedule:{schedule_id}"


def put(platform: Platform, actor: Actor, schedule_id: str, read_as: DescribeScheduleResponse, yours: dict[str, Any]) \
        -> DescribeScheduleResponse:  # fmt: skip
    """Send ``read_as.schedule``, changed since it was read, and return it read back. Raises Conflict, AdapterError."""
    service = adapter_of(platform)
    space = service.config.namespace
    done = service.call(
        lambda client: schedule_changes.update(
            client, space, schedule_id, read_as.schedule, read_as.conflict_token, actor.name
        )
    )
    if done is None:
        guard(present(platform, schedule_id), -1, yours)
        raise NotFound(f"There is no schedule {schedule_id}.")
    return done


def noted(note: str) -> str:
    """A note without blanks around it. Raises Invalid where it is too long."""
    said = change.clean(note).strip()
    if len(said) > NOTE_LETTERS:
        raise Invalid([FieldError("note", "is too long", f"at most {NOTE_LETTERS} letters")])
    return said


def _set_paused(
    platform: Platform, actor: Actor, schedule_id: str, paused: bool, seen: int | None, note: str,
    request_id: str | None,
) -> Outcome:  # fmt: skip
    require(actor, _OPERATE)
    said = noted(note)
    if not said:
        raise Invalid([FieldError("note", "Say why.", f"1 to {NOTE_LETTERS} letters")])
    now = changing(platform, actor, schedule_id)
    yours = {"paused": paused, "note": said}
    guard(now, seen, yours)
    if not paused and not now.schedule.state.paused:
        raise Invalid([FieldError("schedule", "It is not paused.", "a paused schedule")])
    action = f"temporal.schedule.{'pause' if paused else 'resume'}"
    with recorded(platform, actor, action=action, subject=subject(schedule_id), reason=said, asked=yours,
                  request_id=request_id) as record:  # fmt: skip
        record.before = {name: value for name, value in facts(now).items() if name in yours}
        now.schedule.state.paused, now.schedule.state.notes = paused, said
        done = put(platform, actor, schedule_id, now, yours)
        record.after = yours
    platform.readings.forget("temporal:")
    return Outcome(schedules.version(done.conflict_token))


def _masked(actor: Actor, found: Schedule) -> Schedule:
    return found if actor.may(Permission.PAYLOADS_READ) else replace(found, input=found.input.hidden())
