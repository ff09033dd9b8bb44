"""Usage on its way to Lago: what waits, what it does not take, and what nobody can be billed for."""

from __future__ import annotations

from functools import partial

import streamlit as st

from operations import usage_sync
from operations.usage_sync import HandedOver, Refused, Unbillable
from operations.workflow_catalogue import USAGE_SYNC
from pages.widgets import listing, runs, state, table
from pages.widgets.template import View


def draw(view: View) -> None:
    """The section "Usage handed over"."""
    fetch = partial(usage_sync.handed_over, view.platform, view.actor)
    now = listing.known(view, "handed_over", "Usage handed over", fetch, every=5.0)
    if now is None:
        return
    _numbers(now)
    if now.refused:
        st.markdown("##### Events Lago does not take")
        st.caption("They are offered again every hour. Correct what Lago says, and they go through by themselves.")
        listing.shown(
            now.refused, ("Hour (UTC)", "Tenant", "Limit", "Units", "Tries", "Lago says"), _refused, nothing="",
            quiet=(0,), right=(3, 4),
        )  # fmt: skip
        _cut(len(now.refused), now.refused_count)
    if now.unbillable:
        st.markdown("##### Units nobody can be billed for")
        st.caption("They stay counted. Once the tenant has a subscription and Lago the metric, they are billed.")
        listing.shown(
            now.unbillable, ("Since", "Tenant", "Limit", "Units", "Of them over", "Because"), _unbillable, nothing="",
            quiet=(0,), right=(3, 4),
        )  # fmt: skip
        _cut(len(now.unbillable), now.unbillable_count)
    runs.draw(view, USAGE_SYNC, title="Latest runs of usage-sync")


def _numbers(now: HandedOver) -> None:
    age = f"the oldest since {state.since(now.waiting_since)}" if now.waiting_since else "nothing waits"
    last = f"{state.since(now.sent_at)} ago" if now.sent_at else "never"
    listing.facts(
        (
            ("Events waiting", f"{now.waiting:,}", f"{now.waiting_units:,} units, {age}"),
            ("Sent today", f"{now.sent_today:,} units", "since midnight UTC"),
            ("Last event sent", last, state.moment(now.sent_at)),
            ("Refused", f"{now.refused_count:,} events", "Lago finds fault with them"),
            ("Unbillable", f"{now.unbillable_units:,} units", "counted, and nobody to bill"),
        )
    )
    st.caption(
        f"Events are kept for {usage_sync.EVENTS_KEPT.days} days after Lago has taken them; counted usage stays."
    )
    if now.last_error:
        st.markdown(f":orange-badge[:material/error: The last try] {state.plain(now.last_error)}")


def _cut(drawn: int, whole: int) -> None:
    if drawn < whole:
        st.caption(f"The first {drawn} of {whole:,}.")


def _refused(one: Refused) -> tuple[str, ...]:
    return (
        f"{one.hour:%Y-%m-%d %H:00}",
        state.text(one.tenant),
        f"<code>{state.text(one.key)}</code>",
        f"{one.units:,}",
        f"{one.attempts:,}",
        state.text(one.why),
    )


def _unbillable(one: Unbillable) -> tuple[str, ...]:
    return (
        table.when(one.since),
        state.text(one.tenant),
        f"<code>{state.text(one.key)}</code>",
        f"{one.units:,}",
        f"{one.over:,}",
        state.text(one.why),
    )
