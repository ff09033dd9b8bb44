"""Making a schedule: what it starts, when, and what that comes to before it is made."""

from __future__ import annotations

import streamlit as st

from operations import workflow_schedule_new as schedule_new
from operations.access import Forbidden, Permission
from operations.change import FieldError, Invalid
from operations.workflow_schedule_new import New, Plan
from operations.workflow_schedules import NOTE_LETTERS
from pages.temporal_parts import common, inputs, schedule_state, schedule_times
from pages.temporal_parts.detail_actions import perform
from pages.widgets import forms, session, state
from pages.widgets.template import View

PREFIX = "schedule_new"
EVERY, CRON = "Every", "Cron"


def button(view: View) -> None:
    """The way to the form, for those who may."""
    if not view.may(Permission.WORKFLOWS_OPERATE):
        return
    if st.button("New schedule", key=f"{PREFIX}_open", icon=":material/add:"):
        _dialog(view)


@st.dialog("New schedule", width="large")
def _dialog(view: View) -> None:
    kind = inputs.chosen(view, PREFIX, schedule_new.schedulable())
    if not kind:
        return
    given, queue = inputs.asked(PREFIX, kind)
    ident = st.text_input("Id", key=f"{PREFIX}_id", max_chars=255, help="The ids of its runs begin with it.")
    errors: list[FieldError] = []
    how = st.segmented_control("Times", (EVERY, CRON), default=EVERY, required=True, key=f"{PREFIX}_how")
    if how == EVERY:
        new = New(ident, kind, given, queue, (schedule_times.every(None, f"{PREFIX}_", errors),))
    else:
        zone = st.selectbox("Time zone", schedule_new.zones(), key=f"{PREFIX}_zone", help="Of the cron's times.")
        lines = schedule_times.crons((), "0 is Sunday.", f"{PREFIX}_")
        new = New(ident, kind, given, queue, crons=lines, timezone=zone or "UTC")
    overlap = schedule_state.overlap("If one still runs", "Skip", "overlap", prefix=PREFIX)
    paused = st.checkbox("Begin paused", key=f"{PREFIX}_paused")
    note = st.text_input(
        "Note", key=f"{PREFIX}_note", max_chars=NOTE_LETTERS,
        placeholder="Why is it paused?" if paused else "What is it for? It stays on the schedule.",
    )  # fmt: skip
    wanted = New(
        new.id, new.type, new.given, new.task_queue, new.intervals, new.crons, new.timezone, overlap, paused, note
    )
    reason = forms.reason_field(f"{PREFIX}_reason")
    wrong = _preview(wanted, errors)
    if not st.button("Create schedule", key=f"{PREFIX}_go", type="primary", icon=":material/add:"):
        return

    def act() -> str:
        if wrong:
            raise Invalid(wrong)
        schedule_new.create(session.platform(), session.actor(), wanted, reason=reason)
        common.keep(schedule=wanted.id.strip())
        return wanted.id.strip()

    perform(act, lambda made: f"{state.plain(made)} was made. It is in the record of changes.")


def _preview(wanted: New, errors: list[FieldError]) -> list[FieldError]:
    """Say what will happen; what is wrong, said once it is tried."""
    try:
        made = schedule_new.plan(session.actor(), wanted)
    except Forbidden:
        return errors  # said where the type is chosen
    except Invalid as error:
        fields = {one.field for one in errors}
        found = [*errors, *(one for one in error.errors if one.field not in fields)]
        named = ", ".join(dict.fromkeys(one.field.replace("_", " ") for one in found))
        st.markdown(f":gray[What will happen is told here once these are right: {state.plain(named)}.]")
        return found
    st.markdown(_words(made, wanted))
    return errors


def _words(made: Plan, wanted: New) -> str:
    listed = ", ".join(state.moment(at) for at in made.next)
    lead = "Nothing is started until somebody resumes it; were it not paused, next at" if wanted.paused else "Next at"
    return (
        f"Starts **{state.plain(made.type)}** on the task queue {state.plain(made.task_queue)}, "
        f"**{state.plain(made.words)}**.  \n{lead} {listed}."
    )
