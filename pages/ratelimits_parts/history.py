"""History: every change with before, after, who and why; taking one back is a new change."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from operations import change, ratelimit_history, ratelimits
from operations.ratelimit_history import Change, Plan, Whole
from pages.ratelimits_parts import common, review
from pages.ratelimits_parts.common import View
from pages.widgets import faces, forms, state, table

PER_PAGE = 20
NOTE = "rl_note_history"
_ASKED = "_rl_reverting"


@dataclass(slots=True)
class _Asked:
    """A revert that is not done on one click, as it was shown; one per browser session."""

    plan: Plan
    title: str


def draw(view: View) -> None:
    """A page of changes, newest first."""
    forms.result(NOTE)
    _confirm(view)
    keys = [policy.target.key for policy in ratelimits.policies(view.platform, view.actor)]
    key = st.selectbox(
        "Key", keys, index=None, key="hi_key", bind="query-params", placeholder="Every key", width=260,
        label_visibility="collapsed",
    )  # fmt: skip
    pages: list[int] = st.session_state.setdefault(f"_rl_history_{key}", [])
    found = ratelimit_history.changes(
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
            pages.append(min(entry.id for entry in found[PER_PAGE - 1].entries))
            st.rerun()


def _entry(view: View, whole: Whole) -> None:
    one = whole.entries[0]
    lines = []
    for entry in whole.entries:
        what, target = _what(entry)
        lines.append(
            f"<b>{state.text(target)}</b> <span class='ph-src'>{state.text(what)}</span><br>{_difference(entry)}"
        )
    if whole.size > len(whole.entries):
        lines.append(f"<b>and {whole.size - len(whole.entries):,} more</b> in the same change")
    with st.container(horizontal=True, vertical_alignment="center", key=f"hi_{whole.newest}"):
        st.html(
            f"<div class='ph-change'>{'<br>'.join(lines)}<br><small>{table.when(one.at)} · {state.text(one.actor)} · "
            f"{'“' + state.text(one.reason) + '”' if one.reason else 'no reason given'}</small></div>"
        )
        words = "Brings back what was before it, as a new change"
        if whole.size > 1:
            words = f"Brings back what was before all {whole.size:,} of it, as one new change"
        if (
            view.edits
            and whole.revertible
            and st.button(
                "Revert", key=f"hi_revert_{whole.newest}", icon=":material/undo:", width="content", help=words
            )
        ):  # fmt: skip
            _revert(view, whole)


def _what(one: Change) -> tuple[str, str]:
    verb = one.action.removeprefix("ratelimit.")
    parts = one.subject.split("/", 3)
    if len(parts) == 2:
        return ("repair", "Redis") if one.action == "ratelimit.reconcile" else (verb, parts[1])
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


def _revert(view: View, whole: Whole) -> None:
    """At once, where nothing newer would be overwritten and no override deleted; else shown first."""
    try:
        plan = ratelimit_history.plan(view.platform, view.actor, whole.newest)
    except change.Invalid as error:
        st.info(f"Nothing to do: this change {state.plain(error.errors[0].message)}.", icon=":material/check:")
        return
    title = ", ".join(dict.fromkeys(_what(entry)[1] for entry in whole.entries[:2]))
    if whole.size > 2:
        title += f" and {whole.size - 2:,} more"
    if plan.conflicts or plan.lost:
        st.session_state[_ASKED] = _Asked(plan, title)
        st.rerun()
    _perform(view, plan)


def _perform(view: View, plan: Plan) -> None:
    def operation() -> change.Outcome:
        return ratelimit_history.revert(view.platform, view.actor, plan.entry, shown=plan).outcome

    if forms.run(operation, done=f"Change {plan.entry} taken back.", note=NOTE) is not None:
        st.session_state.pop(_ASKED, None)
        st.rerun()


def _confirm(view: View) -> None:
    """What a revert would delete or overwrite, before it does."""
    asked: _Asked | None = st.session_state.get(_ASKED)
    if asked is None:
        return
    plan = asked.plan
    with st.container(border=True, key="hi_confirm"):
        st.markdown(f"#### Revert {state.plain(asked.title)}?")
        if plan.lost:
            st.warning(
                f"**{plan.lost:,} override{'s' if plan.lost > 1 else ''} would be deleted.** "
                "They come back only by reverting the revert.",
                icon=":material/delete_sweep:",
            )
        if plan.conflicts:
            st.warning(
                "Changed again since, so reverting would overwrite something newer. Compare first.",
                icon=":material/call_merge:",
            )
            review.compare(plan.conflicts, "After the revert")
        with st.container(horizontal=True):
            go = st.button("Revert all the same", key="hi_confirm_go", type="primary", icon=":material/undo:")
            keep = st.button("Leave it as it is", key="hi_confirm_keep")
        if go:
            _perform(view, plan)
        elif keep:
            del st.session_state[_ASKED]
            st.rerun()
