"""What was changed about workflow settings; taking one back is a new change."""

from __future__ import annotations

from typing import Any

import streamlit as st

from operations import change, workflow_settings_history
from operations.workflow_rules import FIELDS
from operations.workflow_settings_history import Change, Reverting
from pages.temporal_parts import settings_review
from pages.widgets import forms, state, table
from pages.widgets.template import View

PER_PAGE = 10
NOTE = "ws_note_history"
_OPEN = "_ws_reverting"


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
            help="Shows what it would change; brings back what was before it, as a new change",
        ):  # fmt: skip
            _open(view, one.id)
    opened: Reverting | None = st.session_state.get(_OPEN)
    if may and opened is not None and opened.change == one.id:
        _review(view, opened)


def _difference(one: Change) -> str:
    parts = _parts(one.before, one.after)
    if one.after is None:
        parts.append("nothing of its own any more")
    return ", ".join(parts) or "unchanged"


def _parts(old: dict[str, Any] | None, new: dict[str, Any] | None) -> list[str]:
    old, new = old or {}, new or {}
    return [
        f"{settings_review.NAMES[name]} <del>{state.text(settings_review.shown(name, old.get(name)))}</del> → "
        f"<b>{state.text(settings_review.shown(name, new.get(name)))}</b>"
        for name in FIELDS
        if old.get(name) != new.get(name)
    ]


def _open(view: View, entry: int) -> None:
    """Look at what taking the change back would do; refused where there is nothing to take back."""
    st.session_state.pop(_OPEN, None)

    def look() -> change.Outcome:
        st.session_state[_OPEN] = workflow_settings_history.reverting(view.platform, view.actor, entry)
        return change.Outcome()

    forms.run(look, done="", note=f"{NOTE}_looked")


def _review(view: View, opened: Reverting) -> None:
    """What it would change from what is stored now, and the button that does it, against what was looked at."""
    with st.container(border=True, key="ws_reverting"):
        parts = _parts(opened.now, opened.then)
        if opened.then is None:
            parts.append("nothing of its own any more")
        st.html(
            f"<div class='ph-ws-change'>Taking back change {opened.change} sets for "
            f"<b>{state.text(settings_review.whose(opened.type))}</b>: {', '.join(parts)}.<br><small>From what is "
            "stored now, also where it was changed again since.</small></div>"
        )
        with st.container(horizontal=True):
            if st.button("Take it back", key="ws_revert_go", type="primary", icon=":material/undo:"):
                _revert(view, opened)
            if st.button("Leave it", key="ws_revert_not"):
                st.session_state.pop(_OPEN, None)
                st.rerun()


def _revert(view: View, opened: Reverting) -> None:
    conflict = False

    def operation() -> change.Outcome:
        nonlocal conflict
        try:
            return workflow_settings_history.revert(
                view.platform, view.actor, opened.change, seen=opened.version
            ).outcome
        except change.Conflict:
            conflict = True
            raise

    if forms.run(operation, done=f"Change {opened.change} taken back.", note=NOTE) is not None:
        st.session_state.pop(_OPEN, None)
        settings_review.draft().reset()
        st.rerun()
    if conflict:
        # The next attempt is against what is stored now, which the person has been shown.
        _open(view, opened.change)
