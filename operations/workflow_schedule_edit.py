"""Editing a schedule: its times, overlap policy, note and input."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from temporalio.api.workflowservice.v1 import DescribeScheduleResponse

from adapters.core import Rejected
from adapters.temporal_client import payloads, schedule_changes, schedules
from adapters.temporal_client.schedule_spec import Interval, write
from adapters.temporal_client.schedules import OVERLAPS
from operations.access import Actor, Permission, require
from operations.change import FieldError, Invalid, Outcome
from operations.platform import Platform
from operations.workflow_audit import reasoned, recorded
from operations.workflow_schedules import changing, facts, guard, noted, put, subject

TIMES_MOST = 50
CRON_LETTERS = 200
INPUT_LETTERS = 65_536
LONGEST_SECONDS = 366 * 86400
_LENGTH = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(s|m|h|d|w)[a-z]*\s*$", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
LENGTHS = "a number and a unit: 30m, 6h, 1d"


@dataclass(frozen=True, slots=True)
class Edit:
    """New values; None leaves a part as it is. Intervals and crons replace all times the schedule has."""

    intervals: tuple[Interval, ...] | None = None
    crons: tuple[str, ...] | None = None
    overlap: str | None = None
    note: str | None = None
    input: str | None = None
    """A JSON list of arguments."""


def seconds_of(text: str) -> float | None:
    """Seconds of "30m", "6h" or "1 day"; None where it is none of the kind."""
    found = _LENGTH.match(text)
    return float(found.group(1)) * _SECONDS[found.group(2).lower()] if found else None


def save(
    platform: Platform, actor: Actor, schedule_id: str, edit: Edit, *, seen: int, reason: str,
    request_id: str | None = None,
) -> Outcome:  # fmt: skip
    """Put the edit in place of what was seen as version ``seen``.

    Raises Forbidden (the input needs PAYLOADS_READ besides), Invalid, NotFound, Conflict, AdapterError,
    StoreUnavailable.
    """
    require(actor, Permission.WORKFLOWS_OPERATE)
    if edit.input is not None:
        require(actor, Permission.PAYLOADS_READ)
    arguments = checked(edit)
    reasoned(reason)
    now = changing(platform, actor, schedule_id)
    yours = _yours(edit)
    guard(now, seen, yours)
    before = facts(now)
    if edit.input is not None:
        held = payloads.shown(now.schedule.action.start_workflow.input.payloads)
        if not held.editable:
            raise Invalid(
                [FieldError("input", "It is not plain JSON and cannot be edited here.", "the input as it is")]
            )
        before["input"] = _fingerprint(held.text)
    _apply(now, edit, arguments)
    with recorded(platform, actor, action="temporal.schedule.edit", subject=subject(schedule_id), reason=reason,
                  asked=yours, request_id=request_id) as record:  # fmt: skip
        record.before = before
        try:
            done = put(platform, actor, schedule_id, now, yours)
        except Rejected as error:
            # The server alone knows what it takes for a time: its own words name what is wrong.
            raise Invalid([FieldError("times", server_words(error), "a cron line or an interval")]) from error
        record.after = {**facts(done), **({"input": yours["input"]} if "input" in yours else {})}
    platform.readings.forget("temporal:")
    return Outcome(schedules.version(done.conflict_token))


def checked(edit: Edit) -> list[Any]:
    """The arguments of a new input; raises Invalid with everything that is wrong."""
    errors: list[FieldError] = []
    times = len(edit.intervals or ()) + len(edit.crons or ())
    if (edit.intervals is not None or edit.crons is not None) and not 1 <= times <= TIMES_MOST:
        errors.append(FieldError("times", "has to name when it runs", f"1 to {TIMES_MOST} intervals and crons"))
    for one in edit.intervals or ():
        if not 1 <= one.seconds <= LONGEST_SECONDS or one.seconds != int(one.seconds):
            errors.append(FieldError("every", f"{one.seconds:g} seconds", "whole seconds, 1 second to 366 days"))
        if not 0 <= one.offset_seconds < max(one.seconds, 1):
            errors.append(FieldError("offset", f"{one.offset_seconds:g} seconds", "0 to less than the interval"))
    errors += [
        FieldError("cron", f"{line[:60]!r}", f"one line of at most {CRON_LETTERS} letters")
        for line in edit.crons or ()
        if not line.strip() or len(line) > CRON_LETTERS or "\n" in line
    ]
    if edit.overlap is not None and edit.overlap not in OVERLAPS:
        errors.append(FieldError("overlap", f"{edit.overlap[:60]} is unknown", ", ".join(OVERLAPS)))
    if edit.note is not None:
        noted(edit.note)
    arguments: list[Any] = []
    if edit.input is not None:
        try:
            arguments = _arguments(edit.input)
        except ValueError as error:
            errors.append(FieldError("input", str(error), "a JSON list of the workflow's arguments"))
    if errors:
        raise Invalid(errors)
    return arguments


def _arguments(text: str) -> list[Any]:
    if len(text) > INPUT_LETTERS:
        raise ValueError(f"is longer than {INPUT_LETTERS:,} letters")
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"is no JSON: {error}") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    if not isinstance(found, list):
        raise ValueError("is no list")
    return found


def _apply(now: DescribeScheduleResponse, edit: Edit, arguments: list[Any]) -> None:
    made = now.schedule
    if edit.intervals is not None or edit.crons is not None:
        for name in ("structured_calendar", "cron_string", "calendar", "interval"):
            made.spec.ClearField(name)
        write(made.spec, edit.intervals or (), edit.crons or ())
    if edit.overlap is not None:
        made.policies.overlap_policy = schedule_changes.overlap_number(edit.overlap)
    if edit.note is not None:
        made.state.notes = noted(edit.note)
    if edit.input is not None:
        start = made.action.start_workflow
        start.input.ClearField("payloads")
        start.input.payloads.extend(payloads.written(arguments))


def _yours(edit: Edit) -> dict[str, Any]:
    """What is asked for, for the record and for conflicts; of the input only its fingerprint."""
    said: dict[str, Any] = {}
    if edit.intervals is not None or edit.crons is not None:
        every = [f"every {one.seconds:g} s + {one.offset_seconds:g} s" for one in edit.intervals or ()]
        said["times"] = "; ".join([*every, *(f"cron {line}" for line in edit.crons or ())])
    if edit.overlap is not None:
        said["overlap"] = edit.overlap
    if edit.note is not None:
        said["note"] = edit.note
    if edit.input is not None:
        said["input"] = _fingerprint(edit.input)
    return said


def _fingerprint(text: str) -> str:
    return f"sha256 {hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:16]}"


def server_words(error: Rejected) -> str:
    """What the server says is wrong with a schedule, without its codes."""
    detail = str(error.detail or "")
    _, _, words = detail.partition("INVALID_ARGUMENT:")
    return (words.strip() or error.sentence).removeprefix("Invalid schedule spec: ")[:200]
