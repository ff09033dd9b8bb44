"""What a workflow is given: fields made from what its type takes, JSON for any other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from operations import workflow_start
from operations.access import roles_with
from operations.workflow_catalogue import CATALOGUE
from operations.workflow_detail import starts_with
from operations.workflow_start import Field
from pages.temporal_parts.detail_actions import PLACEHOLDER
from pages.widgets import state
from pages.widgets.template import View


def chosen(view: View, prefix: str, options: Sequence[str], given: str = "") -> str:
    """The type chosen; empty while there is none, or none that the person may start (said on the page)."""
    listed = [*options, given] if given and given not in options else list(options)
    kind = st.selectbox(
        "Type", listed, index=listed.index(given) if given else None, key=f"{prefix}_type", accept_new_options=True,
        placeholder="Choose, or type the name of any other", help="The workflow's name as its code registers it.",
    )  # fmt: skip
    if not kind:
        return ""
    needed = starts_with(kind)
    if not view.may(needed):
        roles = " or ".join(role.replace("_", " ") for role in roles_with(needed))
        st.markdown(f":gray[:material/lock: Starting it needs the permission {needed}. Ask someone who is {roles}.]")
        return ""
    return str(kind)


def asked(prefix: str, kind: str) -> tuple[dict[str, Any] | str, str]:
    """What a run of the type is given, and the task queue where that has to be named."""
    own = CATALOGUE.get(kind)
    if own is not None:
        st.markdown(f"**{own.title}.** {own.purpose}")
        # A field for the reason is the form's own, which is kept in the record too.
        fields = [field for field in workflow_start.fields(kind) if field.name != "reason"]
        return {field.name: _widget(f"{prefix}_{kind}_{field.name}", field) for field in fields}, ""
    queue = st.text_input("Task queue", key=f"{prefix}_queue", max_chars=255, help="Where its worker takes work from.")
    given = st.text_area(
        "Input (JSON)", key=f"{prefix}_input", placeholder=PLACEHOLDER, height=140,
        help="Nothing, one value, or all arguments as a list in [ ].",
    )  # fmt: skip
    st.markdown(":small[:gray[It is ended by Temporal after the timeout that the settings give its type.]]")
    return given, queue


def _widget(key: str, field: Field) -> Any:
    """The control that suits a field; what it gives is checked again by the operation."""
    label = state.words(field.name) + (" *" if field.required else "")
    tip = field.help or None
    if field.choices:
        at = field.choices.index(field.default) if field.default in field.choices else None
        return st.selectbox(label, field.choices, index=at, key=key, help=tip)
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
