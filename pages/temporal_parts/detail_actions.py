"""What can be done with one execution: buttons for those who may, and the dialogs behind them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st

from adapters.core import AdapterError
from operations import change, workflow_control
from operations import workflow_detail as details
from operations.access import Forbidden, Permission, roles_with
from operations.workflow_detail import Detail, Point
from pages.temporal_parts import common
from pages.widgets import forms, session, state
from pages.widgets.template import View

_STATE = "_ex_done"
PLACEHOLDER = '["acme", 3]'


@dataclass(slots=True)
class _Done:
    """What the last action came to, in Markdown; one per browser session."""

    said: str = ""


def done(said: str) -> None:
    """Keep what an action came to for the next run, and run."""
    found: _Done = st.session_state.setdefault(_STATE, _Done())
    found.said = said
    st.rerun()


def result() -> None:
    """Say once what the last action came to."""
    found: _Done = st.session_state.setdefault(_STATE, _Done())
    if found.said:
        st.success(found.said, icon=":material/check_circle:")
        found.said = ""


def locked(permission: Permission, what: str) -> None:
    """Say whom to ask for what the person may not do."""
    roles = " or ".join(f"**{role.replace('_', ' ')}**" for role in roles_with(permission))
    st.markdown(f":small[:gray[:material/lock: {what} needs the permission {permission}. Ask someone who is {roles}.]]")


def draw(view: View, of: Detail) -> None:
    """The buttons that make sense for how the execution is."""
    one = of.execution
    needed = (Permission.WORKFLOWS_OPERATE, details.starts_with(one.type))
    lacking = [permission for permission in needed if not view.may(permission)]
    if lacking:
        locked(lacking[0], "Signalling, cancelling, terminating and resetting")
        return
    running = one.status == "Running"
    with st.container(horizontal=True, gap="small", key="ex_actions"):
        if running and _signals(of) is not None and st.button("Signal", key="ex_signal", icon=":material/bolt:"):
            _signal(of)
        if running and st.button("Cancel", key="ex_cancel", icon=":material/stop_circle:"):
            _end(of, terminate=False)
        if running and st.button("Terminate", key="ex_terminate", icon=":material/power_settings_new:"):
            _end(of, terminate=True)
        if one.status in workflow_control.FAILED and st.button("Run again", key="ex_again", icon=":material/replay:"):
            _again(of)
        if of.points and st.button("Reset", key="ex_reset", icon=":material/history:"):
            _reset(of)


def perform(act: Callable[[], str], said: Callable[[str], str]) -> None:
    """Do it, and say what came of it or, below what was typed, why not."""
    try:
        came = act()
    except change.Invalid as error:
        for field in error.errors:
            allowed = f" Allowed: {state.plain(field.allowed)}." if field.allowed else ""
            st.error(f"**{state.plain(field.field)}**: {state.plain(field.message)}{allowed}", icon=":material/error:")
    except (change.NotFound, change.Conflict) as error:
        st.error(state.plain(str(error)), icon=":material/error:")
    except Forbidden as error:
        st.error(state.plain(str(error)), icon=":material/lock:")
    except AdapterError as error:
        st.error(f"{state.plain(error.sentence)} {state.plain(error.advice)}", icon=":material/error:")
    else:
        done(said(came))


def confirmed(name: str, key: str) -> Callable[[], bool]:
    """A field in which ``name`` is to be typed; what is returned says, once asked, whether it was."""
    typed = st.text_input(f"Type {name} to confirm", key=key, autocomplete="off")

    def check() -> bool:
        if typed.strip() == name:
            return True
        st.error(f"What was typed is not {state.plain(name)}.", icon=":material/error:")
        return False

    return check


def _signals(of: Detail) -> dict[str, str] | None:
    """Signals the type is known to take; empty where nobody knows them, None where it takes none."""
    if not details.own(of.execution.type):
        return {}
    return workflow_control.SIGNALS.get(of.execution.type)


@st.dialog("Send a signal")
def _signal(of: Detail) -> None:
    one, known = of.execution, _signals(of) or {}
    st.markdown(f"To **{state.plain(one.id)}** ({state.plain(one.type)}).")
    if known:
        name = st.selectbox("Signal", list(known), key="ex_signal_name") or ""
        st.markdown(f":gray[{state.plain(known.get(name, ''))}]")
        given = ""
    else:
        name = st.text_input("Signal", key="ex_signal_name", max_chars=255, help="As the workflow's code names it.")
        given = st.text_area(
            "Input (JSON)", key="ex_signal_input", placeholder=PLACEHOLDER,
            help="Nothing, one value, or all arguments as a list in [ ].",
        )  # fmt: skip
    reason = forms.reason_field("ex_signal_reason")
    if st.button("Send", key="ex_signal_go", type="primary"):

        def act() -> str:
            platform, actor = session.platform(), session.actor()
            workflow_control.signal(platform, actor, one.id, one.run_id, name, given, reason)
            return ""

        perform(act, lambda _: f"The signal {state.plain(name)} was sent. It is in the record of changes.")


@st.dialog("End an execution")
def _end(of: Detail, terminate: bool) -> None:
    one = of.execution
    verb = "Terminate" if terminate else "Cancel"
    st.markdown(
        f"**{verb}** "
        + (
            "ends it at once. Its code does not run again: nothing is cleaned up or taken back."
            if terminate
            else "asks it to end. Its code learns of it and may clean up, or carry on."
        )
    )
    st.markdown(f"**{state.plain(one.id)}** ({state.plain(one.type)}), running for {state.since(one.started_at)}.")
    typed = confirmed(one.id, "ex_end_typed")
    reason = forms.reason_field("ex_end_reason")
    if st.button(verb, key="ex_end_go", type="primary") and typed():
        ask = workflow_control.terminate if terminate else workflow_control.cancel

        def act() -> str:
            ask(session.platform(), session.actor(), one.id, one.run_id, reason)
            return ""

        came = "was terminated" if terminate else "was asked to end"
        perform(act, lambda _: f"{state.plain(one.id)} {came}. It is in the record of changes.")


@st.dialog("Run again")
def _again(of: Detail) -> None:
    one = of.execution
    st.markdown(
        f"**{state.plain(one.id)}** starts from the beginning: a new run under the same id, with the same input. "
        "What the failed run did is not undone first."
    )
    st.markdown(
        ":gray[It is refused when a later run of this id runs or has completed. To keep the steps that went well and "
        "repeat the rest, reset it to a point instead.]"
    )
    reason = forms.reason_field("ex_again_reason")
    if st.button("Run again", key="ex_again_go", type="primary"):
        perform(
            lambda: workflow_control.again(session.platform(), session.actor(), one.id, one.run_id, reason),
            lambda run: f"{state.plain(one.id)} runs again: {_link(one.id, run)}.",
        )


@st.dialog("Reset to a point")
def _reset(of: Detail) -> None:
    one = of.execution
    points = {point.event: point for point in reversed(of.points)}
    best = details.good_point(of)
    listed = list(points)
    st.markdown(
        "A new run repeats what was decided up to the point, without doing it again, and goes on from there."
        + (" The present run ends." if one.status == "Running" else "")
    )
    if details.own(one.type) and one.status in workflow_control.FAILED:
        st.warning(
            "When a run of this type fails, it takes back what it did. A reset counts those steps as done all the "
            "same: run it again instead, unless you know better.",
            icon=":material/warning:",
        )
    event = st.selectbox(
        "Point", listed, index=listed.index(best.event) if best else 0, key="ex_reset_point",
        format_func=lambda event: _point(points[event], best),
    )  # fmt: skip
    typed = confirmed(one.id, "ex_reset_typed")
    reason = forms.reason_field("ex_reset_reason")
    if st.button("Reset", key="ex_reset_go", type="primary") and typed():
        perform(
            lambda: workflow_control.reset(session.platform(), session.actor(), one.id, one.run_id, event, reason),
            lambda run: f"{state.plain(one.id)} goes on from there: {_link(one.id, run)}.",
        )


def _point(point: Point, best: Point | None) -> str:
    good = " (the last before it went wrong)" if best is not None and point.event == best.event else ""
    at = f", {point.at.astimezone(state.zone()):%H:%M:%S %Z}" if point.at else ""
    return f"Before {point.before}{at}, event {point.event}{good}"


def _link(workflow_id: str, run_id: str) -> str:
    return f"[the new run]({common.executions(run=workflow_id, run_id=run_id)})"
