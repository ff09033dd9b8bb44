"""The latest runs of one of the platform's own workflows, on the page of the service it works on."""

from __future__ import annotations

from functools import partial

import streamlit as st

from operations import workflow_executions
from operations.workflow_executions import Execution, Filters
from pages.temporal_parts import common
from pages.widgets import cached, table
from pages.widgets.page import all_pages
from pages.widgets.template import View

SHOWN = 5


def draw(view: View, *kinds: str, title: str = "Latest runs") -> None:
    """The newest runs of these workflow types, each leading to its execution, and the way to all of them."""
    st.markdown(f"#### {title}")
    rows: list[Execution] = []
    known = False
    for kind in kinds:
        fetch = partial(workflow_executions.page, view.platform, view.actor, Filters(type=kind))
        found = cached.reading(f"temporal:runs:{kind}", fetch, every=15.0)
        if found.error is not None:
            cached.failed(found, f"the runs of {kind}")
        if found.value is not None:
            known = True
            rows += found.value.rows[:SHOWN]
    if not rows:
        st.caption("None yet." if known else "Not known yet.")
        return
    rows.sort(key=lambda one: one.started_at.timestamp() if one.started_at else 0.0, reverse=True)
    table.draw(("Started", "Workflow", "State", "Took"), [_row(one) for one in rows[:SHOWN]], quiet=(0,), right=(3,))
    links = " · ".join(common.anchor(_address(type=kind), f"All runs of {kind}") for kind in kinds)
    # In a table's clothes, so that links look as they do above.
    st.html(f"<div class='ph-table'><small>{links}</small></div>")


def _row(one: Execution) -> tuple[str, ...]:
    took = common.length((one.closed_at - one.started_at).total_seconds()) if one.started_at and one.closed_at else "–"
    link = common.anchor(_address(run=one.id, run_id=one.run_id), one.type, one.id)
    word = common.words(one.status)
    return table.when(one.started_at), link, f"<b>{word}</b>" if word in ("Failed", "Timed out") else word, took


def _address(**filters: str) -> str:
    return f"/{all_pages()['temporal'].url}{common.executions(**filters)}"
