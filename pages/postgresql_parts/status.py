"""Status: what the server is, how full it is, what needs attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from adapters.core import State, Unit
from pages.postgresql_parts import findings, read
from pages.widgets import cached, state, table

if TYPE_CHECKING:
    from pages.widgets.template import View


def draw(view: View) -> None:
    """Facts, findings and databases."""
    if view.now.health.state is State.UNCONFIGURED:
        return
    read.ahead(view, "server", *findings.NEEDS, "databases")
    server = read.shown(view, "server", "the server's facts")
    if server is not None:
        # Version, latency and connections stand in the header and the metrics above.
        facts = (
            ("Role", server.role, "a primary takes writes, a standby only reads"),
            ("Up for", state.span(server.uptime_s), state.moment(server.started_at)),
            ("Connections kept back", str(server.reserved), "for superusers, of the maximum"),
            ("Database", server.database, f"as user {server.user}"),
        )
        cells = "".join(
            f'<div title="{state.text(tip)}"><small>{state.text(name)}</small><b>{state.text(value)}</b></div>'
            for name, value, tip in facts
        )
        st.html(f'<div class="ph-facts row">{cells}</div>')
        st.progress(
            min(1.0, server.connections_percent / 100),
            text=f"{server.connections_percent:.0f} % of the connections an ordinary user may take",
        )
    findings.draw(view)
    st.markdown("#### Databases")
    databases = read.shown(view, "databases", "database sizes")
    if databases is None:
        return
    if not databases:
        table.empty("No databases", "The user sees none it may connect to.")
        return
    table.draw(
        ("Database", "Size", "Connections"),
        (
            (
                f"<b>{state.text(d.name)}</b>",
                "not allowed to see" if d.size_bytes is None else state.number(d.size_bytes, Unit.BYTES),
                state.text(d.connections),
            )
            for d in databases
        ),
        right=(1, 2),
    )
    st.markdown(cached.age(read.quiet(view, "databases")))
