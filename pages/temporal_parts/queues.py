"""Task queues, drawn on the face Limits: who polls, what waits, how fast, and the limits set on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import streamlit as st

from adapters.core import AdapterError
from adapters.temporal_client.queues import Half, Queue
from operations import change, workflow_queues
from operations.access import Permission, roles_with
from operations.workflow_queues import FIND_EVERY, Found, Listed
from pages.temporal_parts import common, detail_actions
from pages.widgets import cached, forms, session, state, table
from pages.widgets.template import View

EVERY = 10.0
DRAWN_EVERY = 5.0
HEADS = (
    "Task queue",
    "For",
    "Limit in force",
    "Set limit",
    "Pollers",
    "Waiting",
    "Oldest waits",
    "Added",
    "Dispatched",
)
_STATE = "_queue_limit"
_NOTE = "_queue_limit_said"
_SOURCE = {"API": "set on the queue", "WORKER": "set by the worker", "SYSTEM": "the server's own"}


@dataclass(slots=True)
class _Open:
    """The limit as it was when its queue was chosen; one per browser session."""

    name: str = ""
    version: int = 0
    rate: float | None = None
    generation: int = 0


def _open() -> _Open:
    found: _Open = st.session_state.setdefault(_STATE, _Open())
    return found


def draw(view: View) -> None:
    """The queues, the form that limits one, and where the number of workflows at once is bounded."""
    st.markdown("#### Task queues")
    forms.result(_NOTE)
    words = st.text_input("Search", key="queues_words", placeholder="Part of a name", max_chars=100)
    _rows(view, words or "")
    _limit(view)
    st.markdown("#### Workflows at once")
    st.html(
        "<span style='font-size:.875rem'>How many workflows of a type may run at once is set with its timeout and "
        "retries, under <a href='?face_temporal=Settings' target='_self' style='color:var(--ph-accent)'>Settings</a>."
        "</span>"
    )


def found() -> Found | None:
    """Names of the queues known now, shared by all who look; draws what is wrong with the reading."""
    platform, actor = session.platform(), session.actor()
    return cached.read(
        "temporal:queues:names", lambda: workflow_queues.find(platform, actor), "the task queues", every=FIND_EVERY,
        wait=1.0,
    )  # fmt: skip


@cached.live(DRAWN_EVERY)
def _rows(view: View, words: str) -> None:
    platform, actor = session.platform(), session.actor()
    names = found()
    if names is None:
        return
    page = int(st.session_state.get("queues_page", 1))
    key = f"temporal:queues:{words}:{page}"

    def fetch() -> Listed:
        return workflow_queues.listing(platform, actor, names, words, page)

    listed = cached.read(key, fetch, "the task queues", every=EVERY, wait=1.0)
    if listed is None:
        return
    if not listed.rows:
        table.empty("No task queue matches", "Search for less.")
        return
    rows = [cells for queue in listed.rows for cells in _queue(queue, listed.sources.get(queue.name, ()))]
    table.draw(HEADS, rows, right=(4, 5, 6, 7, 8))
    more = " There may be more than were found." if listed.cut else ""
    st.markdown(
        f":small[:gray[**{listed.total:,}** found among our own, those of workers, of schedules and of running "
        f"workflows: Temporal keeps no list of its task queues.{more}]] "
        + cached.age(cached.reading(key, fetch, every=EVERY))
    )
    if listed.pages > 1:
        st.pagination(listed.pages, key="queues_page")


def _queue(queue: Queue, sources: tuple[str, ...]) -> list[tuple[str, ...]]:
    name = f"<b title='found among: {state.text(', '.join(sources))}'>{state.text(queue.name)}</b>"
    return [_half(name, queue.workflow), _half("", queue.activity)]


def _half(name: str, half: Half) -> tuple[str, ...]:
    who = "; ".join(f"{one.identity}, seen {state.since(one.seen_at)} ago" for one in half.pollers[:10])
    none = half.backlog and not half.pollers
    warn = " <span class='ph-run failed'>Nobody polls</span>" if none else ""
    return (
        name,
        "workflows" if half.kind == "workflow" else "activities",
        _effective(half),
        _set(half),
        f"<span title='{state.text(who or 'nobody')}'>{len(half.pollers):,}</span>{warn}",
        "–" if half.backlog is None else f"{half.backlog:,}",
        state.span(half.backlog_seconds) if half.backlog else "–",
        _rate(half.added),
        _rate(half.dispatched),
    )


def _rate(value: float) -> str:
    return f"{value:.3g}/s" if value >= 0.005 else "–"


def _effective(half: Half) -> str:
    if half.effective is None:
        return "–"
    slow = " <span class='ph-run terminated'>Slowing</span>" if half.throttled else ""
    if half.effective == 0:
        return f"<b>0/s: blocked</b>{slow}"
    source = _SOURCE.get(half.source, "")
    return f"{half.effective:,.6g}/s <small>{state.text(source)}</small>{slow}"


def _set(half: Half) -> str:
    if half.kind == "workflow":
        return "<small title='Temporal refuses rate limits on workflow task queues.'>not possible</small>"
    limit = half.limit
    if limit.at is None:
        return "none"
    words = "none" if limit.rate is None else f"<b>{limit.rate:,.6g}/s</b>"
    verb = "taken away" if limit.rate is None else "set"
    said = f"{verb} by {limit.by or 'somebody'} {state.since(limit.at)} ago: {limit.reason or 'no reason given'}"
    return f"{words}<br><small title='{state.moment(limit.at)}'>{state.text(said[:160])}</small>"


def _limit(view: View) -> None:
    st.markdown("##### Limit a queue's activities")
    if not view.may(Permission.WORKFLOWS_OPERATE):
        roles = ", ".join(role.replace("_", " ") for role in roles_with(Permission.WORKFLOWS_OPERATE))
        st.markdown(f":gray[:material/lock: Limiting a task queue needs the role {roles}.]")
        return
    st.markdown(
        ":gray[Temporal hands out at most so many activities per second, to all workers together. Zero is a limit: "
        "it blocks. An empty field takes the limit away. Workflow tasks cannot be limited: the server refuses it.]"
    )
    names = found()
    if names is None:
        return
    made = _open()
    g = made.generation
    left, middle, right = st.columns([3, 2, 4], vertical_alignment="bottom")
    with left:
        name = st.selectbox(
            "Task queue", sorted(names.names), index=None, key=f"queue_name_{g}", placeholder="Choose a task queue"
        )
    if name and name != made.name:
        try:
            held = workflow_queues.one(view.platform, view.actor, name).activity.limit
        except change.Invalid as error:
            common.wrong(error.errors)
            return
        except AdapterError as error:
            st.error(f"{state.plain(error.sentence)} {state.plain(error.advice)}", icon=":material/error:")
            return
        made.name, made.version, made.rate = name, held.version, held.rate
    now = f"{made.rate:,.6g}" if made.rate is not None else ""
    with middle:
        typed = st.text_input(
            "Requests per second", now if name else "", key=f"queue_rate_{g}_{name}", placeholder="no limit",
            disabled=not name, max_chars=20,
        )  # fmt: skip
    with right:
        reason = forms.reason_field(f"queue_reason_{g}")
    certain = _certain(str(name), typed or "", f"queue_typed_{g}") if name else None
    pressed = st.button("Save limit", key=f"queue_save_{g}", type="primary", icon=":material/speed:", disabled=not name)
    if not pressed or (certain is not None and not certain()):
        return
    _save(view, str(name), typed or "", reason)


def _certain(name: str, typed: str, key: str) -> Callable[[], bool] | None:
    """Have the queue's name typed where the limit lets nothing through."""
    try:
        if workflow_queues.rate_of(typed) != 0:
            return None
    except change.Invalid:
        return None  # said when it is saved
    st.markdown(f":orange[:material/warning: No activity on {state.plain(name)} begins until the limit is raised.]")
    return detail_actions.confirmed(name, key)


def _save(view: View, name: str, typed: str, reason: str) -> None:
    made = _open()

    def act() -> change.Outcome:
        try:
            rate = workflow_queues.rate_of(typed)
            return workflow_queues.set_limit(view.platform, view.actor, name, rate, seen=made.version, reason=reason)
        except change.Conflict as error:
            current: Any = error.current
            made.version = int(current["version"])
            raise

    words = f"at most {typed.strip()} per second" if typed.strip() else "no limit"
    try:
        saved = forms.run(act, done=f"{state.plain(name)}: {words}. Temporal confirmed it.", note=_NOTE)
    except AdapterError as error:
        st.error(f"{state.plain(error.sentence)} {state.plain(error.advice)}", icon=":material/error:")
        return
    if saved is not None:
        made.generation += 1
        made.name = ""
        st.rerun()
