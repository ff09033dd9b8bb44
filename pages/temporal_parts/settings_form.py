"""The form of workflow settings: the defaults and a grid by type. Typing stays while other faces are looked at."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from adapters.temporal_client.schedule_spec import length
from operations import workflow_slots, workflow_types
from operations.change import StoreUnavailable
from operations.workflow_rules import DEFAULT, FIELDS, NO_PLACE, TYPE_PATTERN
from operations.workflow_settings import Edit, Row, blank
from operations.workflow_slots import Occupancy
from pages.temporal_parts import settings_review
from pages.temporal_parts.settings_review import Draft, Typing
from pages.widgets import state
from pages.widgets.template import View

HELP = {
    "timeout_seconds": "A run that takes longer is stopped: it takes back what it did, then fails. Waiting for a place "
    "does not count. 1 to 31,536,000 (365 days).",
    "retry_attempts": "How often a failing step is tried in all, unless the workflow says otherwise. 1 to 100.",
    "backoff_multiplier": "The pause between attempts begins at 1 s and grows by this factor, up to 60 s. 1 to 10.",
    "max_concurrent": "Further runs wait, first come first served. 0 holds every new run. 0 to 10,000.",
}
TITLES = {
    "timeout_seconds": "Default timeout (seconds)",
    "retry_attempts": "Retry attempts",
    "backoff_multiplier": "Backoff multiplier",
    "max_concurrent": "Max concurrent",
}
COLUMNS = ("type", *FIELDS, "effect", "now", "changed")


def editor_key() -> str:
    """Name of the grid's state in the session."""
    return f"ws_grid_{settings_review.draft().generation}"


def field_key(name: str) -> str:
    """Name of one default's field in the session."""
    return f"ws_{name}_{settings_review.draft().generation}"


def types(view: View) -> list[str]:
    """Types found on the server, where it answered already."""
    found = workflow_types.counted(view.platform, None, wait=0.05).value
    return sorted(found.types) if found else []


def occupancy(view: View) -> dict[str, Occupancy]:
    """Places by type; nothing while PostgreSQL is away, which the face says once for all that it knows."""
    try:
        return workflow_slots.occupancy(view.platform, view.actor)
    except StoreUnavailable:
        return {}


@st.fragment
def draw(view: View, made: Draft) -> None:
    """The form alone is drawn again with each value typed."""
    rows = made.rows or []
    if editor_key() not in st.session_state and made.live:
        # It was not drawn meanwhile, and Streamlit forgot what was typed: it is drawn with a copy of it.
        _carry(made)
    _defaults(rows[0], made.kept.get(DEFAULT, {}))
    st.markdown("##### By workflow type")
    _grid(rows[1:], made.kept, occupancy(view))
    with st.container(horizontal=True, vertical_alignment="center"):
        asked = st.button("Review changes", key="ws_ask", type="primary", icon=":material/fact_check:")
        st.markdown(":small[:gray[Nothing is saved before you have seen what changes. Blank inherits the default.]]")
    made.live = _live(rows, made.kept)
    _unsaved(made)
    if asked:
        _ask(view, made, wishes(rows, made.seen, made.typed()))


def offer(made: Draft, name: str) -> bool:
    """Add a row for a type that has none of its own yet; whether that was new."""
    if not made.rows or name in made.seen or not TYPE_PATTERN.fullmatch(name):
        return False
    if editor_key() in st.session_state:
        made.live = _live(made.rows, made.kept)
    _carry(made)  # a grid with another number of rows is another grid, which knows nothing of what was typed
    made.rows = [*made.rows, blank(name, made.rows[0])]
    made.seen[name] = 0
    return True


def _carry(made: Draft) -> None:
    made.kept, made.live = made.typed(), {}
    made.generation += 1


def _ask(view: View, made: Draft, edits: list[Edit]) -> None:
    try:
        settings_review.begin(view, made, edits)
    except StoreUnavailable as error:
        settings_review.away(error)
        return
    if edits:
        st.rerun(scope="app")
    st.info("Nothing was changed.", icon=":material/info:")


def _unsaved(made: Draft) -> None:
    if not made.typed() or made.edits:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            ":orange[:material/edit_note: Unsaved changes.] "
            ":small[:gray[They stay while you look at other faces, until you save or discard them.]]"
        )
        if st.button("Discard", key="ws_discard", icon=":material/undo:"):
            made.reset()
            st.rerun(scope="app")


def _defaults(row: Row, kept: dict[str, Any]) -> None:
    with st.container(border=True):
        st.markdown("##### Defaults")
        for (name, limits), column in zip(FIELDS.items(), st.columns(4, vertical_alignment="bottom"), strict=True):
            step: Any = 1 if limits.whole else 0.1
            column.number_input(
                TITLES[name], value=kept.get(name, getattr(row.effective, name)), step=step, key=field_key(name),
                help=HELP[name], format="%d" if limits.whole else "%.1f",
            )  # fmt: skip


def _grid(rows: list[Row], kept: Typing, now: dict[str, Occupancy]) -> None:
    c = st.column_config
    frame = pd.DataFrame([_cells(row, kept.get(row.type, {}), now) for row in rows], columns=list(COLUMNS))
    st.data_editor(
        frame.astype(dict.fromkeys(FIELDS, "float64")),  # a column that is all blank would have no type to edit
        key=editor_key(),
        num_rows="fixed",
        hide_index=True,
        placeholder="inherits",
        height="auto",
        disabled=["type", "effect", "now", "changed"],
        column_config={
            "type": c.TextColumn("Type", pinned=True, width=155),
            "timeout_seconds": c.NumberColumn(
                "Timeout (s)", help=HELP["timeout_seconds"], format="localized", width=110
            ),
            "retry_attempts": c.NumberColumn("Attempts", help=HELP["retry_attempts"], width=95),
            "backoff_multiplier": c.NumberColumn("Multiplier", help=HELP["backoff_multiplier"], width=95),
            "max_concurrent": c.NumberColumn("Max concurrent", help=HELP["max_concurrent"], width=135),
            "effect": c.TextColumn(
                "What a run gets", width=275,
                help="Timeout, attempts of a step, growth of the pause between attempts, runs at once: what the type "
                "has of its own, and the defaults where it leaves blank.",
            ),
            "now": c.TextColumn("Now", help="Runs that work, and runs that wait for a place", width=100),
            "changed": c.TextColumn("Last changed", width=170),
        },
        alt="What each workflow type has of its own; blank inherits the default",
    )  # fmt: skip


def _cells(row: Row, kept: dict[str, Any], now: dict[str, Occupancy]) -> tuple[Any, ...]:
    by = f"{row.updated_by}, {state.short(row.updated_at)}" if row.updated_at else ""
    values = {**row.values(), **kept}
    return (row.type, *(values[name] for name in FIELDS), in_effect(row), at_work(now.get(row.type)), by)


def in_effect(row: Row) -> str:
    """What a run gets that starts now, in words: the type's own values, and the defaults where it leaves blank."""
    one = row.effective
    tries = "1 attempt" if one.retry_attempts == 1 else f"{one.retry_attempts:,} attempts"
    many = "any number" if row.type in NO_PLACE else f"{one.max_concurrent:,} at once"
    return f"{length(one.timeout_seconds)}, {tries}, ×{one.backoff_multiplier:g}, {many}"


def at_work(now: Occupancy | None) -> str:
    """Runs that work and wait, in words."""
    if now is None:
        return ""
    return f"{now.working:,} at work" + (f", {now.waiting:,} waiting" if now.waiting else "")


def _live(rows: list[Row], kept: Typing) -> Typing:
    """What is typed into the fields as they are drawn now, over what they were drawn with."""
    found: Typing = {}
    first = kept.get(DEFAULT, {})
    for name in FIELDS:
        value = st.session_state.get(field_key(name))
        if value != first.get(name, getattr(rows[0].effective, name)):
            found.setdefault(DEFAULT, {})[name] = value
    delta = dict(st.session_state.get(editor_key()) or {}).get("edited_rows", {})
    for index, cells in delta.items():
        given = {name: value for name, value in cells.items() if name in FIELDS}
        if given and int(index) + 1 < len(rows):
            found[rows[int(index) + 1].type] = given
    return found


def wishes(rows: list[Row], seen: dict[str, int], typed: Typing) -> list[Edit]:
    """What the typing asks for, by the rows it was typed over, in their order."""
    edits = []
    for row in rows:
        old = row.values()
        values = {name: value for name, value in typed.get(row.type, {}).items() if value != old[name]}
        if values:
            edits.append(Edit(row.type, values, seen.get(row.type, 0)))
    return edits
