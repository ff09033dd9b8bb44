"""Changing a schedule: pause, resume, run now, edit, run a past time, remove."""

from __future__ import annotations

import streamlit as st

from adapters.core import AdapterError
from adapters.temporal_client.schedules import Schedule
from operations import change, workflow_schedule_runs, workflow_schedules
from operations.workflow_catalogue import OWN_SCHEDULES
from operations.workflow_schedules import NOTE_LETTERS
from pages.temporal_parts import common, schedule_backfill, schedule_edit, schedule_state
from pages.temporal_parts.schedule_state import key, run
from pages.widgets import forms, state
from pages.widgets.template import View


def result() -> None:
    """Say once what the last change came to."""
    forms.result(schedule_state.NOTE)
    made = schedule_state.opened()
    for words in made.said:
        st.success(words, icon=":material/check_circle:")
    made.said.clear()


def draw(view: View, schedule_id: str) -> None:
    """The choice of what to do, and its form."""
    made = schedule_state.opened()
    choices = ["Pause or resume", "Run now", "Edit", "Run a past time"]
    if schedule_id not in OWN_SCHEDULES:
        choices.append("Delete")
    what = st.segmented_control("Change it", choices, key=f"schedule_what_{schedule_id}_{made.generation}")
    if schedule_id in OWN_SCHEDULES:
        st.markdown(
            ":small[:gray[It is the platform's own: every worker makes sure of it as it starts, so it is paused rather "
            "than deleted.]]"
        )
    if not what:
        made.what = ""
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
        "Pause or resume": _pause,
        "Run now": _trigger,
        "Edit": schedule_edit.draw,
        "Run a past time": schedule_backfill.draw,
        "Delete": _delete,
    }
    with st.container(border=True):
        part[what](view, made.seen)


def _pause(view: View, seen: Schedule) -> None:
    verb = "Resume" if seen.paused else "Pause"
    st.markdown(
        "It starts runs again at its next time. Runs it missed meanwhile are not made up."
        if seen.paused
        else "It starts nothing until somebody resumes it. What runs already goes on."
    )
    note = st.text_input(
        "Note", key=key("note"), max_chars=NOTE_LETTERS,
        placeholder="Why? It stays on the schedule, and in the record of changes.",
    )  # fmt: skip
    if st.button(verb, key=key("pause"), type="primary",
                 icon=":material/play_circle:" if seen.paused else ":material/pause_circle:"):  # fmt: skip
        act = workflow_schedules.resume if seen.paused else workflow_schedules.pause
        version = schedule_state.opened().version
        if run(lambda: act(view.platform, view.actor, seen.id, seen=version, note=note), f"{verb}d."):
            st.rerun()


def _trigger(view: View, seen: Schedule) -> None:
    st.markdown(f"Starts **{state.plain(seen.type)}** now, as the schedule would." + (
        " It is paused: this run starts all the same." if seen.paused else ""
    ))  # fmt: skip
    overlap = schedule_state.overlap("If one still runs", "", "trigger_overlap")
    typed = schedule_state.confirmed(seen, overlap or seen.overlap, "trigger_typed")
    reason = forms.reason_field(key("trigger_reason"))
    pressed = st.button("Run now", key=key("trigger"), type="primary", icon=":material/play_arrow:")
    if not pressed or not typed():
        return
    told: list[workflow_schedule_runs.Triggered] = []

    def act() -> change.Outcome:
        told.append(workflow_schedule_runs.trigger(view.platform, view.actor, seen.id, reason=reason, overlap=overlap))
        return told[0].outcome

    if run(act, "Asked for."):
        st.session_state.pop(schedule_state.NOTE, None)
        schedule_state.opened().said.append(_triggered(told[0]))
        st.rerun()


def _triggered(done: workflow_schedule_runs.Triggered) -> str:
    if done.workflow_id:
        where = common.executions(run=done.workflow_id, run_id=done.run_id)
        return f"Started [{state.plain(done.workflow_id)}]({where})."
    if done.skipped:
        return "Nothing was started: one still runs, and the schedule skips a run then."
    if not done.seen:
        return "Asked for, not yet seen: Temporal did not tell in time what came of it. Look at its last runs."
    return "Asked for. The run starts as soon as its turn comes."


def _delete(view: View, seen: Schedule) -> None:
    st.markdown("Removes the schedule for good. Runs it started go on.")
    typed = st.text_input(f"Type {seen.id} to confirm", key=key("typed"), autocomplete="off")
    reason = forms.reason_field(key("delete_reason"))
    if st.button("Delete", key=key("delete"), type="primary", icon=":material/delete:"):
        version = schedule_state.opened().version
        if run(
            lambda: workflow_schedules.delete(
                view.platform, view.actor, seen.id, typed=typed, seen=version, reason=reason
            ),
            f"{state.plain(seen.id)} has been removed.",
        ):
            common.keep(schedule="")
            st.rerun()
