"""Replication, slots, WAL and its archive."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from adapters.core import Unit
from adapters.postgresql_stats import advice
from pages.postgresql_parts import read
from pages.postgresql_parts.findings import judged
from pages.widgets import cached, state, table

if TYPE_CHECKING:
    from adapters.postgresql_stats.replication import Replication
    from pages.widgets.template import View


def draw(view: View) -> None:
    """WAL in one line, then standbys and slots."""
    st.markdown("#### Replication and WAL")
    told: Replication | None = read.shown(view, "replication", "replication")
    if told is None:
        return
    judged(advice.replication(told), "Standbys keep up, no slot holds WAL back, the archive works where there is one.")
    files = "not allowed to see; grant pg_monitor" if told.wal_files_bytes is None else state.number(
        told.wal_files_bytes, Unit.BYTES
    )  # fmt: skip
    archive = "off"
    if told.archiving:
        archive = f"on, last {state.since(told.last_archived)} ago, {told.archive_failures} failures"
    lag = f" Replay lag **{told.lag_s:.1f} s**." if told.standby and told.lag_s is not None else ""
    st.markdown(
        f"{'A standby' if told.standby else 'A primary'} at `{told.lsn}`. WAL files **{files}**, written "
        f"**{state.number(told.wal_bytes_written, Unit.BYTES)}** since the statistics were reset. "
        f"Archive {archive}.{lag}"
    )
    st.markdown("##### Standbys")
    if told.replicas:
        table.draw(
            ("Standby", "From", "State", "Kind", "Behind", "Behind in time"),
            (
                (
                    state.text(r.name),
                    state.text(r.client),
                    state.text(r.state),
                    state.text(r.sync),
                    "–" if r.lag_bytes is None else state.number(r.lag_bytes, Unit.BYTES),
                    "idle" if r.lag_s is None else f"{r.lag_s:.1f} s",
                )
                for r in told.replicas
            ),
            right=(4, 5),
        )
    else:
        table.empty("No standby is connected", "Losing this server loses what was written since the last backup.")
    st.markdown("##### Replication slots")
    if told.slots:
        table.draw(
            ("Slot", "Kind", "Read", "WAL", "Keeps"),
            (
                (
                    state.text(s.name),
                    state.text(s.kind),
                    "yes" if s.active else "<b>nobody</b>",
                    state.text(s.wal_status),
                    "–" if s.retained_bytes is None else state.number(s.retained_bytes, Unit.BYTES),
                )
                for s in told.slots
            ),
            right=(4,),
        )
    else:
        table.empty("No replication slots")
    st.markdown(cached.age(read.quiet(view, "replication")))
