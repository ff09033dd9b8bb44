"""The same done to all executions of a filter: what it would touch, the confirmation, and how far it is."""

from __future__ import annotations

from contextlib import closing

import streamlit as st

from adapters.core import AdapterError
from operations import workflow_batch, workflow_batch_again
from operations.access import Forbidden
from operations.change import Invalid
from operations.workflow_batch import Preview
from operations.workflow_batch_again import Progress
from operations.workflow_filters import Filters
from pages.temporal_parts import common
from pages.temporal_parts.detail_actions import PLACEHOLDER, perform
from pages.widgets import cached, forms, session, state, table
from pages.widgets.template import View

_SEEN = "_ex_batch_seen"
VERBS = {"terminate": "Terminate", "cancel": "Cancel", "signal": "Signal", "reset": "Reset", "again": "Run again"}
WHAT = {
    "terminate": "Each ends at once; nothing is cleaned up or taken back.",
    "cancel": "Each is asked to end, and may clean up first.",
    "signal": "Each gets the signal.",
    "reset": "Of each a new run begins, which goes on from the point; one that still runs ends.",
    "again": "Each that failed starts from the beginning: a new run under the same id, with the same input. What the "
    "failed runs did is not undone first. One that runs again or has completed since is left out.",
}
FIRST, LAST = "From the beginning", "From its last decision"


def ask(view: View, filters: Filters) -> None:
    """Open the dialog about the filter as it is now."""
    st.session_state.pop(_SEEN, None)
    _dialog(view, filters)


@st.dialog("Batch over the filter", width="large")
def _dialog(view: View, filters: Filters) -> None:
    action = st.segmented_control(
        "What to do", list(workflow_batch.actions(filters)), key="ex_batch_action", required=True,
        default=workflow_batch.actions(filters)[0], format_func=lambda one: VERBS[one],
    )  # fmt: skip
    st.markdown(f":gray[{WHAT[action]}]")
    signal_name, given, to_first = "", "", False
    if action == "signal":
        signal_name = st.text_input("Signal", key="ex_batch_signal", max_chars=255)
        given = st.text_area("Input (JSON)", key="ex_batch_input", placeholder=PLACEHOLDER)
    if action == "reset":
        to_first = st.radio("Point", (LAST, FIRST), key="ex_batch_point", horizontal=True) == FIRST
    seen = _seen(filters, action)
    if seen is None:
        return
    _preview(seen)
    if not seen.total:
        return
    typed = st.text_input(f"Type “{seen.name}” to confirm", key=f"ex_batch_typed_{action}", autocomplete="off")
    reason = forms.reason_field("ex_batch_reason")
    if st.button(f"{VERBS[action]} {seen.total:,}", key="ex_batch_go", type="primary"):
        if action == "again":
            _again(seen, typed, reason)
            return

        def act() -> str:
            job = workflow_batch.start(
                session.platform(), session.actor(), seen, confirmed=typed, reason=reason, signal_name=signal_name,
                given=given, to_first=to_first,
            )  # fmt: skip
            common.keep(batch=job)
            return job

        perform(act, lambda _: f"Temporal has taken the batch over {seen.total:,}. It is in the record of changes.")


def _again(seen: Preview, typed: str, reason: str) -> None:
    """Run them again while the person watches: the rest is left as it is when the page is left."""
    bar = st.progress(0.0, "Starting…")

    def act() -> str:
        came = workflow_batch_again.Progress(seen.total)
        steps = workflow_batch_again.run(session.platform(), session.actor(), seen, confirmed=typed, reason=reason)
        with closing(steps):
            for came in steps:
                bar.progress(came.tried / max(1, came.total), f"{came.tried:,} of {came.total:,}")
        return _came(came)

    perform(act, str)


def _came(came: Progress) -> str:
    said = f"{len(came.begun):,} of {came.total:,} run again."
    if came.left:
        first = next(iter(came.left.values()))
        said += f" {len(came.left):,} were left out: {state.plain(first)}"
    if came.stopped:
        said += f" Stopped before the rest: {state.plain(came.stopped)}"
    return f"{said} It is in the record of changes."


def _seen(filters: Filters, action: str) -> Preview | None:
    """What the action would touch, as it was when it was first looked at here."""
    kept: Preview | None = st.session_state.get(_SEEN)
    again = st.button("Look again", key="ex_batch_again", icon=":material/refresh:", type="tertiary")
    if kept is not None and kept.action == action and not again:
        return kept
    try:
        found = workflow_batch.preview(session.platform(), session.actor(), filters, action)
    except Invalid as error:
        common.wrong(error.errors)
        return None
    except Forbidden as error:
        st.error(state.plain(str(error)), icon=":material/lock:")
        return None
    except AdapterError as error:
        st.error(f"{state.plain(error.sentence)} {state.plain(error.advice)}", icon=":material/error:")
        return None
    st.session_state[_SEEN] = found
    return found


def _preview(seen: Preview) -> None:
    st.markdown(f"**{seen.total:,}** executions match, as of {state.moment(seen.at)}.")
    st.code(seen.query, language="sql", wrap_lines=True)
    if not seen.rows:
        return
    with st.container(height=220):
        table.draw(
            ("Started", "Execution", "Type", "Status"),
            (
                (table.when(one.started_at), f"<code>{state.text(one.id)}</code>", state.text(one.type),
                 common.badge(one.status))
                for one in seen.rows
            ),
            quiet=(0,),
        )  # fmt: skip
    if seen.cut:
        st.markdown(f":small[:orange[{common.CUT}]]")
    more = seen.total - len(seen.rows)
    if more > 0:
        st.caption(f"The newest {len(seen.rows)}; {more:,} more.")
    st.caption(
        "Exactly these are touched."
        if seen.all
        else "What the query matches when it runs is touched; what starts from now on is not."
    )


@st.fragment(run_every=2.0)
def running(view: View, job: str) -> None:
    """How far the batch in the address is."""
    platform, actor = session.platform(), session.actor()
    key = f"temporal:batch:{job}"
    found = cached.read(key, lambda: workflow_batch.progress(platform, actor, job), "the batch", every=2.0)
    if found is None:
        return
    share = 100 * (found.done + found.failed) / found.total if found.total else 0
    ended = found.state != "running"
    tone = "failed" if found.failed else "completed" if ended else "running"
    failed = f", {found.failed:,} could not be done" if found.failed else ""
    st.html(
        f"<div class='ph-x'><b>Batch {state.text(found.state)}</b><div class='ph-way {tone}'>"
        f"<b style='width:{100 if ended and not found.total else share:.1f}%'></b></div>"
        f"<div class='note'>{found.done:,} of {found.total:,} done{failed} · {state.text(found.reason)}</div></div>"
    )
    if ended and st.button("Close", key="ex_batch_close", type="tertiary", icon=":material/close:"):
        common.keep(batch=None)
        st.rerun(scope="app")
