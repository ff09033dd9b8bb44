"""Changing a schedule: pause, resume, run now, edit, run a past time, remove."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import streamlit as st

from adapters.core import AdapterError, utcnow
from adapters.temporal_client.schedule_spec import Interval, length
from adapters.temporal_client.schedules import OVERLAPS, Schedule
from operations import change, workflow_schedule_edit, workflow_schedules
from operations.change import FieldError, Invalid
from operations.workflow_schedule_edit import LENGTHS, Edit, seconds_of
from operations.workflow_schedules import BACKFILL_MOST, NOTE_LETTERS, Preview
from pages.temporal_parts import common
from pages.widgets import forms, state
from pages.widgets.template import View

_STATE = "_schedule_forms"
_NOTE = "_schedule_said"
KEEP, EVERY, CRON = "As it is", "Every", "Cron"


@dataclass(slots=True)
class _Open:
    """The form that is open: the schedule as it was when it was opened, so that nothing moves under the typing."""

    schedule_id: str = ""
    what: str = ""
    seen: Schedule | None = None
    version: int = 0
    preview: Preview | None = None
    span: tuple[datetime, datetime] | None = None
    generation: int = 0
    said: list[str] = field(default_factory=list)


def _open() -> _Open:
    found: _Open = st.session_state.setdefault(_STATE, _Open())
    return found


def result() -> None:
    """Say once what the last change came to."""
    forms.result(_NOTE)
    made = _open()
    for words in made.said:
        st.success(words, icon=":material/check_circle:")
    made.said.clear()


def draw(view: View, schedule_id: str) -> None:
    """The choice of what to do, and its form."""
    made = _open()
    choices = ("Pause or resume", "Run now", "Edit", "Run a past time", "Delete")
    what = st.segmented_control("Change it", choices, key=f"schedule_what_{schedule_id}_{made.generation}")
    if not what:
        return
    if (made.schedule_id, made.what) != (schedule_id, what) or made.seen is None:
        try:
            seen = workflow_schedules.one(view.platform, view.actor, schedule_id)
        except (AdapterError, change.NotFound) as error:
            st.error(state.plain(getattr(error, "sentence", str(error))), icon=":material/error:")
            return
        made.schedule_id, made.what, made.seen, made.version = schedule_id, what, seen, seen.version
        made.preview = made.span = None
    part = {
        "Pause or resume": _pause, "Run now": _trigger, "Edit": _edit, "Run a past time": _backfill, "Delete": _delete
    }  # fmt: skip
    with st.container(border=True):
        part[what](view, made.seen)


def _run(operation: Callable[[], Any], done: str) -> bool:
    """Perform a change; after success close the form and draw anew. After a conflict the next save is against theirs."""
    made = _open()

    def guarded() -> change.Outcome:
        try:
            outcome = operation()
        except change.Conflict as error:
            made.version = int(error.current["version"])
            raise
        return outcome if isinstance(outcome, change.Outcome) else change.Outcome()

    try:
        saved = forms.run(guarded, done=done, note=_NOTE)
    except AdapterError as error:
        st.error(f"{state.plain(error.sentence)} {state.plain(error.advice)}", icon=":material/error:")
        return False
    if saved is None:
        return False
    made.generation += 1
    made.what = ""
    return True


def _key(name: str) -> str:
    made = _open()
    return f"schedule_{name}_{made.schedule_id}_{made.generation}"


def _pause(view: View, seen: Schedule) -> None:
    verb = "Resume" if seen.paused else "Pause"
    st.markdown(
        "It starts runs again at its next time. Runs it missed meanwhile are not made up."
        if seen.paused
        else "It starts nothing until somebody resumes it. What runs already goes on."
    )
    note = st.text_input(
        "Note", key=_key("note"), max_chars=NOTE_LETTERS,
        placeholder="Why? It stays on the schedule, and in the record of changes.",
    )  # fmt: skip
    if st.button(verb, key=_key("pause"), type="primary",
                 icon=":material/play_circle:" if seen.paused else ":material/pause_circle:"):  # fmt: skip
        act = workflow_schedules.resume if seen.paused else workflow_schedules.pause
        version = _open().version
        if _run(lambda: act(view.platform, view.actor, seen.id, seen=version, note=note), f"{verb}d."):
            st.rerun()


def _trigger(view: View, seen: Schedule) -> None:
    st.markdown(f"Starts **{state.plain(seen.type)}** now, as the schedule would." + (
        " It is paused: this run starts all the same." if seen.paused else ""
    ))  # fmt: skip
    overlap = _overlap("If one still runs", "", "trigger_overlap")
    reason = forms.reason_field(_key("trigger_reason"))
    if not st.button("Run now", key=_key("trigger"), type="primary", icon=":material/play_arrow:"):
        return
    told: list[workflow_schedules.Triggered] = []

    def act() -> change.Outcome:
        told.append(workflow_schedules.trigger(view.platform, view.actor, seen.id, reason=reason, overlap=overlap))
        return told[0].outcome

    if _run(act, "Asked for."):
        st.session_state.pop(_NOTE, None)
        _open().said.append(_triggered(told[0]))
        st.rerun()


def _triggered(done: workflow_schedules.Triggered) -> str:
    if done.workflow_id:
        where = common.executions(run=done.workflow_id, run_id=done.run_id)
        return f"Started [{state.plain(done.workflow_id)}]({where})."
    if done.skipped:
        return "Nothing was started: one still runs, and the schedule skips a run then."
    return "Asked for. The run starts as soon as its turn comes."


def _overlap(label: str, default: str, name: str) -> str:
    words = {"": "As the schedule has it", "Skip": "Skip the new run", "BufferOne": "Let one run wait",
             "BufferAll": "Let all wait their turn", "CancelOther": "Cancel the one that runs",
             "TerminateOther": "Terminate the one that runs", "AllowAll": "Run side by side"}  # fmt: skip
    choices = [one for one in words if one or not default]
    chosen = st.selectbox(
        label, choices, index=choices.index(default), key=_key(name), format_func=lambda one: words.get(one, one)
    )
    return chosen or default


def _edit(view: View, seen: Schedule) -> None:
    errors: list[FieldError] = []
    intervals, crons = _times(seen, errors)
    left, right = st.columns(2, vertical_alignment="bottom")
    with left:
        overlap = _overlap("If one still runs", seen.overlap if seen.overlap in OVERLAPS else "Skip", "overlap")
    with right:
        note = st.text_input("Note", seen.note, key=_key("edit_note"), max_chars=NOTE_LETTERS)
    given: str | None = None
    if seen.input.editable:
        typed = st.text_area(
            "Input", seen.input.text, key=_key("input"), height=140, help="A JSON list of the workflow's arguments."
        )
        given = typed if _differs(typed, seen.input.text) else None
    elif seen.input.masked:
        st.markdown(":gray[:material/lock: The input stays as it is: changing it needs the permission to see it.]")
    else:
        st.markdown(":gray[The input is not plain JSON and stays as it is.]")
    reason = forms.reason_field(_key("edit_reason"))
    if not st.button("Save", key=_key("save"), type="primary", icon=":material/save:"):
        return
    edit = Edit(
        intervals, crons, overlap if overlap != seen.overlap else None, note if note != seen.note else None, given
    )

    def act() -> change.Outcome:
        if errors:
            raise Invalid(errors)
        if edit == Edit():
            raise Invalid([FieldError("schedule", "Nothing is different from what it is.", "a change")])
        return workflow_schedule_edit.save(
            view.platform, view.actor, seen.id, edit, seen=_open().version, reason=reason
        )

    if _run(act, "Saved. It takes effect at its next time."):
        st.rerun()


def _differs(typed: str, shown: str) -> bool:
    try:
        return bool(json.loads(typed) != json.loads(shown))
    except ValueError:
        return typed != shown


def _times(seen: Schedule, errors: list[FieldError]) -> tuple[tuple[Interval, ...] | None, tuple[str, ...] | None]:
    how = st.segmented_control("Times", (KEEP, EVERY, CRON), default=KEEP, required=True, key=_key("how"))
    if how == EVERY:
        first = seen.spec.intervals[0] if seen.spec.intervals else Interval(3600)
        every_at, offset_at = st.columns(2)
        with every_at:
            every = st.text_input("Every", _short(first.seconds), key=_key("every"), placeholder="6h", help=LENGTHS)
        with offset_at:
            offset = st.text_input(
                "Shifted by", _short(first.offset_seconds) if first.offset_seconds else "", key=_key("offset"),
                placeholder="nothing", help="Counted from 1970 in UTC: 6h shifted by 30m runs at 00:30, 06:30, …",
            )  # fmt: skip
        seconds, shift = seconds_of(every), seconds_of(offset) if offset.strip() else 0.0
        if seconds is None:
            errors.append(FieldError("every", f"{every!r} is no length of time", LENGTHS))
        if shift is None:
            errors.append(FieldError("offset", f"{offset!r} is no length of time", LENGTHS))
        return (Interval(seconds or 0.0, shift or 0.0),), None
    if how == CRON:
        text = st.text_area(
            "Cron", "\n".join(seen.spec.crons), key=_key("cron"), placeholder="0 3 * * 1-5", height=90,
            help="One line each: minute, hour, day of the month, month, day of the week. "
            f"In the zone {seen.spec.timezone or 'UTC'}.",
        )  # fmt: skip
        return None, tuple(line.strip() for line in text.splitlines() if line.strip())
    st.markdown(f":gray[{state.plain(seen.spec.words)}]")
    return None, None


def _short(seconds: float) -> str:
    said = length(seconds)
    count, _, unit = said.partition(" ")
    return f"{count}{unit[:1]}"


def _backfill(view: View, seen: Schedule) -> None:
    made = _open()
    st.markdown(
        "Starts the runs of a past time now, as if it passed again. "
        f"At most {BACKFILL_MOST:,} at once; times are in UTC."
    )
    now = utcnow().replace(second=0, microsecond=0, tzinfo=None)
    first, second, third = st.columns(3, vertical_alignment="bottom")
    with first:
        start: datetime | None = st.datetime_input("From", now - timedelta(days=1), key=_key("from"))
    with second:
        end: datetime | None = st.datetime_input("To", now, key=_key("to"))
    with third:
        overlap = _overlap("If one still runs", "BufferAll", "backfill_overlap")
    span = (start.replace(tzinfo=UTC), end.replace(tzinfo=UTC)) if start and end else None
    if st.button("Preview", key=_key("preview"), icon=":material/visibility:", disabled=span is None) and span:
        made.preview = made.span = None
        try:
            made.preview, made.span = workflow_schedules.preview(view.platform, view.actor, seen.id, *span), span
        except Invalid as error:
            for one in error.errors:
                st.error(f"**{state.plain(one.field)}**: {state.plain(one.message)} Allowed: {state.plain(one.allowed)}.",
                         icon=":material/error:")  # fmt: skip
        except (AdapterError, change.NotFound) as error:
            st.error(state.plain(getattr(error, "sentence", str(error))), icon=":material/error:")
    if made.preview is None or made.span is None or made.span != span:
        return
    found = made.preview
    named = ", ".join(state.moment(at) for at in found.first)
    last = f" … {state.moment(found.last)}" if found.count > len(found.first) else ""
    st.markdown(f"**{found.count:,}** run{'s' * (found.count != 1)}: {named}{last}")
    reason = forms.reason_field(_key("backfill_reason"))
    if st.button(f"Start {found.count:,} run{'s' * (found.count != 1)}", key=_key("backfill"), type="primary",
                 icon=":material/history:"):  # fmt: skip
        start_at, end_at = made.span
        done = f"Asked for {found.count:,} run{'s' * (found.count != 1)}."
        if _run(
            lambda: workflow_schedules.backfill(
                view.platform, view.actor, seen.id, start_at, end_at, reason=reason, overlap=overlap
            ),
            done,
        ):
            st.rerun()


def _delete(view: View, seen: Schedule) -> None:
    st.markdown("Removes the schedule for good. Runs it started go on.")
    typed = st.text_input(f"Type {seen.id} to confirm", key=_key("typed"), autocomplete="off")
    reason = forms.reason_field(_key("delete_reason"))
    if st.button("Delete", key=_key("delete"), type="primary", icon=":material/delete:"):
        version = _open().version
        if _run(
            lambda: workflow_schedules.delete(
                view.platform, view.actor, seen.id, typed=typed, seen=version, reason=reason
            ),
            f"{state.plain(seen.id)} has been removed.",
        ):
            common.keep(schedule="")
            st.rerun()
