"""Transactions, cache, tuples and temporary files: counts, and rates between the last two readings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from adapters.core import Unit
from adapters.postgresql_stats import advice
from adapters.postgresql_stats.server import Counters, per_second
from pages.postgresql_parts import read
from pages.postgresql_parts.findings import judged
from pages.widgets import cached, state, table

if TYPE_CHECKING:
    from pages.widgets.template import View

_ROWS = (
    ("commits", "Transactions committed", Unit.COUNT),
    ("rollbacks", "Transactions rolled back", Unit.COUNT),
    ("rows_returned", "Rows read by scans", Unit.COUNT),
    ("rows_fetched", "Rows fetched by index", Unit.COUNT),
    ("rows_inserted", "Rows inserted", Unit.COUNT),
    ("rows_updated", "Rows updated", Unit.COUNT),
    ("rows_deleted", "Rows deleted", Unit.COUNT),
    ("temp_files", "Temporary files", Unit.COUNT),
    ("temp_bytes", "Temporary bytes", Unit.BYTES),
    ("deadlocks", "Deadlocks", Unit.COUNT),
)


def draw(view: View) -> None:
    """One row per counter with its rate, and the cache's hit share."""
    st.markdown("#### Traffic")
    now: Counters | None = read.shown(view, "counters", "the counters")
    if now is None:
        return
    judged(advice.counters(now), "The cache is warm and little spills to disk.")
    earlier = _earlier(now)
    hit = now.cache_hit_percent
    st.markdown(
        f"Cache hit **{'–' if hit is None else f'{hit:.2f} %'}** since "
        f"{state.moment(now.since) if now.since else 'the statistics began'}; all databases together."
    )
    table.draw(
        ("Counter", "Per second now", "In all"),
        (
            (state.text(label), _rate(earlier, now, name), state.number(getattr(now, name), unit))
            for name, label, unit in _ROWS
        ),
        right=(1, 2),
    )  # fmt: skip
    st.markdown(cached.age(read.quiet(view, "counters")))


def _earlier(now: Counters) -> Counters | None:
    """The reading before this one in this session; a rate needs both."""
    last, before = st.session_state.get("_pg_counters", (None, None))
    if last is None or last.at != now.at:
        last, before = now, last
        st.session_state["_pg_counters"] = (last, before)
    return before


def _rate(earlier: Counters | None, now: Counters, name: str) -> str:
    rate = per_second(earlier, now, name) if earlier is not None else None
    if rate is None:
        return "<span title='known after the next reading'>…</span>"
    unit = Unit.BYTES if name == "temp_bytes" else Unit.PER_SECOND
    return state.number(rate, unit) + ("/s" if unit is Unit.BYTES else "")
