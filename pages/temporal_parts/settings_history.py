"""What was changed about workflow settings; taking one back is a new change."""

from __future__ import annotations

import streamlit as st

from operations import change, workflow_settings_history
from operations.workflow_rules import FIELDS
from operations.workflow_settings_history import Change
from pages.temporal_parts import settings_review
from pages.widgets import forms, state, table
from pages.widgets.template import View

PER_PAGE = 10
NOTE = "ws_note_history"


def draw(view: View, may: bool) -> None:
    """A page of changes, newest first."""
    forms.result(NOTE)
    pages: list[int] = st.session_state.setdefault("_ws_history", [])
    found = workflow_settings_history.history(
        view.platform, view.actor, limit=PER_PAGE + 1, before=pages[-1] if pages else None
    )
    if not found and not pages:
        table.empty("No changes yet", "Every change made here or over the API is recorded with its reason.")
        return
    for one in found[:PER_PAGE]:
        _entry(view, one, may)
    if pages or len(found) > PER_PAGE:
        with st.container(horizontal=True):
            if st.button("Newer", key="ws_newer", icon=":material/chevron_left:", disabled=not pages):
                pages.pop()
                st.rerun()
            if st.button("Older", key="ws_older", icon=":material/chevron_right:", disabled=len(found) <= PER_PAGE):
                pages.append(found[PER_PAGE - 1].id)
                st.rerun()


def _entry(view: View, one: Change, may: bool) -> None:
    with st.container(horizontal=True, vertical_alignment="center", key=f"ws_entry_{one.id}"):
        why = "“" + state.text(one.reason) + "”" if one.reason else "no reason given"
        st.html(
            f"<div class='ph-ws-change'><b>{state.text(settings_review.whose(one.type))}</b> {_difference(one)}<br>"
            f"<small>{table.when(one.at)} · {state.text(one.actor)} · {why}</small></div>"
        )
        if may and st.button(
            "Revert", key=f"ws_revert_{one.id}", icon=":material/undo:", width="content",
            help="Brings back what was before it, as a new change",
        ):  # fmt: skip
            _revert(view, one)


def _difference(one: Change) -> str:
    old, new = one.before or {}, one.after or {}
    parts = [
        f"{settings_review.NAMES[name]} <del>{state.text(settings_review.shown(name, old.get(name)))}</del> → "
        f"<b>{state.text(settings_review.shown(name, new.get(name)))}</b>"
        for name in FIELDS
        if old.get(name) != new.get(name)
    ]
    if one.after is None:
        parts.append("nothing of its own any more")
    return ", ".join(parts) or "unchanged"


def _revert(view: View, one: Change) -> None:
    def operation() -> change.Outcome:
        return workflow_settings_history.revert(view.platform, view.actor, one.id).outcome

    if forms.run(operation, done=f"Change {one.id} taken back.", note=NOTE) is not None:
        settings_review.draft().reset()
        st.rerun()
