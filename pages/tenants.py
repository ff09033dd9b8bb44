"""Tenants: search, and what one of them is and uses."""

from __future__ import annotations

import streamlit as st

from operations import change, tenants
from operations.access import Permission
from pages.tenants_parts import adding, leaving
from pages.widgets import charts, session, state, table
from pages.widgets.page import Page

PAGE = Page(
    slug="tenants",
    title="Tenants",
    section="Platform",
    path="/platform/tenants",
    permission=Permission.TENANTS_VIEW,
    icon=":material/apartment:",
    order=10,
    summary="The customers of the platform: tier, status, agents and usage.",
)
PER_PAGE = 20
USAGE_DAYS = 30
_TONE = {"past_due": "degraded", "suspended": "down", "offboarding": "degraded"}


def render() -> None:
    """Draw the list, or what the address names: one tenant, the form for a new one, or how far that one is."""
    if st.query_params.get(adding.ADD):
        adding.draw()
    elif made := st.query_params.get(adding.MADE):
        adding.made(made)
    elif chosen := st.query_params.get("tenant"):
        _detail(chosen)
    else:
        leaving.draw()
        _list()


def _list() -> None:
    who, platform = session.actor(), session.platform()
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        words = st.text_input(
            "Search",
            key="q",
            bind="query-params",
            placeholder="Search by name or id",
            icon=":material/search:",
            label_visibility="collapsed",
            width=320,
        )
        adding.button()
    page = int(st.session_state.get("tenants_page", 1))
    found = tenants.search(platform, who, (words or "").strip(), PER_PAGE, (page - 1) * PER_PAGE)
    if not found.rows and page > 1:
        found = tenants.search(platform, who, (words or "").strip(), PER_PAGE, 0)
    if not found.rows:
        if words:
            table.empty("No tenant matches", "Search looks at names and ids.")
        else:
            table.empty("No tenants yet", "Tenants appear here as soon as the first signs up.")
        return
    table.draw(
        ("Tenant", "Tier", "Status", "Agents", "Since"),
        (
            (
                f"<a href='/{PAGE.url}?tenant={state.text(t.id)}' target='_self'><b>{state.text(t.name)}</b></a>"
                f"<br><code>{state.text(t.id)}</code>",
                state.text(t.tier),
                _status(t.status),
                f"{t.agents:,}",
                table.when(t.created_at),
            )
            for t in found.rows
        ),
        right=(3,),
        quiet=(4,),
    )
    pages = max(1, -(-found.total // PER_PAGE))
    with st.container(horizontal=True, vertical_alignment="center"):
        if pages > 1:
            st.pagination(pages, key="tenants_page")
        st.markdown(f":gray[{found.total:,} tenants]")


def _status(status: str) -> str:
    """Active in plain letters; whatever else, so that it stands out."""
    said = state.text(state.words(status))
    return said if status == "active" else f"<span class='ph-pill ph-{_TONE.get(status, 'unknown')}'>{said}</span>"


def _places(tenant: tenants.TenantRow) -> None:
    """What the tenant is called where else it lives, each with the way there."""
    known = (
        ("Mails go to", tenant.contact_email, "email"),
        ("Keycloak realm", tenant.keycloak_realm, "auth"),
        ("Keycloak group", tenant.keycloak_group, "auth"),
        ("Lago customer", tenant.lago_customer_id, "billing"),
        ("Lago subscription", tenant.lago_subscription_id, "billing"),
        ("Qdrant collection", tenant.qdrant_collection, "qdrant"),
        ("S3 prefix", tenant.s3_prefix, "storage"),
        ("SomaBrain tenant", tenant.somabrain_tenant, "somabrain"),
    )
    rows = [
        (what, f"<a href='/{page}' target='_self'><code>{state.text(name)}</code></a>")
        for what, name, page in known
        if name
    ]
    if rows:
        st.markdown("#### Where it lives")
        table.draw(("What", "Name there"), rows, quiet=(0,))


def _detail(tenant_id: str) -> None:
    who, platform = session.actor(), session.platform()
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        if st.button("All tenants", icon=":material/arrow_back:", type="tertiary"):
            del st.query_params["tenant"]
            st.rerun()
        try:
            tenant = tenants.get(platform, who, tenant_id)
        except change.NotFound:
            table.empty("No such tenant", "It may have been removed, or the address is mistyped.")
            return
        leaving.button(tenant.id, tenant.status)
    leaving.draw(tenant.id)
    facts = {
        "Tier": tenant.tier,
        "Status": state.words(tenant.status),
        "Agents": f"{tenant.agents:,}",
        "Since": state.moment(tenant.created_at)[:10],
    }
    cells = "".join(f"<div><small>{name}</small><b>{state.text(value)}</b></div>" for name, value in facts.items())
    tone = "healthy" if tenant.status == "active" else _TONE.get(tenant.status, "unknown")
    st.html(
        f'<div class="ph-banner ph-{tone}"><div><h2>{state.text(tenant.name)}</h2>'
        f"<p><code>{state.text(tenant.id)}</code></p></div><div class='ph-facts'>{cells}</div></div>"
    )
    _places(tenant)
    st.markdown(f"#### Usage of the last {USAGE_DAYS} days")
    usage = tenants.usage(platform, who, tenant_id, USAGE_DAYS)
    if not usage:
        table.empty("No usage on record", "Usage appears a day after the first call.")
        return
    with st.grid(2, min_column_width=320):
        for key, days in usage.items():
            with st.container(border=True, gap="xxsmall"):
                st.markdown(f"**{state.plain(state.words(key))}**")
                charts.draw(
                    charts.bars([f"{d.day:%d %b}" for d in days], {"used": [float(d.amount) for d in days]}),
                    key=f"usage_{key}",
                    alt=f"{key} per day",
                    height=160,
                )
