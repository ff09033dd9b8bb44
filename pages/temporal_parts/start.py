"""Starting an execution: a form made from what its type takes."""

from __future__ import annotations

from typing import Any

import streamlit as st

from operations import workflow_start
from operations.access import roles_with
from operations.workflow_catalogue import CATALOGUE
from operations.workflow_detail import starts_with
from operations.workflow_start import Field
from pages.temporal_parts import common
from pages.temporal_parts.detail_actions import PLACEHOLDER, perform
from pages.widgets import forms, session, state
from pages.widgets.template import View


def ask(view: View, kind: str) -> None:
    """Open the form, for the type that is looked at where there is one."""
    for key in [key for key in st.session_state if str(key).startswith("ex_start_")]:
        del st.session_state[key]
    _dialog(view, kind)


@st.dialog("Start an execution", width="large")
def _dialog(view: View, given: str) -> None:
    options = list(CATALOGUE)
    if given and given not in options:
        options.append(given)
    kind = st.selectbox(
        "Type", options, index=options.index(given) if given else None, key="ex_start_type", accept_new_options=True,
        placeholder="Choose, or type the name of any other", help="The workflow's name as its code registers it.",
    )  # fmt: skip
    if not kind:
        return
    own = CATALOGUE.get(kind)
    needed = starts_with(kind)
    if not view.may(needed):
        roles = " or ".join(role.replace("_", " ") for role in roles_with(needed))
        st.markdown(f":gray[:material/lock: Starting it needs the permission {needed}. Ask someone who is {roles}.]")
        return
    queue, ident = "", ""
    values: dict[str, Any] | str
    if own is not None:
        st.markdown(f"**{own.title}.** {own.purpose}")
        # A field for the reason is the reason below, which is kept in the record too.
        values = {field.name: _widget(kind, field) for field in workflow_start.fields(kind) if field.name != "reason"}
    else:
        queue = st.text_input(
            "Task queue", key="ex_start_queue", max_chars=255, help="Where its worker takes work from."
        )
        values = st.text_area(
            "Input (JSON)", key="ex_start_input", placeholder=PLACEHOLDER, height=140,
            help="Nothing, one value, or all arguments as a list in [ ].",
        )  # fmt: skip
        st.markdown(":small[:gray[It is ended by Temporal after the timeout that the settings give its type.]]")
    if own is None or not _per_tenant(kind):
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


def _per_tenant(kind: str) -> bool:
    return any(field.name == "tenant" and field.required for field in workflow_start.fields(kind))


def _widget(kind: str, field: Field) -> Any:
    """The control that suits a field; what it gives is checked again by the operation."""
    key = f"ex_start_{kind}_{field.name}"
    label = state.words(field.name) + (" *" if field.required else "")
    tip = field.help or None
    match field.kind:
        case "whole number":
            return st.number_input(
                label, value=None if field.required else int(field.default), step=1, key=key, help=tip
            )
        case "number":
            default = None if field.required else float(field.default)
            return st.number_input(label, value=default, key=key, help=tip)
        case "yes or no":
            return st.checkbox(label, value=bool(field.default), key=key, help=tip)
        case "texts":
            text = st.text_area(
                label, value="\n".join(field.default or ()), key=key, height=80, placeholder="One on each line",
                help=tip or "One on each line.",
            )  # fmt: skip
            return text.splitlines()
    return st.text_input(label, value=str(field.default or ""), key=key, help=tip, max_chars=1000)
