"""The face Workers: who is alive, what each runs, and how many places it has left."""

from __future__ import annotations

import streamlit as st

from adapters.core import utcnow
from adapters.temporal_client.workers import Slots, Worker, Workers
from operations import workflow_queues
from pages.temporal_parts import common
from pages.widgets import cached, session, state, table
from pages.widgets.template import View

EVERY = 5.0
SILENT_INTERVALS = 3.0
LEAST_SILENCE_SECONDS = 30.0
HEADS = (
    "Worker",
    "State",
    "Task queue",
    "Build",
    "Slots used / free",
    "Tasks done",
    "Host",
    "Started",
    "Last heartbeat",
)
POLLER_HEADS = ("Poller", "Task queue", "Asks for", "Build", "Last seen")
_WORDS = {"SHUTTING_DOWN": "Shutting down", "SHUTDOWN": "Stopped"}


def draw(view: View) -> None:
    """Workers by heartbeat, or pollers where the server knows no more."""
    st.html(common.sheet())
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
    if found.heartbeats:
        table.draw(HEADS, map(_worker, found.rows), quiet=(7, 8))
    else:
        table.draw(POLLER_HEADS, map(_poller, found.rows), quiet=(4,))
    silent = sum(1 for one in found.rows if _silent(one))
    words = f"**{len(found.rows):,}** worker{'s' * (len(found.rows) != 1)}"
    words += f", {silent} silent" if silent else ""
    words += ". The server has more" if found.cut else ""
    st.markdown(f":small[:gray[{words}.]] {cached.age(cached.reading(key, fetch, every=EVERY))}")


def _silent(one: Worker) -> bool:
    if one.seen_at is None or one.status == "SHUTDOWN":
        return False
    patience = max(LEAST_SILENCE_SECONDS, SILENT_INTERVALS * one.interval_seconds)
    return (utcnow() - one.seen_at).total_seconds() > patience


def _state(one: Worker) -> str:
    if words := _WORDS.get(one.status):
        return f"<span class='ph-run'>{words}</span>"
    if _silent(one):
        return f"<span class='ph-run failed'>Silent for {state.since(one.seen_at)}</span>"
    return "<span class='ph-run completed'>Alive</span>"


def _worker(one: Worker) -> tuple[str, ...]:
    host = state.text(one.host or "–")
    if one.process:
        host += f"<br><small>process {state.text(one.process)}"
        if one.cpu is not None and one.memory is not None:
            host += f", host's CPU {100 * one.cpu:.0f} %, memory {100 * one.memory:.0f} %"
        host += "</small>"
    return (
        f"<b>{state.text(one.identity)}</b><br><small>{state.text(one.sdk)}</small>",
        _state(one),
        state.text(one.task_queue),
        f"<code>{state.text(one.build[:12])}</code>" if one.build else "–",
        "<br>".join(map(_slots, one.slots)) or "–",
        "<br>".join(map(_done, one.slots)) or "–",
        host,
        table.when(one.started_at),
        table.when(one.seen_at),
    )


def _slots(one: Slots) -> str:
    free = "as the host allows" if one.free is None else f"{one.free:,}"
    return f"<small>{state.text(one.kind)}</small> <b>{one.used:,}</b> / {free}"


def _done(one: Slots) -> str:
    failed = f", {one.failed:,} failed" if one.failed else ""
    return f"{one.done:,}{failed}"


def _poller(one: Worker) -> tuple[str, ...]:
    asks = " and ".join("workflows" if kind == "workflow" else "activities" for kind in one.polls)
    return (
        f"<b>{state.text(one.identity)}</b>",
        state.text(one.task_queue),
        asks or "–",
        f"<code>{state.text(one.build[:12])}</code>" if one.build else "–",
        table.when(one.seen_at),
    )
