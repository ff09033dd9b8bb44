"""Before a change is saved: exactly what changes, whom it touches, who is above; and what somebody else changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import streamlit as st

from limiter import Scope
from operations import change, ratelimit_impact, ratelimits
from operations.change import FieldError
from operations.ratelimit_impact import Impact
from operations.ratelimit_rules import validate
from operations.ratelimits import Edit, Policy, Target, Under
from pages.ratelimits_parts import common
from pages.ratelimits_parts.common import View
from pages.widgets import forms, state

STEPS_SHOWN = 30


@dataclass(slots=True)
class Draft:
    """What somebody is about to change in one face; one per browser session and face."""

    name: str
    generation: int = 0
    """Part of the editor's key: a new one empties it."""
    rows: Any = None
    """The snapshot under the editor. It stands still while somebody types."""
    kept: dict[str, Any] = field(default_factory=dict)
    """What was typed into grids that are gone, against the snapshot; see ``typed``."""
    live: dict[str, Any] = field(default_factory=dict)
    """A copy of what is typed into the grid that is drawn."""
    seen: dict[Target, int] = field(default_factory=dict)
    """Versions shown to the person, newer ones once a conflict has shown them."""
    edits: list[Edit] = field(default_factory=list)
    before: dict[Target, Policy] = field(default_factory=dict)
    under: dict[str, Under] = field(default_factory=dict)
    """Of each key to delete, what goes with it."""
    impacts: tuple[Impact, ...] = ()
    errors: list[FieldError] = field(default_factory=list)
    conflicts: list[tuple[Edit, Policy | None]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Sentences of the face's own, as HTML: what would look wrong afterwards."""

    @property
    def note(self) -> str:
        """Where what became of the last change waits for the next run."""
        return f"rl_note_{self.name}"

    def reset(self) -> None:
        """Forget the typing and take a new snapshot."""
        self.generation += 1
        self.rows, self.seen, self.kept, self.live = None, {}, {}, {}
        self.drop()

    def drop(self) -> None:
        """Forget the review, keep the typing."""
        self.edits, self.before, self.under, self.impacts = [], {}, {}, ()
        self.errors, self.conflicts, self.notes = [], [], []


def draft(name: str) -> Draft:
    """The session's draft of one face."""
    found: Draft = st.session_state.setdefault(f"_rl_draft_{name}", Draft(name))
    return found


def begin(
    view: View,
    made: Draft,
    edits: Sequence[Edit],
    errors: Sequence[FieldError],
    notes: Callable[[Sequence[Edit]], list[str]] | None = None,
) -> None:
    """Check the edits and work out what they would do, once: the review is drawn from what is found here."""
    made.drop()
    made.errors = list(errors)
    for edit in edits:
        try:
            if edit.values is not None:
                validate(edit)
        except change.Invalid as error:
            made.errors += [FieldError(f"{edit.target.key}: {common.FIELD_NAMES.get(one.field, one.field)}",
                                       one.message, one.allowed) for one in error.errors]  # fmt: skip
    if made.errors:
        return
    _look(view, made, edits)
    if edits:
        made.conflicts = _conflicts(made)
        made.impacts = ratelimit_impact.impact(view.platform, view.actor, edits)
        made.notes = notes(edits) if notes is not None else []


def _look(view: View, made: Draft, edits: Sequence[Edit]) -> None:
    """What is stored now of all the edits are about: what is shown is what saving will insist on."""
    made.before = ratelimit_impact.present(view.platform, view.actor, [edit.target for edit in edits])
    keys = [edit.target.key for edit in edits if _whole(edit)]
    made.under = ratelimits.under(view.platform, view.actor, keys) if keys else {}
    made.edits = [replace(edit, under=made.under[edit.target.key]) if _whole(edit) else edit for edit in edits]


def _whole(edit: Edit) -> bool:
    return edit.values is None and edit.target.scope is Scope.GLOBAL


def _conflicts(made: Draft) -> list[tuple[Edit, Policy | None]]:
    found = []
    for edit in made.edits:
        stored = made.before.get(edit.target)
        if edit.seen is not None and edit.seen != (stored.version if stored else 0):
            found.append((edit, stored))
    return found


def draw(view: View, made: Draft, *, action: str = "ratelimit.update") -> None:
    """The review, with the reason asked for; saves on the person's word."""
    common.errors(made.errors)
    if not made.edits:
        return
    with st.container(border=True, key=f"review_{made.name}"):
        st.markdown("#### Review")
        if made.conflicts:
            _show_conflicts(made)
        st.html(f"<div class='ph-change'>{_steps(made)}{_whom(made)}</div>")
        with st.form(f"rl_save_{made.name}", border=False):
            reason = st.text_input(
                "Reason", key=f"rl_reason_{made.name}_{made.generation}", max_chars=300,
                placeholder="Why this change? It is kept in the record of changes.",
            )  # fmt: skip
            with st.container(horizontal=True):
                count = len(made.edits)
                words = "Save over theirs" if made.conflicts else f"Save {count:,} change{'s' if count > 1 else ''}"
                save = st.form_submit_button(words, type="primary", icon=":material/save:")
                back = st.form_submit_button("Keep editing", icon=":material/edit:")
                drop = st.form_submit_button("Discard", icon=":material/undo:")
        if save:
            _save(view, made, reason, action)
        elif back:
            made.drop()
            st.rerun()
        elif drop:
            made.reset()
            st.rerun()


def _save(view: View, made: Draft, reason: str, action: str) -> None:
    if not reason.strip():
        common.errors([FieldError("reason", "is asked for", "a few words on why")])
        return
    # What a conflict has shown stands: saving again is a decision for one's own values.
    shown = {edit.target: (stored.version if stored else 0) for edit, stored in made.conflicts}
    edits = [replace(e, seen=shown.get(e.target, e.seen)) for e in made.edits]
    conflict = False

    def operation() -> change.Outcome:
        nonlocal conflict
        try:
            return ratelimits.save(view.platform, view.actor, edits, reason=reason, action=action).outcome
        except change.Conflict:
            conflict = True
            raise

    outcome = forms.run(operation, done=_done(made), note=made.note)
    if outcome is not None:
        made.reset()
        st.rerun()
    if conflict:
        seen = dict(made.under)
        _look(view, made, edits)
        made.conflicts = _conflicts(made)
        made.notes = [
            f"The limits under <b>{state.text(key)}</b> were changed by somebody else: {seen[key].count:,} when you "
            f"looked, {now.count:,} now. Look again before deleting them."
            for key, now in made.under.items()
            if key in seen and seen[key] != now
        ]
        made.seen |= {edit.target: (stored.version if stored else 0) for edit, stored in made.conflicts}
        st.rerun()


def _done(made: Draft) -> str:
    if len(made.edits) > 1:
        return f"{len(made.edits):,} changes of limits saved."
    edit = made.edits[0]
    return f"{state.plain(edit.target.key)} for {state.plain(common.whose(edit.target))}: saved."


def _show_conflicts(made: Draft) -> None:
    st.warning(
        "Somebody else changed this since you looked. Your typing is kept. Compare, then save yours over theirs, "
        "or discard yours.",
        icon=":material/call_merge:",
    )
    compare(made.conflicts, "Yours")


def compare(conflicts: Sequence[tuple[Edit, Policy | None]], yours: str) -> None:
    """What is stored now beside what is wished, field by field."""
    rows = []
    for edit, stored in conflicts:
        name = f"{edit.target.key}, {common.whose(edit.target)}"
        if stored is None:
            rows.append((name, "everything", "deleted", "kept" if edit.values is not None else "deleted"))
        elif edit.values is None:
            rows.append((name, "everything", f"{common.amount(stored.limit)}, by {stored.updated_by}", "deleted"))
        else:
            old = stored.values()
            rows += [
                (name, common.FIELD_NAMES[field], common.shown(field, old.get(field)), common.shown(field, value))
                for field, value in validate(edit).items()
            ]  # fmt: skip
    body = "\n".join("| " + " | ".join(state.plain(cell) for cell in row) + " |" for row in rows[:STEPS_SHOWN])
    who = ", ".join(sorted({stored.updated_by for _, stored in conflicts if stored and stored.updated_by}))
    by = f" ({state.plain(who)})" if who else ""
    st.markdown(f"| Limit | Field | Now stored{by} | {yours} |\n|---|---|---|---|\n{body}")


def _steps(made: Draft) -> str:
    items = [_step(edit, made.before.get(edit.target)) for edit in made.edits[:STEPS_SHOWN]]
    more = len(made.edits) - len(items)
    if more > 0:
        items.append(f"and {more:,} more of the same kind")
    return "<h5>What changes</h5><ul>" + "".join(f"<li>{item}</li>" for item in items) + "</ul>"


def _step(edit: Edit, before: Policy | None) -> str:
    head = f"<b>{state.text(edit.target.key)}</b> for {state.text(common.whose(edit.target))}"
    if edit.values is None:
        word = "cleared, inherits again"
        if _whole(edit):
            count = edit.under.count if edit.under else 0
            word = f"deleted, with the {count:,} tier limits and overrides under it" if count else "deleted"
        return (
            f"{head}: <span class='ph-bad'>{word}</span> (was {common.amount(before.limit) if before else 'not there'})"
        )
    values = validate(edit)
    if before is None:
        said = [f"{common.FIELD_NAMES[name]} <b>{state.text(common.shown(name, value))}</b>"
                for name, value in values.items() if value not in (None, "") or name == "limit"]  # fmt: skip
        return f"{head}: <b>new</b>, " + ", ".join(said)
    old = before.values()
    parts = [
        f"{common.FIELD_NAMES[name]} <del>{state.text(common.shown(name, old[name]))}</del> → "
        f"<b>{state.text(common.shown(name, value))}</b>"
        for name, value in values.items()
        if old[name] != value
    ]
    return f"{head}: " + (", ".join(parts) or "nothing changes")


def _whom(made: Draft) -> str:
    lines = []
    for one in made.impacts:
        touched = f"{one.tenants:,} tenant{'' if one.tenants == 1 else 's'}"
        if one.agents:
            touched += f" and {one.agents:,} agent{'' if one.agents == 1 else 's'} with limits of their own"
        words = f"<b>{state.text(one.key)}</b> touches <b>{touched}</b>."
        if not one.tenants and not one.agents:
            lines.append(f"<li>{words} Narrower limits decide for every one of them, or nothing they get changes.</li>")
            continue
        if one.restarts:
            words += " The window changes: their counters begin anew."
        elif one.above_total is None:
            words += " Redis does not answer, so nobody knows who is above the new limit now."
        elif one.above_total:
            names = ", ".join(f"{state.text(a.name)}{' / ' + state.text(a.agent) if a.agent else ''} "
                              f"({a.used:,} of {a.limit:,})" for a in one.above[:6])  # fmt: skip
            more = f" and {one.above_total - 6:,} more" if one.above_total > 6 else ""
            words += f" <span class='ph-bad'>Above the new limit right now: <b>{one.above_total:,}</b></span>: "
            words += f"{names}{more}."
        else:
            words += " None of them is above the new limit right now."
        lines.append(f"<li>{words}</li>")
    notes = "".join(f"<li class='ph-warnings'>{note}</li>" for note in made.notes)
    return f"<h5>Whom it touches</h5><ul>{''.join(lines)}{notes}</ul>"
