"""Editing a schedule: its times, overlap policy, note and input."""

from __future__ import annotations

import json
from dataclasses import replace

import streamlit as st

from adapters.temporal_client.schedule_spec import Interval, Spec
from adapters.temporal_client.schedules import OVERLAPS, Schedule
from operations import change, workflow_schedule_edit
from operations.change import FieldError, Invalid
from operations.workflow_schedule_edit import Edit
from operations.workflow_schedules import NOTE_LETTERS
from pages.temporal_parts import schedule_state, schedule_times
from pages.temporal_parts.schedule_state import key, run
from pages.widgets import forms, state
from pages.widgets.template import View

KEEP, EVERY, CRON = "As it is", "Every", "Cron"


def draw(view: View, seen: Schedule) -> None:
    """The form with the schedule's present values."""
    errors: list[FieldError] = []
    intervals, crons = _times(seen, errors)
    left, right = st.columns(2, vertical_alignment="bottom")
    with left:
        overlap = schedule_state.overlap(
            "If one still runs", seen.overlap if seen.overlap in OVERLAPS else "Skip", "overlap"
        )
    with right:
        note = st.text_input("Note", seen.note, key=key("edit_note"), max_chars=NOTE_LETTERS)
    given: str | None = None
    if seen.input.editable:
        typed = st.text_area(
            "Input", seen.input.text, key=key("input"), height=140, help="A JSON list of the workflow's arguments."
        )
        given = typed if _differs(typed, seen.input.text) else None
    elif seen.input.masked:
        st.markdown(":gray[:material/lock: The input stays as it is: changing it needs the permission to see it.]")
    else:
        st.markdown(":gray[The input is not plain JSON and stays as it is.]")
    certain = schedule_state.confirmed(seen, overlap if overlap != seen.overlap else "", "edit_typed")
    reason = forms.reason_field(key("edit_reason"))
    if not st.button("Save", key=key("save"), type="primary", icon=":material/save:") or not certain():
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
            view.platform, view.actor, seen.id, edit, seen=schedule_state.opened().version, reason=reason
        )

    if run(act, "Saved. It takes effect at its next time."):
        st.rerun()


def _differs(typed: str, shown: str) -> bool:
    try:
        return bool(json.loads(typed) != json.loads(shown))
    except ValueError:
        return typed != shown


def _times(seen: Schedule, errors: list[FieldError]) -> tuple[tuple[Interval, ...] | None, tuple[str, ...] | None]:
    """New intervals and crons, both None where the times stay. One is typed; whether the others stay is asked."""
    how = st.segmented_control("Times", (KEEP, EVERY, CRON), default=KEEP, required=True, key=key("how"))
    spec = seen.spec
    if how == KEEP:
        st.markdown(f":gray[{state.plain(spec.words)}]")
        return None, None
    if how == EVERY:
        typed: tuple[Interval, ...] = (
            schedule_times.every(next(iter(spec.intervals), Interval(3600)), key(""), errors),
        )
        others = replace(spec, intervals=spec.intervals[1:])
    else:
        lines = schedule_times.crons(spec.crons, f"In the zone {spec.timezone or 'UTC'}.", key(""))
        others = replace(spec, crons=(), sentences=())
    kept = _others(others, len(spec.intervals) + len(spec.crons))
    if how == EVERY:
        return (typed + spec.intervals[1:], spec.crons) if kept else (typed, None)
    return (spec.intervals if kept else None), lines


def _others(others: Spec, times: int) -> bool:
    """Whether the times that are not typed anew stay. A schedule's only time is replaced unless somebody says no."""
    if not others.intervals and not others.crons:
        return False
    words = state.plain(replace(others, excluded=0, jitter_seconds=0.0).words)
    kept = st.checkbox(f"Keep its other times: {words}", value=times > 1, key=key("others"))
    if not kept:
        st.markdown(f":orange[:material/warning: Dropped on saving: {words}.]")
    return kept
