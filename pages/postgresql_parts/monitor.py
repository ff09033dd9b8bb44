"""Monitor: one section at a time, so that a run asks and draws only what is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages.postgresql_parts import activity, read, replication, statements, storage, traffic

if TYPE_CHECKING:
    from collections.abc import Callable

    from pages.widgets.template import View

SECTIONS: dict[str, tuple[Callable[[View], None], tuple[str, ...]]] = {
    "Traffic": (traffic.draw, ("counters",)),
    "Sessions": (activity.sessions, ("sessions_by_state", "transactions")),
    "Locks": (activity.locks, ("locks",)),
    "Statements": (statements.draw, ("statements",)),
    "Tables": (storage.tables, ("largest_tables", "unindexed_tables", "dead_rows", "bloat")),
    "Indexes": (storage.indexes, ("unused_indexes", "unindexed_tables")),
    "Replication": (replication.draw, ("replication",)),
    "Wraparound": (storage.wraparound, ("wraparound",)),
}
"""Sections in order: what draws them, and the readings they need."""


def draw(view: View) -> None:
    """The section chosen. What needs attention in all of them together stands under Status."""
    chosen = st.segmented_control(
        "Section",
        list(SECTIONS),
        default="Traffic",
        key="pg_section",
        bind="query-params",
        required=True,
        label_visibility="collapsed",
    )
    section, needs = SECTIONS.get(chosen or "Traffic", SECTIONS["Traffic"])
    read.ahead(view, *needs)
    section(view)
