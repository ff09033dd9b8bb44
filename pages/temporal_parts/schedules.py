"""The face Schedules: what runs by itself, when it runs next and how it went."""

from __future__ import annotations

from urllib.parse import urlencode

import streamlit as st

from adapters.temporal_client.schedules import Ran, Schedule
from operations import workflow_schedules as operations
from operations.access import Permission
from operations.workflow_schedules import PER_PAGE, Listed
from pages.temporal_parts import common, detail_actions, schedule_detail, schedule_forms, schedule_new
from pages.widgets import cached, session, state, table
from pages.widgets.template import View

EVERY = 10.0
DRAWN_EVERY = 5.0
NOTE_LETTERS = 80
HEADS = ("Schedule", "When", "Next", "Last runs", "State")
_SHOWN = {"All": None, "Active": False, "Paused": True}


def draw(view: View) -> None:
    """The list, or the schedule the address names."""
    if chosen := common.parameter("schedule"):
        schedule_detail.draw(view, chosen)
        return
    st.markdown("#### Schedules")
    schedule_forms.result()
    detail_actions.result()
    schedule_new.button(view)
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    with left:
        words = st.text_input(
            "Search", key="schedules_words", placeholder="Part of a name, a workflow type or a note", max_chars=100
        )
    with right:
        which = st.segmented_control("Show", list(_SHOWN), default="All", required=True, key="schedules_which")
    _rows(view, words or "", _SHOWN[which or "All"])


@cached.live(DRAWN_EVERY)
def _rows(view: View, words: str, paused: bool | None) -> None:
    platform, actor = session.platform(), session.actor()
    page = int(st.session_state.get("schedules_page", 1))
    # What somebody may read is part of the key: the reading is shared by all who may read the same.
    key = f"temporal:schedules:{actor.may(Permission.PAYLOADS_READ)}:{words}:{paused}:{page}"

    def fetch() -> Listed:
        return operations.listing(platform, actor, words, paused, page)

    found = cached.read(key, fetch, "the schedules", every=EVERY, wait=1.0)
    if found is None:
        return
    if not found.rows:
        if words or paused is not None:
            table.empty("No schedule matches", "Search for less, or show all.")
        else:
            table.empty("No schedules", "Workflows that start by themselves appear here once somebody makes one.")
        return
    table.draw(HEADS, (_row(one) for one in found.rows), quiet=(2,))
    count = f"**{found.total:,}** schedule{'s' * (found.total != 1)}"
    more = ". The server has more than were read; search does not reach them" if found.cut else ""
    st.markdown(f":small[:gray[{count}{more}.]] {cached.age(cached.reading(key, fetch, every=EVERY))}")
    if found.pages > 1:
        st.pagination(found.pages, key="schedules_page")
        st.markdown(f":small[:gray[{PER_PAGE} on each page.]]")


def address(schedule_id: str = "") -> str:
    """Address of one schedule, or of the list."""
    return "?" + urlencode({common.FACE: "Schedules", **({"schedule": schedule_id} if schedule_id else {})})


def _row(one: Schedule) -> tuple[str, ...]:
    short = one.note if len(one.note) <= NOTE_LETTERS else one.note[:NOTE_LETTERS].rstrip() + "…"
    note = f"<br><small title='{state.text(one.note)}'>{state.text(short)}</small>" if one.note else ""
    before = " ".join(common.badge(run.status) for run in one.recent[1:4])
    last = ran(one.recent[0]) if one.recent else "–"
    return (
        _least(11, f"<b>{common.anchor(address(one.id), one.id)}</b><br><small>{state.text(one.type)}</small>"),
        _least(9, state.text(one.spec.words)),
        "paused" if one.paused else schedule_detail.ahead(one.next[0]) if one.next else "–",
        f"<span style='white-space:nowrap'>{last}</span>" + (f"<br><small>before:</small> {before}" if before else ""),
        _least(10, _state(one) + note),
    )


def _least(rem: float, cell: str) -> str:
    """A cell that is not squeezed below a width: on a narrow screen the table scrolls instead."""
    return f"<span style='display:inline-block;min-width:{rem:g}rem'>{cell}</span>"


def _state(one: Schedule) -> str:
    if one.error:
        return f"<span class='ph-run failed' title='{state.text(one.error)}'>Cannot run</span>"
    if one.paused:
        return "<span class='ph-run canceled'>Paused</span>"
    count = len(schedule_detail.running(one))
    return common.badge("Running") + (f" {count}" if count > 1 else "") if count else "Waiting"


def ran(run: Ran) -> str:
    """A run with its outcome, leading to its execution."""
    where = common.executions(run=run.workflow_id, run_id=run.run_id)
    age = f"{state.since(run.started_at)} ago" if run.started_at else "started"
    return f"{common.anchor(where, age, state.moment(run.started_at))} {common.badge(run.status)}"
