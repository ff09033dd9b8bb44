"""Starting an execution: a form made from what its type takes."""

from __future__ import annotations

import streamlit as st

from operations import workflow_start
from operations.workflow_catalogue import CATALOGUE
from pages.temporal_parts import common, inputs
from pages.temporal_parts.detail_actions import perform
from pages.widgets import forms, session, state
from pages.widgets.template import View


def ask(view: View, kind: str) -> None:
    """Open the form, for the type that is looked at where there is one."""
    for key in [key for key in st.session_state if str(key).startswith("ex_start_")]:
        del st.session_state[key]
    _dialog(view, kind)


@st.dialog("Start an execution", width="large")
def _dialog(view: View, given: str) -> None:
    kind = inputs.chosen(view, "ex_start", list(CATALOGUE), given)
    if not kind:
        return
    values, queue = inputs.asked("ex_start", kind)
    ident, own = "", kind in CATALOGUE
    if not own or not workflow_start.per_tenant(kind):
        ident = st.text_input(
            "Id (optional)", key="ex_start_id", max_chars=255,
            help="Two executions with one id cannot run at once."
            + (f" Without one: {kind}/by-hand." if own else " Without one it gets a new one."),
        )  # fmt: skip
    reason = forms.reason_field("ex_start_reason")
    if st.button("Start", key="ex_start_go", type="primary", icon=":material/play_arrow:"):

        def act() -> str:
            begun = workflow_start.start(
                session.platform(), session.actor(), kind, given=values, workflow_id=ident, task_queue=queue,
                reason=reason,
            )  # fmt: skip
            return f"[{state.plain(begun.id)}]({common.executions(run=begun.id, run_id=begun.run_id)})"

        perform(act, lambda link: f"{link} was started. It is in the record of changes.")
