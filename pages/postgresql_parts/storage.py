"""Tables, indexes, bloat and wraparound. Lists start from the largest, so a huge catalogue costs no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from adapters.core import Unit
from adapters.postgresql_stats import advice
from pages.postgresql_parts import read
from pages.postgresql_parts.findings import judged
from pages.widgets import cached, state, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adapters.postgresql_stats.tables import Table, Wraparound
    from pages.widgets.template import View


def tables(view: View) -> None:
    """Largest tables, and those that miss an index, hold dead rows, or waste space."""
    st.markdown("#### Tables")
    largest = read.shown(view, "largest_tables", "tables")
    unindexed = read.shown(view, "unindexed_tables", "tables without index")
    dead = read.shown(view, "dead_rows", "dead rows")
    bloated = read.shown(view, "bloat", "the bloat estimate")
    if unindexed is not None and dead is not None and bloated is not None:
        judged(advice.tables(unindexed, dead, bloated), "Indexes are used, vacuum keeps up, little space is wasted.")
    if unindexed:
        st.markdown("##### Read mostly in full: an index is likely missing")
        _tables(unindexed)
    if dead:
        st.markdown("##### Many dead rows")
        _tables(dead)
    if bloated:
        st.markdown("##### Wasted space, by estimate")
        table.draw(
            ("Table", "Size", "Wasted", "Share"),
            (
                (
                    f"<code>{state.text(b.name)}</code>",
                    state.number(b.size_bytes, Unit.BYTES),
                    state.number(b.wasted_bytes, Unit.BYTES),
                    f"{b.percent:.0f} %",
                )
                for b in bloated
            ),
            right=(1, 2, 3),
        )
    if largest is None:
        return
    st.markdown("##### Largest tables")
    if not largest:
        table.empty("No tables", "This database has no tables of its own.")
        return
    _tables(largest)
    st.markdown(cached.age(read.quiet(view, "largest_tables")))


def _tables(rows: Sequence[Table]) -> None:
    table.draw(
        ("Table", "Size", "Rows", "Dead", "Full scans", "Rows a scan", "Index scans", "Vacuumed", "Analysed"),
        (
            (
                f"<code>{state.text(t.name)}</code>",
                state.number(t.total_bytes, Unit.BYTES),
                "not analysed" if t.rows < 0 else state.number(t.rows),
                f"{t.dead_percent:.0f} %",
                state.number(t.seq_scans),
                state.number(t.seq_rows_read / t.seq_scans) if t.seq_scans else "–",
                state.number(t.index_scans),
                table.when(t.last_vacuum),
                table.when(t.last_analyze),
            )
            for t in rows
        ),
        right=(1, 2, 3, 4, 5, 6),
    )


def indexes(view: View) -> None:
    """Indexes nobody reads and broken ones; tables that miss one stand under Tables."""
    st.markdown("#### Indexes")
    suspects = read.shown(view, "unused_indexes", "indexes")
    unindexed = read.shown(view, "unindexed_tables", "tables without index")
    if suspects is not None and unindexed is not None:
        missing = advice.tables(unindexed, (), ())
        judged([*advice.indexes(suspects), *missing], "Every large index is read, none is broken, none seems missing.")
    if unindexed:
        st.markdown("##### Tables that likely miss one")
        _tables(unindexed)
    if suspects is None:
        return
    st.markdown("##### Never read, or invalid")
    if not suspects:
        table.empty("None", "Unique indexes and those behind a constraint are not counted: they guard the data.")
        return
    table.draw(
        ("Index", "Table", "Size", "State", "Definition"),
        (
            (
                f"<code>{state.text(i.name)}</code>",
                f"<code>{state.text(i.table)}</code>",
                state.number(i.size_bytes, Unit.BYTES),
                "never read" if i.valid else "<b>invalid</b>",
                f"<code>{state.text(i.definition)}</code>",
            )
            for i in suspects
        ),
        right=(2,),
    )
    st.markdown(cached.age(read.quiet(view, "unused_indexes")))


def wraparound(view: View) -> None:
    """How many transaction ids are used up, by database and by table."""
    st.markdown("#### Transaction id wraparound")
    found = read.shown(view, "wraparound", "transaction ids")
    if found is None:
        return
    databases, oldest = found
    judged(advice.wraparound(databases), "Freezing keeps up; no database is near the end of its transaction ids.")
    for heading, rows in (("Databases", databases), ("Oldest tables of this database", oldest)):
        st.markdown(f"##### {heading}")
        _ages(rows)
    st.markdown(cached.age(read.quiet(view, "wraparound")))


def _ages(rows: Sequence[Wraparound]) -> None:
    table.draw(
        ("Name", "Transactions since frozen", "Frozen by itself at", "Used"),
        (
            (f"<code>{state.text(w.name)}</code>", state.number(w.age), state.number(w.freeze_at), f"{w.percent:.2f} %")
            for w in rows
        ),
        right=(1, 2, 3),
    )
