"""Before workflow settings are saved: exactly what changes; and what somebody else changed meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from operations import change, workflow_rules, workflow_settings
from operations.change import FieldError, StoreUnavailable
from operations.workflow_rules import DEFAULT
from operations.workflow_settings import Edit, Row
from pages.widgets import forms, state
from pages.widgets.template import View

NOTE = "ws_note"
NAMES = {
    "timeout_seconds": "timeout",
    "retry_attempts": "attempts",
    "backoff_multiplier": "multiplier",
    "max_concurrent": "max concurrent",
}


Typing = dict[str, dict[str, Any]]
"""Type to field to the value typed."""


@dataclass(slots=True)
class Draft:
    """What somebody is about to change; one per browser session."""

    generation: int = 0
    """Part of the fields' keys: a new one empties them."""
    rows: list[Row] | None = None
    """The snapshot under the form, the defaults first. It stands still while somebody types."""
    seen: dict[str, int] = field(default_factory=dict)
    """Versions shown to the person, newer ones once a conflict has shown them."""
    kept: Typing = field(default_factory=dict)
    """What was typed before the form was last left, and is drawn into it."""
    live: Typing = field(default_factory=dict)
    """What was typed since."""
    edits: list[Edit] = field(default_factory=list)
    errors: list[FieldError] = field(default_factory=list)
    stored: dict[str, Row] = field(default_factory=dict)
    """What is stored, as of the review."""

    def typed(self) -> Typing:
        """All that is typed and not saved."""
        return {name: {**self.kept.get(name, {}), **self.live.get(name, {})} for name in {**self.kept, **self.live}}

    def reset(self) -> None:
        """Forget the typing and take a new snapshot."""
        self.generation += 1
        self.rows, self.seen, self.kept, self.live = None, {}, {}, {}
        self.drop()

    def drop(self) -> None:
        """Forget the review, keep the typing."""
        self.edits, self.errors, self.stored = [], [], {}

    def conflicts(self) -> list[tuple[Edit, Row]]:
        """Edits of what somebody else changed since it was shown."""
        return [(edit, self.stored[edit.type]) for edit in self.edits if edit.seen != self.stored[edit.type].version]


def draft() -> Draft:
    """The session's draft."""
    found: Draft = st.session_state.setdefault("_ws_draft", Draft())
    return found


def shown(name: str, value: Any) -> str:
    """A field's value in words."""
    if value is None:
        return "inherits"
    if name == "timeout_seconds":
        long = f" ({state.span(value)})" if value >= 120 else ""
        return f"{value:,} s{long}"
    return f"{value:g}" if isinstance(value, float) else f"{value:,}"


def whose(type_: str) -> str:
    """Whom an edit is for, in words."""
    return "The defaults" if type_ == DEFAULT else type_


def errors(found: Iterable[FieldError]) -> None:
    """Name every bad field with what is allowed."""
    lines = [
        f"- **{state.plain(one.field)}** {state.plain(one.message)}."
        + (f" Allowed: {state.plain(one.allowed)}." if one.allowed else "")
        for one in found
    ]
    if lines:
        st.error("Nothing was saved.\n\n" + "\n".join(lines[:20]), icon=":material/error:")


def away(error: StoreUnavailable) -> None:
    """Say that PostgreSQL is away."""
    st.error(
        f"The settings cannot be read or changed now. {state.plain(error.sentence)} {state.plain(error.advice)} "
        "Workers go on with what they hold.",
        icon=":material/database_off:",
    )


def begin(view: View, made: Draft, edits: Sequence[Edit]) -> None:
    """Check the edits and look at what is stored, once: the review is drawn from what is found here."""
    made.drop()
    typed = []
    for edit in edits:
        try:
            typed.append(Edit(edit.type, workflow_rules.validate(edit.type, edit.values or {}), edit.seen))
        except change.Invalid as error:
            made.errors += [
                FieldError(f"{whose(edit.type)}: {NAMES.get(one.field, one.field)}", one.message, one.allowed)
                for one in error.errors
            ]
    if not made.errors:
        _look(view, made, typed)


def _look(view: View, made: Draft, edits: Sequence[Edit]) -> None:
    made.stored = {edit.type: workflow_settings.get(view.platform, view.actor, edit.type) for edit in edits}
    made.edits = list(edits)


def draw(view: View, made: Draft) -> None:
    """The review, with the reason asked for; saves on the person's word."""
    errors(made.errors)
    if not made.edits:
        return
    conflicts = made.conflicts()
    with st.container(border=True, key="ws_review"):
        st.markdown("#### Review")
        if conflicts:
            _show(conflicts)
        st.html(
            f"<div class='ph-change'><ul>{''.join(f'<li>{_step(made, edit)}</li>' for edit in made.edits)}</ul></div>"
        )
        with st.form("ws_save", border=False):
            reason = forms.reason_field(f"ws_reason_{made.generation}")
            with st.container(horizontal=True):
                count = len(made.edits)
                words = "Save over theirs" if conflicts else f"Save {count:,} change{'s' if count > 1 else ''}"
                save = st.form_submit_button(words, type="primary", icon=":material/save:")
                back = st.form_submit_button("Keep editing", icon=":material/edit:")
                drop = st.form_submit_button("Discard", icon=":material/undo:")
        if save:
            _save(view, made, reason)
        elif back:
            made.drop()
            st.rerun()
        elif drop:
            made.reset()
            st.rerun()


def _save(view: View, made: Draft, reason: str) -> None:
    if not reason.strip():
        errors([FieldError("reason", "is asked for", "a few words on why")])
        return
    # What a conflict has shown stands: saving again is a decision for one's own values.
    edits = [Edit(edit.type, edit.values, made.stored[edit.type].version) for edit in made.edits]
    conflict = False

    def operation() -> change.Outcome:
        nonlocal conflict
        try:
            return workflow_settings.save(view.platform, view.actor, edits, reason=reason).outcome
        except change.Conflict:
            conflict = True
            raise

    done = "Saved. Runs that start from now on have the new values."
    if forms.run(operation, done=done, note=NOTE) is not None:
        made.reset()
        st.rerun()
    if conflict:
        _look(view, made, edits)
        st.rerun()


def _step(made: Draft, edit: Edit) -> str:
    old = made.stored[edit.type].effective
    parts = []
    for name, value in (edit.values or {}).items():
        before = getattr(old, name)
        from_ = "" if edit.type == DEFAULT or old.sources[name] == "type" else " (default)"
        after = f"inherits, {_inherited(made, name)}" if value is None else shown(name, value)
        parts.append(f"{NAMES[name]} <del>{state.text(shown(name, before))}{from_}</del> → <b>{state.text(after)}</b>")
        if name == "max_concurrent" and value == 0:
            parts.append("<span class='ph-ws-warn'>every new run will wait</span>")
    return f"<b>{state.text(whose(edit.type))}</b>: {', '.join(parts)}"


def _inherited(made: Draft, name: str) -> str:
    for edit in made.edits:
        if edit.type == DEFAULT and edit.values and name in edit.values:
            return shown(name, edit.values[name])
    rows = made.rows or []
    return shown(name, getattr(rows[0].effective, name)) if rows else ""


def _show(conflicts: list[tuple[Edit, Row]]) -> None:
    st.warning(
        "Somebody else changed this since you looked. Your typing is kept. Compare, then save yours over theirs, "
        "or discard yours.",
        icon=":material/call_merge:",
    )
    rows = [
        (whose(edit.type), NAMES[name], shown(name, stored.values()[name]), shown(name, value))
        for edit, stored in conflicts
        for name, value in (edit.values or {}).items()
    ]
    body = "\n".join("| " + " | ".join(state.plain(cell) for cell in row) + " |" for row in rows)
    who = ", ".join(sorted({stored.updated_by for _, stored in conflicts if stored.updated_by}))
    by = f" ({state.plain(who)})" if who else ""
    st.markdown(f"| Type | Field | Now stored{by} | Yours |\n|---|---|---|---|\n{body}")
