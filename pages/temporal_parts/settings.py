"""Settings of workflow types: the defaults and what a type has of its own, edited together, and who holds what now."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from operations import workflow_settings, workflow_slots, workflow_types
from operations.access import Permission, roles_with
from operations.change import FieldError, StoreUnavailable
from operations.workflow_rules import DEFAULT, FIELDS, TYPE_PATTERN, TYPE_RANGE
from operations.workflow_settings import Edit, Row
from operations.workflow_slots import Occupancy
from pages.temporal_parts import settings_held, settings_history, settings_review
from pages.temporal_parts.settings_review import NAMES, Draft
from pages.widgets import forms, state, table
from pages.widgets.template import View

INTRO = (
    "What a run gets that starts after you save: how long it may take, how often a failing step is tried, and how many "
    "runs of its type work at once over all workers. A type inherits what it leaves blank."
)
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


@cache
def sheet() -> str:
    """The face's own style sheet."""
    rules = (Path(__file__).parent / "settings.css").read_text(encoding="utf-8")
    return f'<span class="ph-sheet" hidden></span><style>{rules}</style>'


def editor_key() -> str:
    """Name of the grid's state in the session."""
    return f"ws_grid_{settings_review.draft().generation}"


def field_key(name: str) -> str:
    """Name of one default's field in the session."""
    return f"ws_{name}_{settings_review.draft().generation}"


def draw(view: View) -> None:
    """The grid for those who may change it, a table for the others; the workers; what was changed."""
    st.markdown(f":gray[{INTRO}]")
    st.html(sheet())
    may = view.may(Permission.WORKFLOWS_CONFIGURE)
    try:
        if may:
            _edited(view)
        else:
            _locked()
            _read(view)
        st.markdown("#### What each worker has now")
        settings_held.draw()
        st.markdown("#### Changes")
        settings_history.draw(view, may)
    except StoreUnavailable as error:
        _away(error)


def _away(error: StoreUnavailable) -> None:
    st.error(
        f"The settings cannot be read or changed now. {state.plain(error.sentence)} {state.plain(error.advice)} "
        "Workers go on with what they hold.",
        icon=":material/database_off:",
    )


def _occupancy(view: View) -> dict[str, Occupancy]:
    try:
        return workflow_slots.occupancy(view.platform, view.actor)
    except StoreUnavailable:
        return {}  # said below the form, once for all that PostgreSQL knows


def _locked() -> None:
    roles = " or ".join(f"**{role.replace('_', ' ')}**" for role in roles_with(Permission.WORKFLOWS_CONFIGURE))
    st.markdown(
        ":small[:gray[:material/lock: You can read everything here and change nothing: changing workflow settings "
        f"needs the permission {Permission.WORKFLOWS_CONFIGURE}, which none of your roles grants. "
        f"Ask someone who is {roles}.]]"
    )


def _types(view: View) -> list[str]:
    """Types found on the server, where it answered already."""
    found = workflow_types.counted(view.platform, None, wait=0.05).value
    return sorted(found.types) if found else []


def _edited(view: View) -> None:
    made = settings_review.draft()
    forms.result(settings_review.NOTE)
    if made.rows is None:
        made.rows = workflow_settings.listing(view.platform, view.actor, _types(view))
        made.seen = {row.type: row.version for row in made.rows}
    # Whatever happens the form is drawn: fields that are left out once forget what was typed into them.
    if _form(made.rows, _occupancy(view)):
        edits = wishes(made.rows, made.seen, st.session_state)
        try:
            settings_review.begin(view, made, edits)
        except StoreUnavailable as error:
            _away(error)
        if not edits:
            st.info("Nothing was changed.", icon=":material/info:")
    settings_review.draw(view, made)
    _another(made)
    _stale(view, made)


def _form(rows: list[Row], now: dict[str, Occupancy]) -> bool:
    with st.form("ws_form", border=False):
        with st.container(border=True):
            st.markdown("##### Defaults")
            for (name, limits), column in zip(FIELDS.items(), st.columns(4), strict=True):
                value = getattr(rows[0].effective, name)
                step: Any = 1 if limits.whole else 0.1
                column.number_input(
                    TITLES[name], value=value, step=step, key=field_key(name), help=HELP[name],
                    format="%d" if limits.whole else "%.1f",
                )  # fmt: skip
        st.markdown("##### By workflow type")
        c = st.column_config
        st.data_editor(
            pd.DataFrame([_cells(row, now) for row in rows[1:]], columns=["type", *FIELDS, "effect", "now", "changed"]),
            key=editor_key(),
            num_rows="fixed",
            hide_index=True,
            height="auto",
            disabled=["type", "effect", "now", "changed"],
            column_config={
                "type": c.TextColumn("Type", pinned=True, width=170),
                "timeout_seconds": c.NumberColumn("Timeout (s)", help=HELP["timeout_seconds"], width=110),
                "retry_attempts": c.NumberColumn("Attempts", help=HELP["retry_attempts"], width=95),
                "backoff_multiplier": c.NumberColumn("Multiplier", help=HELP["backoff_multiplier"], width=95),
                "max_concurrent": c.NumberColumn("Max concurrent", help=HELP["max_concurrent"], width=125),
                "effect": c.TextColumn(
                    "In effect", width=250,
                    help="Timeout, attempts, multiplier, max concurrent. What is in brackets comes from the defaults.",
                ),
                "now": c.TextColumn("Now", help="Runs that work, and runs that wait for a place", width=140),
                "changed": c.TextColumn("Last changed", width=140),
            },
            alt="What each workflow type has of its own; blank inherits the default",
        )  # fmt: skip
        with st.container(horizontal=True, vertical_alignment="center"):
            asked = st.form_submit_button("Review changes", type="primary", icon=":material/fact_check:")
            st.markdown(
                ":small[:gray[Nothing is saved before you have seen what changes. Blank inherits the default.]]"
            )
    return asked


def _cells(row: Row, now: dict[str, Occupancy]) -> tuple[Any, ...]:
    by = f"{row.updated_by}, {row.updated_at:%d %b %H:%M}" if row.updated_at else ""
    return (row.type, *(row.values()[name] for name in FIELDS), in_effect(row), at_work(now.get(row.type)), by)


def in_effect(row: Row) -> str:
    """The four values a run would get; those of the defaults in brackets."""
    one = row.effective
    said = {
        "timeout_seconds": f"{one.timeout_seconds:,} s",
        "retry_attempts": f"{one.retry_attempts}×",
        "backoff_multiplier": f"×{one.backoff_multiplier:g}",
        "max_concurrent": f"{one.max_concurrent:,}",
    }
    return " · ".join(words if one.sources[name] == "type" else f"({words})" for name, words in said.items())


def at_work(now: Occupancy | None) -> str:
    """Runs that work and wait, in words."""
    if now is None:
        return ""
    return f"{now.working:,} at work" + (f", {now.waiting:,} waiting" if now.waiting else "")


def wishes(rows: list[Row], seen: dict[str, int], typed: Any) -> list[Edit]:
    """What the form asks for, by the rows it was drawn from."""
    edits: list[Edit] = []
    default = {
        name: typed.get(field_key(name))
        for name in FIELDS
        if field_key(name) in typed and typed.get(field_key(name)) != getattr(rows[0].effective, name)
    }
    if default:
        edits.append(Edit(DEFAULT, default, seen.get(DEFAULT, 0)))
    delta = (typed.get(editor_key()) or {}).get("edited_rows", {})
    for index, cells in sorted((int(index), cells) for index, cells in delta.items()):
        if index + 1 >= len(rows):
            continue
        row = rows[index + 1]
        old = row.values()
        values = {name: value for name, value in cells.items() if name in FIELDS and value != old[name]}
        if values:
            edits.append(Edit(row.type, values, seen.get(row.type, 0)))
    return edits


def _another(made: Draft) -> None:
    """A type nobody has started yet can have its settings beforehand."""
    with st.popover("Another type", icon=":material/add:"), st.form("ws_another", border=False, clear_on_submit=True):
        name = st.text_input("Workflow type", key="ws_another_name", help="As the workflow is registered with Temporal")
        if st.form_submit_button("Add to the grid"):
            wanted = name.strip()
            if not TYPE_PATTERN.fullmatch(wanted):
                settings_review.errors([FieldError("type", "is no name of a workflow type", TYPE_RANGE)])
            elif made.rows and wanted not in {row.type for row in made.rows}:
                made.rows = [*made.rows, workflow_settings.blank(wanted, made.rows[0])]  # at the end: typing stays put
                made.seen[wanted] = 0
                st.rerun()


def _stale(view: View, made: Draft) -> None:
    """Say when the form is behind what is stored, without taking anybody's typing away."""
    if made.edits:
        return
    try:
        stored = workflow_settings.listing(view.platform, view.actor)
    except StoreUnavailable as error:
        _away(error)
        return
    newer = [row.type for row in stored if row.version != made.seen.get(row.type, 0)]
    if newer:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(
                f":orange[:material/update: Changed by somebody else meanwhile: {state.plain(', '.join(newer[:5]))}.]"
            )
            if st.button("Show theirs", key="ws_fresh", icon=":material/refresh:", help="Empties the form"):
                made.reset()
                st.rerun()


def _read(view: View) -> None:
    now = workflow_slots.occupancy(view.platform, view.actor)
    table.draw(
        ("Type", *(NAMES[name].capitalize() for name in FIELDS), "Now", "Last changed"),
        [
            (
                f"<b>{state.text('Defaults' if row.type == DEFAULT else row.type)}</b>",
                *(_value(row, name) for name in FIELDS),
                state.text(at_work(now.get(row.type))),
                f"{table.when(row.updated_at)}<br><small>{state.text(row.updated_by)}</small>",
            )
            for row in workflow_settings.listing(view.platform, view.actor, _types(view))
        ],
        right=(1, 2, 3, 4),
        quiet=(5, 6),
    )


def _value(row: Row, name: str) -> str:
    words = settings_review.shown(name, getattr(row.effective, name))
    if row.type != DEFAULT and row.effective.sources[name] == DEFAULT:
        return f"<span class='ph-ws-inherits' title='from the defaults'>{words}</span>"
    return f"<b>{words}</b>"
