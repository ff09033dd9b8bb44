"""What the forms of a schedule share: the one that is open, and how a change is performed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import streamlit as st

from adapters.core import AdapterError
from adapters.temporal_client.schedules import Schedule
from operations import change
from operations.workflow_schedule_runs import Preview
from pages.temporal_parts import detail_actions
from pages.widgets import forms, state

_STATE = "_schedule_forms"
NOTE = "_schedule_said"


@dataclass(slots=True)
class Open:
    """The form that is open: the schedule as it was when it was opened, so that nothing moves under the typing."""

    schedule_id: str = ""
    what: str = ""
    seen: Schedule | None = None
    version: int = 0
    preview: Preview | None = None
    span: tuple[datetime, datetime] | None = None
    generation: int = 0
    said: list[str] = field(default_factory=list)


def opened() -> Open:
    """The form of this browser session."""
    found: Open = st.session_state.setdefault(_STATE, Open())
    return found


def run(operation: Callable[[], Any], done: str) -> bool:
    """Perform a change; whether it succeeded and the form is closed.

    After a conflict the next attempt is against what is stored now.
    """
    made = opened()

    def guarded() -> change.Outcome:
        try:
            outcome = operation()
        except change.Conflict as error:
            made.version = int(error.current["version"])
            raise
        return outcome if isinstance(outcome, change.Outcome) else change.Outcome()

    try:
        saved = forms.run(guarded, done=done, note=NOTE)
    except AdapterError as error:
        st.error(f"{state.plain(error.sentence)} {state.plain(error.advice)}", icon=":material/error:")
        return False
    if saved is None:
        return False
    made.generation += 1
    made.what = ""
    return True


def confirmed(seen: Schedule, policy: str, name: str) -> Callable[[], bool]:
    """Have the schedule's id typed where the overlap policy ends what runs; what is returned says whether it was."""
    verb = {"CancelOther": "cancels", "TerminateOther": "terminates"}.get(policy)
    if verb is None:
        return lambda: True
    st.markdown(f":orange[:material/warning: It {verb} a run of this schedule that still runs.]")
    return detail_actions.confirmed(seen.id, key(name))


def key(name: str) -> str:
    """A widget's key, new after each change."""
    made = opened()
    return f"schedule_{name}_{made.schedule_id}_{made.generation}"


def overlap(label: str, default: str, name: str, prefix: str = "") -> str:
    """Choose an overlap policy; empty is the schedule's own, where ``default`` is."""
    words = {"": "As the schedule has it", "Skip": "Skip the new run", "BufferOne": "Let one run wait",
             "BufferAll": "Let all wait their turn", "CancelOther": "Cancel the one that runs",
             "TerminateOther": "Terminate the one that runs", "AllowAll": "Run side by side"}  # fmt: skip
    choices = [one for one in words if one or not default]
    chosen = st.selectbox(
        label, choices, index=choices.index(default), key=f"{prefix}_{name}" if prefix else key(name),
        format_func=lambda one: words.get(one, one),
    )  # fmt: skip
    return chosen or default
