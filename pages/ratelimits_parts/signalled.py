"""Who came near a limit or passed it, and whether they were told."""

from __future__ import annotations

from functools import partial

import streamlit as st

from operations import ratelimit_signals
from operations.access import SYSTEM
from operations.ratelimit_notices import ADMINS, NO_ADDRESS
from operations.ratelimit_signals import Signal
from pages.ratelimits_parts import common, naming
from pages.ratelimits_parts.common import View
from pages.widgets import cached, session, state, table

LIVE_SECONDS = 5.0
SHOWN = 12
TOLD = {
    "sent": "mail sent",
    "queued": "mail waits",
    "failed": "<b class='ph-bad'>mail failed</b>",
    "canceled": "mail canceled",
    NO_ADDRESS: "<b class='ph-warnings'>no address</b>",
    ADMINS: "<span class='ph-inherits'>admins only</span>",
    "": "<span class='ph-inherits'>not told</span>",
}


@st.fragment(run_every=LIVE_SECONDS)
def draw() -> None:
    """The newest signals. On trial (WARN) only admins see them, here; else the tenant gets a mail."""
    view = View(session.platform(), session.actor())
    st.markdown("#### Signals")
    read = partial(ratelimit_signals.signals, view.platform, SYSTEM, limit=50)
    rows: list[Signal] | None = cached.read("redis:ratelimits-signals", read, "signals", every=LIVE_SECONDS)
    if rows is None:
        return
    if not rows:
        table.empty("No signals", "Nobody has come near a limit in the last 90 days.")
        return
    known = naming.named_by(view, rows)
    table.draw(
        ("When", "Who", "Limit", "What", "Used", "Of", "Tenant told"),
        [
            (
                table.when(row.last_at), naming.who(row.tenant, row.agent, known),
                f"{state.text(row.key)} {common.mode(row.policy)}",
                "<b class='ph-bad'>over</b>" if row.kind == "over" else "<b class='ph-warnings'>near</b>",
                f"{row.used:,}", f"{row.limit:,}", TOLD.get(row.told, state.text(row.told)),
            )
            for row in rows[:SHOWN]
        ],
        quiet=(0,), right=(4, 5),
    )  # fmt: skip
    missing = len({row.tenant for row in rows if row.told == NO_ADDRESS})
    words = f"The newest {min(SHOWN, len(rows))}. A tenant is told once per limit and window."
    if missing:
        words += f" {missing} tenant{'' if missing == 1 else 's'} among the newest {len(rows)} left no address."
    common.hint(words)
