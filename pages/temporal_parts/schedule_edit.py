"""Editing a schedule: its times, overlap policy, note and input."""

from __future__ import annotations

import json

import streamlit as st

from adapters.temporal_client.schedule_spec import Interval, length
from adapters.temporal_client.schedules import OVERLAPS, Schedule
from operations import change, workflow_schedule_edit
from operations.change import FieldError, Invalid
from operations.workflow_schedule_edit import LENGTHS, Edit, seconds_of
from operations.workflow_schedules import NOTE_LETTERS
from pages.temporal_parts import schedule_state
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
    reason = forms.reason_field(key("edit_reason"))
    if not st.button("Save", key=key("save"), type="primary", icon=":material/save:"):
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
    how = st.segmented_control("Times", (KEEP, EVERY, CRON), default=KEEP, required=True, key=key("how"))
    if how == EVERY:
        first = seen.spec.intervals[0] if seen.spec.intervals else Interval(3600)
        every_at, offset_at = st.columns(2)
        with every_at:
            every = st.text_input("Every", _short(first.seconds), key=key("every"), placeholder="6h", help=LENGTHS)
        with offset_at:
            offset = st.text_input(
                "Shifted by", _short(first.offset_seconds) if first.offset_seconds else "", key=key("offset"),
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
            "Cron", "\n".join(seen.spec.crons), key=key("cron"), placeholder="0 3 * * 1-5", height=90,
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
