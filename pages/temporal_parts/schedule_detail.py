"""One schedule: its times, runs and input, and what can be done with it."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from adapters.core import utcnow
from adapters.temporal_client.schedule_spec import length
from adapters.temporal_client.schedules import Ran, Schedule
from operations import workflow_schedules as operations
from operations.access import Permission, roles_with
from operations.change import NotFound
from pages.temporal_parts import common, detail_actions, schedule_forms
from pages.widgets import cached, listing, session, state, table
from pages.widgets.template import View

EVERY = 5.0
OVERLAP_WORDS = {
    "Skip": "skip the new run",
    "BufferOne": "let one run wait its turn",
    "BufferAll": "let all runs wait their turn",
    "CancelOther": "cancel the one that runs",
    "TerminateOther": "terminate the one that runs",
    "AllowAll": "run side by side",
}


def draw(view: View, schedule_id: str) -> None:
    """The schedule with this id: what it is redraws itself, the forms below do not."""
    if st.button("All schedules", key="schedule_back", icon=":material/arrow_back:", type="tertiary"):
        common.keep(schedule="")
        st.rerun()
    st.markdown(f"#### {state.plain(schedule_id)}")
    schedule_forms.result()
    detail_actions.result()
    _facts(view, schedule_id)
    if not view.may(Permission.WORKFLOWS_OPERATE):
        roles = ", ".join(role.replace("_", " ") for role in roles_with(Permission.WORKFLOWS_OPERATE))
        st.markdown(f":gray[:material/lock: Changing a schedule needs the role {roles}.]")
        return
    schedule_forms.draw(view, schedule_id)


def reading(schedule_id: str) -> Schedule | None:
    """The schedule as last read for somebody with this person's permissions; draws what is wrong with it."""
    platform, actor = session.platform(), session.actor()

    def fetch() -> Schedule | str:
        try:
            return operations.one(platform, actor, schedule_id)
        except NotFound as error:
            return str(error)

    key = f"temporal:schedule:{actor.may(Permission.PAYLOADS_READ)}:{schedule_id}"
    found = cached.read(key, fetch, "the schedule", every=EVERY, wait=1.0)
    if isinstance(found, str):
        table.empty("Not found", found)
        return None
    return found


@cached.live(EVERY)
def _facts(view: View, schedule_id: str) -> None:
    one = reading(schedule_id)
    if one is None:
        return
    if one.error:
        st.error(f"It cannot run: {state.plain(one.error)}", icon=":material/error:")
    if one.paused:
        st.warning(f"Paused. {state.plain(one.note)}", icon=":material/pause_circle:")
    st.markdown(f"Runs **{state.plain(one.spec.words)}**.")
    listing.facts(
        [
            ("Workflow", one.type, f"ids begin with {one.workflow_id}"),
            ("Task queue", one.task_queue, "where its runs wait for a worker"),
            ("If one still runs", OVERLAP_WORDS.get(one.overlap, one.overlap), f"overlap policy {one.overlap}"),
            ("Missed runs", f"made up within {length(one.catchup_seconds)}", "catch-up window after an outage"),
            ("Runs started", f"{one.started:,}", f"{one.missed:,} missed, {one.skipped:,} skipped"),
            *([] if one.left is None else [("Left", f"{one.left:,}", "runs it may still start")]),
            ("Changed", f"{state.since(one.updated_at or one.created_at)} ago",
             state.moment(one.updated_at or one.created_at)),
        ]
    )  # fmt: skip
    if one.note and not one.paused:
        st.markdown(f":gray[:material/sticky_note_2: {state.plain(one.note)}]")
    _runs(one)
    with st.expander("Input", icon=":material/data_object:"):
        if one.input.masked:
            st.markdown(":gray[:material/lock: Values are hidden: reading them needs the permission to see payloads.]")
        st.code(one.input.text or "no arguments", language="json", wrap_lines=True)


def _runs(one: Schedule) -> None:
    with st.grid(2, min_column_width=440):
        with st.container():
            _last(one)
        with st.container():
            _next(one)


def _last(one: Schedule) -> None:
    st.markdown("##### Last runs")
    if one.recent:
        table.draw(("Started", "Due", "Outcome", "Took", "Run"), map(_run, one.recent), quiet=(0, 1), right=(3,))
    else:
        st.caption("None yet.")


def _next(one: Schedule) -> None:
    st.markdown("##### Next runs")
    if one.paused:
        st.caption("None while it is paused.")
    elif one.next:
        table.draw(("At", "In"), ((state.moment(at), state.span(_until(at))) for at in one.next[:5]), quiet=(0, 1))
    else:
        st.caption("None: its times are over, or it has none.")


def _run(run: Ran) -> tuple[str, ...]:
    took = "–"
    if run.started_at and run.closed_at:
        took = common.length((run.closed_at - run.started_at).total_seconds())
    where = common.executions(run=run.workflow_id, run_id=run.run_id)
    return (
        table.when(run.started_at),
        state.moment(run.scheduled_at),
        common.badge(run.status),
        took,
        common.anchor(where, run.workflow_id),
    )


def running(one: Schedule) -> set[tuple[str, str]]:
    """Workflow id and run id of what runs now. The server counts only those its overlap policy has to wait for."""
    return set(one.running) | {(run.workflow_id, run.run_id) for run in one.recent if run.status == "Running"}


def ahead(at: datetime) -> str:
    """A cell with the time left to a moment and the moment in its tooltip."""
    return f"<span title='{state.moment(at)}'>in {state.span(_until(at))}</span>"


def _until(at: datetime) -> float:
    return (at - utcnow()).total_seconds()
