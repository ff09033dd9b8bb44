"""The face Workers: who is alive, what each runs, and how many places it has left."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from adapters.core import utcnow
from adapters.temporal_client.workers import Slots, Worker, Workers
from operations import workflow_held, workflow_queues
from operations.workflow_held import HeldBy
from pages.widgets import cached, session, state, table
from pages.widgets.template import View

EVERY = 5.0
HEADS = ("Worker", "State", "Task queue", "Slots: used / free, done", "Settings", "Host")
POLLER_HEADS = ("Poller", "Task queue", "Asks for", "Build", "Last seen")
_WORDS = {"SHUTTING_DOWN": "Shutting down", "SHUTDOWN": "Stopped"}


def draw(view: View) -> None:
    """Workers by heartbeat, or pollers where the server knows no more."""
    st.markdown("#### Workers")
    _rows(view)


@cached.live(EVERY)
def _rows(view: View) -> None:
    platform, actor = session.platform(), session.actor()
    known = cached.reading(
        "temporal:queues:names", lambda: workflow_queues.find(platform, actor), every=workflow_queues.FIND_EVERY,
        wait=1.0,
    )  # fmt: skip
    names = tuple(known.value.names) if known.value is not None else ()

    def fetch() -> Workers:
        return workflow_queues.alive(platform, actor, names)

    key = "temporal:workers"
    found = cached.read(key, fetch, "the workers", every=EVERY, wait=1.0)
    if found is None:
        return
    if not found.heartbeats:
        st.info(
            f"{state.plain(found.why)} Shown instead is who asked the task queues for work in the last minutes.",
            icon=":material/sensors_off:",
        )
    if not found.rows:
        table.empty(
            "No worker is alive", "Workflows wait until one starts. The platform's own starts with make worker."
        )
        return
    known_at = cached.reading(key, fetch, every=EVERY)
    # A reading from before is judged by its own time: nobody has been asked since.
    now = known_at.fetched_at or utcnow()
    if found.heartbeats:
        told = _held()
        table.draw(HEADS, (_worker(one, told, now) for one in found.rows))
    else:
        table.draw(POLLER_HEADS, map(_poller, found.rows), quiet=(4,))
    silent = sum(1 for one in found.rows if one.silent(now) and one.status != "SHUTTING_DOWN")
    words = f"**{len(found.rows):,}** worker{'s' * (len(found.rows) != 1)}"
    words += f", {silent} silent" if silent else ""
    words += ". The server has more" if found.cut else ""
    st.markdown(f":small[:gray[{words}.]] {cached.age(known_at)}")


def _state(one: Worker, now: datetime) -> str:
    if one.polls:
        return f"<span class='ph-run running'>Polls</span><br><small>{_seen(one)}, no heartbeat yet</small>"
    beat = f"<br><small title='{state.moment(one.seen_at)}'>heartbeat {state.since(one.seen_at)} ago</small>"
    silent = one.silent(now)
    if silent and one.status != "SHUTTING_DOWN":
        return f"<span class='ph-run failed'>Silent</span>{beat}"
    # Few workers say that they have stopped: one that was stopping and went silent has.
    if words := _WORDS["SHUTDOWN"] if silent else _WORDS.get(one.status):
        return f"<span class='ph-run'>{words}</span>{beat}"
    return f"<span class='ph-run completed'>Alive</span>{beat}"


def _seen(one: Worker) -> str:
    return f"seen {state.since(one.seen_at)} ago"


def _held() -> dict[str, HeldBy] | None:
    """The settings each worker says it holds, by identity; None while nobody can tell."""
    platform, actor = session.platform(), session.actor()
    found = cached.reading("temporal:held", lambda: workflow_held.held(platform, actor), every=EVERY)
    if found.error is not None:
        cached.failed(found, "the settings that workers hold")
    return None if found.value is None else {one.identity: one for one in found.value}


def _settings(one: Worker, told: dict[str, HeldBy] | None) -> str:
    """How many types' settings it holds and where from; each in the tooltip. Workers of others hold none of ours."""
    if told is None:
        return "–"
    held = told.get(one.identity)
    if held is None:
        return "none of ours"
    lines = [
        f"{kind}: {own.timeout_seconds:g} s, {own.retry_attempts} attempts, backoff {own.backoff_multiplier:g}, "
        f"{own.max_concurrent} at once"
        for kind, own in sorted(held.settings.items())
    ]
    count = len(held.settings.keys() - {"default"})
    source = f"<span class='ph-run terminated'>{state.text(held.source)}</span>"
    known = f"from {state.text(held.source)}" if held.source != "last known" else source
    tip = state.text("; ".join(lines))
    words = f"<span title='{tip}'>{count} type{'s' * (count != 1)}</span>"
    return f"{words}<br><small>{known}</small>"


def _worker(one: Worker, told: dict[str, HeldBy] | None, now: datetime) -> tuple[str, ...]:
    build = f"<br><small>build <code>{state.text(one.build[:12])}</code></small>" if one.build else ""
    sdk = f"<br><small>{state.text(one.sdk)}</small>" if one.sdk else ""
    host = state.text(one.host or "–")
    if one.process:
        host += f"<br><small>process {state.text(one.process)}"
        if one.cpu is not None and one.memory is not None:
            host += f", CPU {100 * one.cpu:.0f} %, memory {100 * one.memory:.0f} %"
        host += "</small>"
    if one.started_at:
        host += f"<br><small title='{state.moment(one.started_at)}'>started {state.since(one.started_at)} ago</small>"
    return (
        _wide(f"<b>{state.text(one.identity)}</b>{sdk}{build}"),
        _wide(_state(one, now)),
        _wide(state.text(one.task_queue)),
        _wide("<br>".join(map(_slots, one.slots)) or "–"),
        _wide(_settings(one, told)),
        _wide(host),
    )


def _wide(cell: str) -> str:
    """A cell whose lines stay whole: on a narrow screen the table scrolls instead."""
    return f"<span style='display:inline-block;white-space:nowrap'>{cell}</span>"


def _slots(one: Slots) -> str:
    free = "as the host allows" if one.free is None else f"{one.free:,}"
    failed = f", {one.failed:,} failed" if one.failed else ""
    return f"<small>{state.text(one.kind)}</small> <b>{one.used:,}</b> / {free}, {one.done:,} done{failed}"


def _poller(one: Worker) -> tuple[str, ...]:
    asks = " and ".join("workflows" if kind == "workflow" else "activities" for kind in one.polls)
    return (
        f"<b>{state.text(one.identity)}</b>",
        state.text(one.task_queue),
        asks or "–",
        f"<code>{state.text(one.build[:12])}</code>" if one.build else "–",
        table.when(one.seen_at),
    )
