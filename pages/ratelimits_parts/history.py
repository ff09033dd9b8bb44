"""History: every change with before, after, who and why; taking one back is a new change."""

from __future__ import annotations

import streamlit as st

from operations import change, ratelimit_history, ratelimits
from operations.ratelimit_history import Change
from pages.ratelimits_parts import common
from pages.ratelimits_parts.common import View
from pages.widgets import faces, forms, state, table

PER_PAGE = 20
NOTE = "rl_note_history"


def draw(view: View) -> None:
    """A page of changes, newest first."""
    forms.result(NOTE)
    keys = [policy.target.key for policy in ratelimits.policies(view.platform, view.actor)]
    key = st.selectbox(
        "Key", keys, index=None, key="hi_key", bind="query-params", placeholder="Every key", width=260,
        label_visibility="collapsed",
    )  # fmt: skip
    pages: list[int] = st.session_state.setdefault(f"_rl_history_{key}", [])
    found = ratelimit_history.history(
        view.platform, view.actor, key=key or "", limit=PER_PAGE + 1, before=pages[-1] if pages else None
    )
    if not found:
        table.empty("No changes yet", "Every change made here or over the API is recorded with its reason.")
        return
    for one in found[:PER_PAGE]:
        _entry(view, one)
    with st.container(horizontal=True):
        if st.button("Newer", key="hi_newer", icon=":material/chevron_left:", disabled=not pages):
            pages.pop()
            st.rerun()
        if st.button("Older", key="hi_older", icon=":material/chevron_right:", disabled=len(found) <= PER_PAGE):
            pages.append(found[PER_PAGE - 1].id)
            st.rerun()


def _entry(view: View, one: Change) -> None:
    what, target = _what(one)
    with st.container(horizontal=True, vertical_alignment="center", key=f"hi_{one.id}"):
        st.html(
            f"<div class='ph-change'><b>{state.text(target)}</b> <span class='ph-src'>{state.text(what)}</span><br>"
            f"{_difference(one)}<br><small>{table.when(one.at)} · {state.text(one.actor)} · "
            f"{'“' + state.text(one.reason) + '”' if one.reason else 'no reason given'}</small></div>"
        )
        if (
            view.edits
            and one.action != "ratelimit.reset"
            and st.button(
                "Revert", key=f"hi_revert_{one.id}", icon=":material/undo:", width="content",
                help="Brings back what was before it, as a new change",
            )
        ):  # fmt: skip
            _revert(view, one)


def _what(one: Change) -> tuple[str, str]:
    verb = one.action.removeprefix("ratelimit.")
    parts = one.subject.split("/", 3)
    whom = "everyone" if len(parts) < 4 else f"{parts[2]} {parts[3]}"
    if one.before is None and one.after is not None and verb == "update":
        verb = "create"
    elif one.after is None and verb == "update":
        verb = "delete"
    return verb, f"{parts[1] if len(parts) > 1 else one.subject} for {whom}"


def _difference(one: Change) -> str:
    if one.after is None and one.before is not None:
        return f"<del>{common.amount(one.before.get('limit'))}</del> → <b>deleted</b>"
    if one.before is None and one.after is not None:
        return f"new, limit <b>{common.amount(one.after.get('limit'))}</b>"
    old, new = one.before or {}, one.after or {}
    names = [name for name in new if name in common.FIELD_NAMES and old.get(name) != new.get(name)]
    if not names:
        return faces.difference(old, new)
    return ", ".join(
        f"{common.FIELD_NAMES[name]} <del>{state.text(common.shown(name, old.get(name)))}</del> → "
        f"<b>{state.text(common.shown(name, new.get(name)))}</b>"
        for name in names
    )


def _revert(view: View, one: Change) -> None:
    def operation() -> change.Outcome:
        return ratelimit_history.revert(view.platform, view.actor, one.id).outcome

    if forms.run(operation, done=f"Change {one.id} taken back.", note=NOTE) is not None:
        st.rerun()
