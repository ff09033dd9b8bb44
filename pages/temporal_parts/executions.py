"""Executions: the list with its filters, which stand in the address, and the way to each one's detail."""

from __future__ import annotations

import streamlit as st

from adapters.core import AdapterError
from operations import workflow_executions as executions
from operations.access import Permission
from operations.change import Invalid, StoreUnavailable
from operations.workflow_catalogue import CATALOGUE
from operations.workflow_executions import Execution, Filters
from pages.temporal_parts import batch, common, detail, detail_actions, start
from pages.widgets import cached, state, table
from pages.widgets.template import View

LIVE_SECONDS = 5.0
HEADS = ("Started", "Execution", "Type", "Status", "Task queue", "Took")
TENANT = "TenantId"
FILTERS = ("type", "status", "id", "hours", "attribute")
_BACK = "_executions_back"


def draw(view: View) -> None:
    """The list, or the execution the address names."""
    if run := common.parameter("run"):
        detail.draw(view, run, common.parameter("run_id"))
        return
    detail_actions.result()
    filters = _filters()
    _actions(view, filters)
    if job := common.parameter("batch"):
        batch.running(view, job)
    if filters is not None:
        _list(view, filters)


def _actions(view: View, filters: Filters | None) -> None:
    """Starting one, and doing something to all that match: for those who may."""
    if not view.may(Permission.WORKFLOWS_OPERATE):
        detail_actions.locked(Permission.WORKFLOWS_OPERATE, "Starting, ending and resetting executions")
        return
    with st.container(horizontal=True, gap="small", key="ex_list_actions"):
        if st.button("Start", key="ex_start", icon=":material/play_arrow:"):
            start.ask(view, filters.type if filters is not None else "")
        narrowed = filters is not None and filters.any
        if st.button(
            "Batch", key="ex_batch", icon=":material/library_add_check:", disabled=not narrowed,
            help="The same to all that match." if narrowed else "Filter first: a batch over everything is refused.",
        ):  # fmt: skip
            assert filters is not None
            batch.ask(view, filters)


def _filters() -> Filters | None:
    """The filters in the address, with the controls to change them; None while one of them is no good."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="ex_filters"):
        _box("type", "Type", options=list(CATALOGUE))
        _box("status", "Status", options=list(executions.FILTERED), free=False)
        _text("id", "Id begins with", "tenant-")
        _span()
        _text("attribute", "Search attribute", f"{TENANT}=acme")
    try:
        return executions.filters_of({name: common.parameter(name) for name in FILTERS})
    except Invalid as error:
        common.wrong(error.errors)
        return None


def _changed(name: str) -> None:
    """A control was changed: the address follows, and the list begins anew."""
    common.keep(**{name: st.session_state.get(f"ex_{name}"), "page": None})
    st.session_state.pop(_BACK, None)


def _text(name: str, label: str, example: str) -> None:
    key = f"ex_{name}"
    if key not in st.session_state:
        st.session_state[key] = common.parameter(name)
    st.text_input(label, key=key, placeholder=example, max_chars=300, width=190, on_change=_changed, args=(name,))


def _box(name: str, label: str, *, options: list[str], free: bool = True) -> None:
    key, given = f"ex_{name}", common.parameter(name)
    if given and given not in options:
        options = [given, *options]
    if key not in st.session_state:
        st.session_state[key] = given or None
    st.selectbox(
        label, options, key=key, placeholder="Any", width=190, accept_new_options=free, format_func=common.words
        if not free else str, on_change=_changed, args=(name,),
    )  # fmt: skip


def _span() -> None:
    spans = {str(hours or ""): words for words, hours in common.SPANS.items()}
    given = common.parameter("hours")
    if given not in spans:
        spans[given] = f"{given} h"
    if "ex_hours" not in st.session_state:
        st.session_state["ex_hours"] = given
    st.selectbox(
        "Started within", list(spans), key="ex_hours", format_func=lambda one: spans.get(one, one), width=130,
        on_change=_changed, args=("hours",),
    )  # fmt: skip


@st.fragment(run_every=LIVE_SECONDS)
def _list(view: View, filters: Filters) -> None:
    token = common.parameter("page")
    short = False
    try:
        executions.query_for(view.platform, filters)
        executions.token_of(token)
        short = executions.cut(view.platform, filters)
    except Invalid as error:
        common.wrong(error.errors)
        return
    except StoreUnavailable:
        pass  # who waits for a place is not known: the reading below says so, above what it knew
    # By what was chosen, not by the query: that counts its span back from now and is another each minute.
    name = f"temporal:executions:{filters}"
    total = cached.reading(f"{name}:count", lambda: _count(view, filters))
    rows = cached.read(f"{name}:page:{token}", lambda: _page(view, filters, token), "executions", every=LIVE_SECONDS)
    if rows is None:
        return
    if not rows.rows:
        table.empty("No executions match", "" if not filters.any else "Take a filter away, or widen the time.")
        return
    known = "–" if total.value is None else f"{total.value:,}"
    tenants = any(TENANT in one.attributes for one in rows.rows)
    st.markdown(f":small[:gray[{known} match. Running ones first, then those that ended last.]]")
    if short:
        st.markdown(f":small[:orange[{common.CUT}]]")
    with st.container(key="ex_list"):
        table.draw(
            (*HEADS, "Tenant") if tenants else HEADS,
            (_row(one, tenants) for one in rows.rows),
            quiet=(0, 4),
            right=(5,),
        )
    _turn(token, rows.next_token)


def _count(view: View, filters: Filters) -> int:
    try:
        return executions.count(view.platform, view.actor, filters)
    except Invalid as error:
        raise AdapterError(str(error)) from error


def _page(view: View, filters: Filters, token: str) -> executions.Page:
    try:
        return executions.page(view.platform, view.actor, filters, token)
    except Invalid as error:
        raise AdapterError(str(error), advice="Change the filter, or go to the first page.") from error


def _turn(token: str, following: bytes) -> None:
    """Next and previous, by the server's own page tokens."""
    back: list[str] = st.session_state.setdefault(_BACK, [])
    with st.container(horizontal=True, gap="small"):
        if token and st.button("Previous" if back else "First page", key="ex_previous", icon=":material/chevron_left:"):
            common.keep(page=back.pop() if back else None)
            st.rerun()
        if following and st.button("Next", key="ex_next", icon=":material/chevron_right:"):
            back.append(token)
            common.keep(page=executions.token_text(following))
            st.rerun()


def _row(one: Execution, tenants: bool) -> tuple[str, ...]:
    took = "–"
    if one.closed_at and one.started_at:
        took = common.length((one.closed_at - one.started_at).total_seconds())
    cells = (
        table.when(one.started_at),
        f"<code>{common.anchor(common.executions(run=one.id, run_id=one.run_id), one.id, one.run_id)}</code>",
        state.text(one.type),
        common.badge(one.status),
        state.text(one.task_queue),
        took,
    )
    return (*cells, state.text(one.attributes.get(TENANT, "–"))) if tenants else cells
