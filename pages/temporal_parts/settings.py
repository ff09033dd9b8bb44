"""Settings of workflow types: the defaults and what a type has of its own, who holds what now, what was changed."""

from __future__ import annotations

import streamlit as st

from operations import workflow_settings
from operations.access import Permission, roles_with
from operations.change import FieldError, StoreUnavailable
from operations.workflow_rules import DEFAULT, FIELDS, NO_PLACE, TYPE_PATTERN, TYPE_RANGE
from operations.workflow_settings import Row
from pages.temporal_parts import settings_form, settings_held, settings_history, settings_review
from pages.temporal_parts.settings_review import NAMES, Draft
from pages.widgets import forms, state, table
from pages.widgets.template import View

INTRO = (
    "What a run gets that starts after you save: how long it may take, how often a failing step is tried, and how many "
    "runs of its type work at once over all workers. A type inherits what it leaves blank."
)


def draw(view: View) -> None:
    """The form for those who may change it, a table for the others; the workers; what was changed."""
    st.markdown(f":gray[{INTRO}]")
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
        settings_review.away(error)


def _locked() -> None:
    roles = " or ".join(f"**{role.replace('_', ' ')}**" for role in roles_with(Permission.WORKFLOWS_CONFIGURE))
    st.markdown(
        ":small[:gray[:material/lock: You can read everything here and change nothing: changing workflow settings "
        f"needs the permission {Permission.WORKFLOWS_CONFIGURE}, which none of your roles grants. "
        f"Ask someone who is {roles}.]]"
    )


def _edited(view: View) -> None:
    made = settings_review.draft()
    forms.result(settings_review.NOTE)
    found = settings_form.types(view)
    if made.rows is None:
        made.rows = workflow_settings.listing(view.platform, view.actor, found)
        made.seen = {row.type: row.version for row in made.rows}
    for name in found:
        settings_form.offer(made, name)
    settings_form.draw(view, made)
    settings_review.draw(view, made)
    _another(made)
    _stale(view, made)


def _another(made: Draft) -> None:
    """A type nobody has started yet can have its settings beforehand."""
    with st.popover("Another type", icon=":material/add:"), st.form("ws_another", border=False, clear_on_submit=True):
        name = st.text_input("Workflow type", key="ws_another_name", help="As the workflow is registered with Temporal")
        if st.form_submit_button("Add to the grid"):
            if not TYPE_PATTERN.fullmatch(name.strip()):
                settings_review.errors([FieldError("type", "is no name of a workflow type", TYPE_RANGE)])
            elif settings_form.offer(made, name.strip()):
                st.rerun()
            else:
                st.info("It is in the grid already.", icon=":material/info:")


def _stale(view: View, made: Draft) -> None:
    """Say when the form is behind what is stored, without taking anybody's typing away."""
    if made.edits:
        return
    stored = workflow_settings.listing(view.platform, view.actor)
    newer = [row.type for row in stored if row.version != made.seen.get(row.type, 0)]
    if not newer:
        return
    if not made.typed():
        made.reset()
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center"):
        names = state.plain(", ".join(newer[:5]))
        st.markdown(f":orange[:material/update: Changed by somebody else meanwhile: {names}.]")
        if st.button("Show theirs", key="ws_fresh", icon=":material/refresh:", help="Empties the form"):
            made.reset()
            st.rerun()


def _read(view: View) -> None:
    now = settings_form.occupancy(view)
    table.draw(
        ("Type", *(NAMES[name].capitalize() for name in FIELDS), "Now", "Last changed"),
        [
            (
                f"<b>{state.text('Defaults' if row.type == DEFAULT else row.type)}</b>",
                *(_value(row, name) for name in FIELDS),
                state.text(settings_form.at_work(now.get(row.type))),
                f"{table.when(row.updated_at)}<br><small>{state.text(row.updated_by)}</small>",
            )
            for row in workflow_settings.listing(view.platform, view.actor, settings_form.types(view))
        ],
        right=(1, 2, 3, 4),
        quiet=(5, 6),
    )


def _value(row: Row, name: str) -> str:
    if name == "max_concurrent" and row.type in NO_PLACE:
        return "<span class='ph-ws-inherits' title='its runs wait for people and are not counted'>any number</span>"
    words = settings_review.shown(name, getattr(row.effective, name))
    if row.type != DEFAULT and row.effective.sources[name] == DEFAULT:
        return f"<span class='ph-ws-inherits' title='from the defaults'>{words}</span>"
    return f"<b>{words}</b>"
