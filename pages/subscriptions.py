"""Tiers: what each may do, and how many tenants have it."""

from __future__ import annotations

import streamlit as st

from adapters.core import Unit
from operations import subscriptions
from operations.access import Permission
from pages.widgets import charts, session, state, table
from pages.widgets.page import Page, link, slug_at

PAGE = Page(
    slug="subscriptions",
    title="Subscriptions",
    section="Platform",
    path="/platform/subscriptions",
    permission=Permission.TENANTS_VIEW,
    icon=":material/layers:",
    order=20,
    summary="Tiers, their prices and quotas, and the tenants on each.",
)


def render() -> None:
    """Draw the page."""
    tiers = list(subscriptions.tiers(session.platform(), session.actor()))
    if not tiers:
        table.empty("No tiers yet", "Tiers appear here as soon as one exists.")
        return
    with st.grid(min(4, len(tiers)), min_column_width=200):
        for tier in tiers:
            _tier(tier)
    st.markdown("#### Quotas")
    names = list(dict.fromkeys(name for tier in tiers for name in tier.quotas))
    table.draw(
        ("Quota", *(tier.name for tier in tiers)),
        ((_words(name), *(_quota(tier.quotas, name) for tier in tiers)) for name in names),
        right=range(1, len(tiers) + 1),
    )
    st.caption(
        "**Unlimited** is no limit at all; **0** is a limit of nothing, and blocks. "
        "These are the quotas of the tier: the limits enforced on single requests are the rate limits."
    )
    link(slug_at("redis-ratelimits"), "Rate limits", icon=":material/speed:")
    if any(tier.tenants for tier in tiers):
        st.markdown("#### Tenants per tier")
        charts.draw(
            charts.bars([tier.name for tier in tiers], {"tenants": [tier.tenants for tier in tiers]}),
            key="tenants_per_tier",
            alt="Tenants per tier: " + ", ".join(f"{tier.name} {tier.tenants}" for tier in tiers),
            height=200,
        )


def _tier(tier: subscriptions.Tier) -> None:
    price = "Custom" if tier.price_cents is None else state.number(tier.price_cents, Unit.CENTS, tier.currency)
    month = "" if tier.price_cents is None else "<small>a month</small>"
    public = "public" if tier.public else "on request"
    with st.container(key=f"card-tier-{tier.code}"):
        st.html(
            f'<div class="ph-card"><header><b>{state.text(tier.name)}</b><span class="ph-src">{public}</span></header>'
            f'<div class="v">{state.text(price)}{month}</div>'
            f'<div class="f"><span>{tier.tenants} tenants</span></div></div>'
        )


def _quota(quotas: dict[str, float | None], name: str) -> str:
    if name not in quotas:
        return "–"
    value = quotas[name]
    return "Unlimited" if value is None else f"<b>{value:,.10g}</b>"


def _words(name: str) -> str:
    return state.text(state.words(name))
