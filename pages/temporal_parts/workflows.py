"""Status: one row per workflow type, over a chosen time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from adapters.core import State, Unit
from operations import workflow_types
from operations.access import Permission
from operations.readings import Reading
from operations.workflow_catalogue import CATALOGUE
from operations.workflow_types import Counted, Ended, Row
from pages.temporal_parts import common
from pages.widgets import cached, state, table
from pages.widgets.template import View

SEARCH_ABOVE = 20
SHOWN = 100
FAILING_PERCENT, FAILING_RUNS = 10.0, 3
STARTED = "Counted are executions started within the chosen time that the namespace still keeps."
ENDED = "runs that completed, failed or ran out of time; who was canceled or terminated says nothing about the workflow"
COLUMNS = (
    ("Type", "", "The workflow's type. Types of the platform's own worker are shown even where nothing ran."),
    ("Count", "n", f"{STARTED} Running and all that have ended, by how."),
    ("Running", "n", "Open executions, the pending among them."),
    (
        "Pending",
        "n",
        "Open executions that wait to be worked on: no worker has done the first step yet (Temporal knows of no "
        "worker's build for them), or they wait for one of the places their type's “max concurrent” allows.",
    ),
    ("Failed", "n", "Ended with an error that was not tried again."),
    ("Timed out", "n", "Ended because a timeout of the whole run passed."),
    ("Completed", "n", "Ended as meant."),
    ("Canceled", "n", "Asked to stop, by a person or a program, and did."),
    ("Terminated", "n", "Ended at once from outside, by a person or a program."),
    ("Continued", "n", "Ended by going on as a new run, which counts as one of its own."),
    ("Failing", "n", f"Failed and timed out, of the {ENDED}."),
    ("p50", "n", f"Half of the runs took at most this long, from start to end: of the latest {ENDED}, at most 500."),
    ("p95", "n", "95 % of the same runs took at most this long."),
    ("Last failure", "", "The error of the run that failed or timed out last, and how long ago."),
)
ORDERS: dict[str, Callable[[Row], Any]] = {
    "Failures": lambda row: -row.bad,
    "Failing %": lambda row: -(row.failure_rate or 0),
    "Count": lambda row: -row.counts.total,
    "Running": lambda row: -row.counts.running,
    "Pending": lambda row: -(row.pending or 0),
    "p95": lambda row: -((row.outcome.p95 if row.outcome else None) or 0),
    "Name": lambda row: row.type.casefold(),
}


def draw(view: View) -> None:
    """The table; what was known last, with its age, where the server does not answer."""
    if view.now.health.state is State.UNCONFIGURED:
        return
    st.markdown("#### Workflows")
    bar = st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="wf_bar")
    with bar:
        span = st.segmented_control(
            "Started within", list(common.SPANS), default="24 h", required=True, key="wf_span", bind="query-params"
        )
    hours = common.SPANS.get(span or "24 h")
    found = workflow_types.counted(view.platform, hours, wait=0.05)
    cached.failed(found, "the workflows")
    if found.value is None:
        if found.error is None:
            table.empty("Reading the workflows…", "Temporal is counting them, type by type.")
        return
    ended = workflow_types.outcomes(view.platform, hours, found.value)
    rows = [workflow_types.readable(row, view.actor) for row in workflow_types.rows(found.value, ended.value)]
    with bar:
        wanted, order = _controls(len(rows))
    _told(found, ended, found.value)
    everything = workflow_types.total(rows)
    if wanted:
        rows = [row for row in rows if wanted in _name(row).casefold()]
    if order != "Failures":
        rows.sort(key=ORDERS[order])
    if not rows:
        st.caption("No type matches.")
        return
    _table(rows[:SHOWN], everything, hours, view.actor.may(Permission.PAYLOADS_READ))
    _notes(len(rows), found.value, hours)


def _controls(types: int) -> tuple[str, str]:
    wanted = ""
    if types > SEARCH_ABOVE:
        wanted = st.text_input(
            "Search", key="wf_type", bind="query-params", placeholder="Part of a type's name", icon=":material/search:",
            width=240,
        )  # fmt: skip
    order = st.selectbox("Order by", list(ORDERS), key="wf_order", bind="query-params", width=150)
    return (wanted or "").strip().casefold(), order or "Failures"


def _told(found: Reading[Counted], ended: Reading[Ended], counted: Counted) -> None:
    """How fresh the numbers are, and which of them are not known."""
    lines = [] if found.error else [cached.age(found)]
    if ended.value is None and ended.error is None:
        lines.append(":small[:gray[Durations and failures are being read.]]")
    elif ended.error is not None and found.error is None:
        lines.append(f":small[:gray[Durations and failures: {state.plain(ended.error.sentence)}]]")
    if counted.unknown:
        lines.append(f":small[:gray[{counted.unknown:,} more types are being counted.]]")
    if counted.late:
        lines.append(
            f":small[:orange[Temporal is slow: the numbers of {len(counted.late):,} types are older, and being read.]]"
        )
    if not counted.places_known:
        lines.append(":small[:gray[Who waits for a place is not known: the console's database does not answer.]]")
    if lines:
        st.markdown(" :small[:gray[·]] ".join(lines))


def _notes(types: int, counted: Counted, hours: int | None) -> None:
    said = []
    if types > SHOWN:
        said.append(f"The first {SHOWN} of {types:,} types.")
    if counted.idle:
        said.append(f"{counted.idle:,} more types have nothing started within this time.")
    if counted.more:
        said.append("There are more types than are counted here.")
    if said:
        st.caption(" ".join(said))
    with st.expander("How these numbers are counted", icon=":material/help:"):
        st.markdown("\n".join(f"- **{name}**: {tip}" for name, _, tip in COLUMNS if tip))


def _table(rows: list[Row], everything: Row, hours: int | None, payloads: bool) -> None:
    head = "".join(
        f'<th scope="col" class="{kind}" title="{state.text(tip)}">{state.text(name)}</th>'
        for name, kind, tip in COLUMNS
    )
    body = "".join(_row(row, hours, payloads) for row in rows)
    foot = _row(everything, hours, payloads, foot=True)
    st.html(
        "<div class='ph-scroll'><table class='ph-table ph-types'>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody><tfoot>{foot}</tfoot>"
        "</table></div>"
    )


def _name(row: Row) -> str:
    kind = CATALOGUE.get(row.type)
    return f"{row.type} {kind.title}" if kind else row.type


def _row(row: Row, hours: int | None, payloads: bool, *, foot: bool = False) -> str:
    one, kind = row.counts, None if foot else row.type
    rate = row.failure_rate
    failing = rate is not None and rate >= FAILING_PERCENT and row.bad >= FAILING_RUNS
    took = row.outcome

    def number(value: int | None, status: str = "", tone: str = "") -> str:
        if value is None:
            return "<td class='n'><span title='The server cannot tell.'>–</span></td>"
        if not value:
            return "<td class='n zero'>0</td>"
        address = common.executions(type=kind, status=status, hours=hours)
        return f"<td class='n {tone}'>{common.anchor(address, f'{value:,}')}</td>"

    def seconds(value: float | None) -> str:
        if foot:
            return "<td></td>"
        if took is None:
            return "<td class='n zero' title='being read'>…</td>"
        if value is None:
            return "<td class='n zero'>–</td>"
        tip = f"{value:,.3f} s, of {took.sample:,} runs"
        return f"<td class='n' title='{tip}'>{state.text(duration(value))}</td>"

    share = "–" if rate is None else f"{rate:.1f}".removesuffix(".0") + " %"
    return (
        f"<tr class='{'failing' if failing and not foot else ''}'><td class='ty'>{_type(row, foot)}</td>"
        + number(one.total) + number(one.running, "Running") + number(row.pending, "Pending")
        + number(one.failed, "Failed", "bad") + number(one.timed_out, "TimedOut", "bad")
        + number(one.completed, "Completed") + number(one.canceled, "Canceled") + number(one.terminated, "Terminated")
        + number(one.continued, "ContinuedAsNew")
        + f"<td class='n{' bad' if failing else ' zero' if not rate else ''}'>{share}</td>"
        + seconds(took.p50 if took else None) + seconds(took.p95 if took else None)
        + f"<td class='why'>{'' if foot else _last(row, payloads)}</td></tr>"
    )  # fmt: skip


def _type(row: Row, foot: bool) -> str:
    if foot:
        return f"<b>{state.text(row.type)}</b>"
    kind = CATALOGUE.get(row.type)
    if kind is None:
        return f"<b>{state.text(row.type)}</b>"
    return f"<b title='{state.text(kind.purpose)}'>{state.text(row.type)}</b>"


def _last(row: Row, payloads: bool) -> str:
    last = row.outcome.last if row.outcome else None
    if last is None:
        return "<span class='zero'>–</span>" if row.outcome is not None else "<span class='zero'>…</span>"
    said = last.said
    where = f" in {state.text(said.step)}" if said.step else ""
    message = f": {state.text(said.message)}" if said.message else ""
    hidden = "" if payloads or said.message else " title='Its message is shown to those who may read payloads.'"
    ago = common.anchor(
        common.executions(run=last.workflow_id, run_id=last.run_id),
        f"{state.since(last.at)} ago",
        state.moment(last.at),
    )
    return f"<span{hidden}><b>{state.text(said.kind)}</b>{where}{message}</span> <small>{ago}</small>"


def duration(seconds: float) -> str:
    """A run's length: exact where it is short."""
    return state.number(seconds * 1000, Unit.MILLISECONDS) if seconds < 10 else state.span(seconds)
