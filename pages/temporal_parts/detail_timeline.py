"""The timeline of an execution: each step with its state, attempts, length and error, beside a bar on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import streamlit as st

from adapters.core import utcnow
from operations.workflow_detail import Detail, Failure, Pending, Step, Value
from pages.temporal_parts import common, graph
from pages.widgets import state, table

ENDS = 100
"""Rows drawn of the beginning, and of the end, of a long list of steps."""
HEADS = (("Step", ""), ("State", ""), ("Attempts", "n"), ("", ""), ("Took", "n"), ("Error", ""))
LABELS = {"application": "Error", "activity": "Activity", "child workflow": "Child workflow", "server": "Server"}
"""How a failure without a name of its own is called."""
PREVIEW = 60


def draw(of: Detail) -> None:
    """All steps; of a long list its two ends, saying so."""
    st.markdown("#### Timeline")
    if of.skipped:
        st.caption(
            f"A long history: {of.events:,} events. {of.skipped:,} in the middle were not read, so steps that began "
            "there are missing, and those that ended there are shown as unknown."
        )
    if not of.steps:
        table.empty("No steps yet", "Nothing was begun: the first decision has not been made.")
        return
    shown, left = of.steps, 0
    if len(shown) > 2 * ENDS:
        left = len(shown) - 2 * ENDS
        shown = (*shown[:ENDS], *shown[-ENDS:])
    begin = of.execution.started_at or min((s.began_at for s in shown if s.began_at), default=utcnow())
    end = of.execution.closed_at or utcnow()
    rows = "".join(_row(step, begin, end) for step in shown)
    head = "".join(f"<th scope='col' class='{kind}'>{name}</th>" for name, kind in HEADS)
    st.html(
        f"<div class='ph-scroll'><table class='ph-table ph-steps'><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )
    if left:
        st.caption(f"The first and the last {ENDS} steps; {left:,} between are left out.")


def pending(rows: Sequence[Pending]) -> None:
    """Activities under way: attempt, last error, next try."""
    if not rows:
        return
    st.markdown("#### Activities under way")
    table.draw(
        ("Activity", "State", "Attempt", "Since", "Next try", "Last error"),
        (
            (
                f"<b>{state.text(one.type)}</b><br><small>{state.text(one.worker or 'no worker yet')}</small>",
                graph.word({"paused": "waiting", "being canceled": "running"}.get(one.state, one.state))
                + (f"<br><small>{one.state}</small>" if one.state in ("paused", "being canceled") else ""),
                f"{one.attempt}" + (f" of {one.most}" if one.most else ", no limit"),
                table.when(one.started_at or one.scheduled_at),
                _ahead(one.next_at),
                failure(one.failure) or "–",
            )
            for one in rows[:50]
        ),
        quiet=(3, 4),
        right=(2,),
    )
    if len(rows) > 50:
        st.caption(f"The first 50 of {len(rows):,}.")


def failure(found: Failure | None) -> str:
    """A failure in one line of HTML: what happened at its root."""
    if found is None:
        return ""
    root = found.root
    named = f"<b>{state.text(root.type or LABELS.get(root.kind, root.kind))}</b>: " if root.type or root.message else ""
    return f"{named}{state.text(root.message[:500])}" + (" <small>(final)</small>" if root.final else "")


def values(found: Sequence[Value]) -> str:
    """Values as HTML."""
    return "".join(
        f"<pre>{state.text(one.text)}{'…' if one.cut else ''}</pre>"
        if one.readable
        else f"<div class='note'>{state.text(one.text)}</div>"
        for one in found
    )


def _row(step: Step, begin: datetime, end: datetime) -> str:
    ended = step.ended_at or (end if step.state in ("running", "waiting") else step.began_at)
    span = max(0.001, (end - begin).total_seconds())
    left = 100 * ((step.began_at or begin) - begin).total_seconds() / span
    width = 100 * (((ended or end) - (step.began_at or begin)).total_seconds()) / span
    left, width = min(max(left, 0.0), 99.0), max(0.0, width)
    width = min(width, 100.0 - left)
    took = "–" if step.seconds is None else common.length(step.seconds)
    about = step.note if step.kind in ("activity", "local activity", "child workflow") else ""
    name = state.text(about or step.name)
    if step.kind == "child workflow" and step.ident:
        name = common.anchor(common.executions(run=step.ident, run_id=step.run_id), about or step.name)
    what = step.name if about else step.note
    ident = step.ident if step.kind in ("child workflow", "signal sent") else ""
    under = " · ".join(state.text(part) for part in (step.kind, what, ident, _preview(step)) if part)
    inner = f"<div class='io'>{_inner('Given', step.given)}{_inner('Returned', step.gave)}</div>"
    # A timer that was called off is how most waits end well.
    said = "not needed" if (step.kind, step.state) == ("timer", "canceled") else step.state
    tip = f"{state.moment(step.began_at)} to {state.moment(step.ended_at)}, event {step.event}"
    shape = f"left:{left:.2f}%;width:{width:.2f}%"
    bar = (
        f"<span class='ph-gantt {graph.kind(said)}' title='{state.text(tip)}'>"
        f"<i class='{'open' if step.ended_at is None else ''}' style='{shape}'></i></span>"
    )
    return (
        f"<tr><td class='st'>{name}<small>{under}</small>{inner}</td><td>{graph.word(said)}</td>"
        f"<td class='n'>{step.attempts}</td><td class='bar'>{bar}</td><td class='n'>{took}</td>"
        f"<td class='er'>{failure(step.failure)}</td></tr>"
    )


def _preview(step: Step) -> str:
    """The beginning of what it was given, to tell steps of one name from each other."""
    texts = [" ".join(one.text.split()) for one in step.given if one.readable]
    if step.note or not texts:
        return ""
    text = ", ".join(one for one in texts if len(one) <= PREVIEW // 2) or texts[0]
    return text if len(text) <= PREVIEW else text[: PREVIEW - 1] + "…"


def _inner(title: str, found: Sequence[Value]) -> str:
    if not found or not any(one.readable for one in found):
        return ""
    return f"<details><summary>{title}</summary>{values(found)}</details>"


def _ahead(at: datetime | None) -> str:
    if at is None:
        return "–"
    seconds = (at - utcnow()).total_seconds()
    said = f"in {state.span(seconds)}" if seconds > 0 else "due"
    return f"<span title='{state.moment(at)}'>{said}</span>"
