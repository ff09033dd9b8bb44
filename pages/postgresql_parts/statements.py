"""The statements the server spends its time on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from adapters.core import Unit
from pages.postgresql_parts import read
from pages.widgets import cached, state, table

if TYPE_CHECKING:
    from pages.widgets.template import View


def draw(view: View) -> None:
    """Top statements by total time, or how to see them."""
    st.markdown("#### Top statements")
    found = read.shown(view, "statements", "statements")
    if found is None:
        return
    if found.missing:
        table.empty("Statements are not recorded", found.missing)
        return
    if not found.rows:
        table.empty("No statements yet", "pg_stat_statements is there and has recorded nothing since it was reset.")
        return
    first = found.rows[0]
    if first.share > 30:
        st.markdown(
            f":orange-badge[:material/warning: Look at it] **One statement takes {first.share:.0f} % of the time.**  \n"
            "Look at its plan with EXPLAIN (ANALYZE, BUFFERS): an index or fewer calls pay most there."
        )
    else:
        st.markdown(":green-badge[:material/check_circle: Well] No statement takes more than 30 % of the time.")
    table.draw(
        ("Statement", "Share", "Total", "Mean", "Calls", "Rows"),
        (
            (
                f"<code>{state.text(' '.join(row.query.split())[:300])}</code>",
                f"{row.share:.1f} %",
                state.number(row.total_ms, Unit.MILLISECONDS),
                state.number(row.mean_ms, Unit.MILLISECONDS),
                state.number(row.calls),
                state.number(row.rows),
            )
            for row in found.rows
        ),
        right=(1, 2, 3, 4, 5),
    )
    st.markdown(cached.age(read.quiet(view, "statements")))
