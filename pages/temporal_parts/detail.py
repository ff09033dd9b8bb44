"""One execution: how it is, its steps, what it was given and came to, and what can be done with it."""

from __future__ import annotations

import streamlit as st

from adapters.core import utcnow
from operations import workflow_detail as details
from operations.access import Permission, roles_with
from operations.workflow_detail import Detail, Failure
from pages.temporal_parts import common, detail_actions, detail_timeline, graph
from pages.widgets import cached, listing, session, state, table
from pages.widgets.template import View

LIVE_SECONDS = 2.0
LABELS = detail_timeline.LABELS


def draw(view: View, workflow_id: str, run_id: str) -> None:
    """The execution, its latest run where none is named."""
    if st.button("Executions", key="ex_back_to_list", icon=":material/arrow_back:", type="tertiary"):
        common.keep(run=None, run_id=None)
        st.rerun()
    detail_actions.result()
    found = details.reading(view.platform, view.actor, workflow_id, run_id)
    of = found.value
    if of is not None:
        detail_actions.draw(view, of)
    status = of.execution.status if of is not None else "Running"
    part = st.fragment(run_every=LIVE_SECONDS if status == "Running" else None)(_body)
    part(view, workflow_id, run_id, status if of is not None else "")


def _body(view: View, workflow_id: str, run_id: str, drawn: str) -> None:
    actor = session.actor()
    found = details.reading(view.platform, actor, workflow_id, run_id)
    if details.missing(found.error):
        table.empty(f"There is no execution {workflow_id}{' with this run' if run_id else ''}.")
        return
    cached.failed(found, "this execution")
    of = found.value
    if of is None:
        if found.error is None:
            st.markdown(":gray[:material/hourglass_empty: Reading the execution…]")
        return
    if of.execution.status != drawn:
        # What can be done with it depends on how it is: the buttons outside of this part follow.
        st.rerun(scope="app")
    _head(of)
    _masked(view)
    _progress(view, of)
    _outcome(of)
    detail_timeline.pending(of.pending)
    detail_timeline.draw(of)
    _payloads(of)


def _head(of: Detail) -> None:
    one = of.execution
    parent = ""
    if of.parent_id:
        parent = " · parent " + common.anchor(
            common.executions(run=of.parent_id, run_id=of.parent_run_id), of.parent_id
        )
    later = ""
    if of.continued_as:
        later = " · carried on by " + common.anchor(
            common.executions(run=one.id, run_id=of.continued_as), of.continued_as
        )
    st.html(
        f"<div class='ph-x'><h3><code>{state.text(one.id)}</code> &nbsp;{common.badge(one.status)}</h3>"
        f"<div class='sub'>{state.text(one.type)} · run <code>{state.text(one.run_id)}</code>{parent}{later}</div>"
        "</div>"
    )
    ended = one.closed_at
    took = "–"
    if one.started_at:
        took = common.length(((ended or utcnow()) - one.started_at).total_seconds())
    facts = [
        ("Started", f"{state.since(one.started_at)} ago", state.moment(one.started_at)),
        ("Closed", f"{state.since(ended)} ago" if ended else "–", state.moment(ended)),
        ("Took" if ended else "Runs for", took, ""),
        ("Attempt", str(of.attempt), "of the workflow as a whole, by its own retry policy"),
        ("Task queue", one.task_queue, "where its worker takes work from"),
        ("Build", of.build_id[:12] or "–", of.build_id or "no worker has told its build"),
        ("History", f"{of.events:,} events", f"{of.size_bytes:,} bytes"),
        ("Started by", of.started_by or "–", "as the client named itself"),
    ]
    facts += [(name, value, "search attribute") for name, value in list(one.attributes.items())[:6]]
    if of.expires_at and not ended:
        facts.append(("Ends at the latest", state.moment(of.expires_at), "its execution timeout"))
    listing.facts(facts)
    if of.task_attempt > 1 and not ended:
        st.warning(
            f"The worker was given its next decision {of.task_attempt} times without success: "
            "its code fails, or it does not come back. See the timeline.",
            icon=":material/report:",
        )


def _progress(view: View, of: Detail) -> None:
    """For the platform's own types: the graph of steps and how far it is, by the workflow's own word."""
    one = of.execution
    if not details.own(one.type):
        return
    st.markdown("#### Progress")
    found = details.asked(view.platform, view.actor, of)
    if found.error is not None:
        st.markdown(
            f":gray[:material/cloud_off: {state.plain(found.error.sentence)} "
            "What the history tells of its steps stands in the timeline below.]"
        )
        if found.value is None:
            return
    told = found.value
    if told is None:
        st.markdown(":gray[:material/hourglass_empty: Asking the worker…]")
        return
    kind = common.words(one.status).lower().replace(" ", "-")
    sentence = f" · {state.text(told.sentence)}" if told.sentence else ""
    st.html(
        f"<div class='ph-x'><div class='ph-way {kind}' role='progressbar' aria-valuenow='{told.percent:.0f}' "
        f"aria-valuemin='0' aria-valuemax='100'><b style='width:{told.percent:.1f}%'></b></div>"
        f"<div class='note'>{told.done} of {len(told.steps)} steps, {told.percent:.0f} %{sentence}</div></div>"
        + graph.html(told.steps)
    )


def _outcome(of: Detail) -> None:
    if of.failure is not None:
        st.markdown("#### Failure")
        st.html(f"<div class='ph-x'>{_chain(of.failure)}</div>")
    if of.ended:
        st.html(f"<div class='ph-x'><div class='why'><b>Terminated</b>: {state.text(of.ended)}</div></div>")


def _chain(found: Failure) -> str:
    parts: list[str] = []
    step: Failure | None = found
    while step is not None:
        lead = "" if step is found else "<small>because of </small>"
        named = state.text(step.type or LABELS.get(step.kind, step.kind))
        stack = f"<details><summary>Where</summary><pre>{state.text(step.stack)}</pre></details>" if step.stack else ""
        parts.append(f"<div class='why'>{lead}<b>{named}</b>: {state.text(step.message[:2000])}{stack}</div>")
        step = step.cause
    return "".join(parts)


def _masked(view: View) -> None:
    """Say what is masked, why, and whom to ask."""
    if not view.may(Permission.PAYLOADS_READ):
        roles = " or ".join(f"**{role.replace('_', ' ')}**" for role in roles_with(Permission.PAYLOADS_READ))
        st.markdown(
            ":small[:gray[:material/lock: What it was given, returned and failed with is masked: reading it needs the "
            f"permission {Permission.PAYLOADS_READ}. Ask someone who is {roles}.]]"
        )


def _payloads(of: Detail) -> None:
    st.markdown("#### Input and result")
    left, right = st.columns(2)
    with left:
        st.html(f"<div class='ph-x'><b>Input</b>{detail_timeline.values(of.input) or _none('no input')}</div>")
    with right:
        closed = of.execution.closed_at is not None
        none = _none("no result" if closed else "not yet")
        st.html(f"<div class='ph-x'><b>Result</b>{detail_timeline.values(of.result) or none}</div>")


def _none(words: str) -> str:
    return f"<div class='note'>{words}</div>"
