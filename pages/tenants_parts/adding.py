"""Adding a tenant: the form, and how far the run is that makes it."""

from __future__ import annotations

import streamlit as st

from operations import subscriptions, tenant_lifecycle
from operations.access import Permission
from operations.tenant_moving import workflow_id
from operations.tenant_systems import ID_ALLOWED, TenantSpec
from operations.workflow_catalogue import PROVISIONING
from pages.tenants_parts import progress
from pages.widgets import forms, session, state, table

ADD, MADE = "new", "made"
"""Parameters of the page's address: the form is open; the tenant whose making is shown."""
_FIELDS = ("tenants_new_id", "tenants_new_name", "tenants_new_tier", "tenants_new_email", "tenants_new_reason")


def button() -> None:
    """The way to the form, for those who may."""
    if session.allowed(Permission.TENANTS_MANAGE) and st.button("Add tenant", icon=":material/add:", key="tenants_add"):
        st.query_params[ADD] = "1"
        st.rerun()


def draw() -> None:
    """The form. What was typed stays until the run has begun."""
    who, platform = session.actor(), session.platform()
    if not who.may(Permission.TENANTS_MANAGE):
        table.empty("You may not add tenants", "It needs the role platform admin or infra admin.")
        return
    tiers = {tier.code: tier.name for tier in subscriptions.tiers(platform, who)}
    st.markdown("#### Add a tenant")
    st.markdown(
        ":gray[It is made in every system: a Keycloak group, a Lago customer and subscription, a Qdrant collection, "
        "an S3 prefix and a SomaBrain namespace. Where one of them fails, nothing is left behind.]"
    )
    if not tiers:
        table.empty("No tiers yet", "A tenant is on a tier: there must be one first.")
        return
    with st.container(border=True):
        left, right = st.columns(2)
        ident = left.text_input("Id", key=_FIELDS[0], max_chars=63, placeholder="acme", help=f"{ID_ALLOWED}. It stays.")
        name = right.text_input("Name", key=_FIELDS[1], max_chars=tenant_lifecycle.NAME_LIMIT, placeholder="Acme Inc.")
        tier = left.selectbox("Tier", list(tiers), key=_FIELDS[2], format_func=lambda code: tiers.get(code, code))
        email = right.text_input(
            "Mail address", key=_FIELDS[3], max_chars=254, placeholder="boss@acme.example",
            help="The welcome mail goes there, and the bills.",
        )  # fmt: skip
        reason = forms.reason_field(_FIELDS[4])
        with st.container(horizontal=True):
            go = st.button("Make the tenant", type="primary", key="tenants_new_go")
            if st.button("Cancel", type="tertiary", key="tenants_new_stop"):
                _leave()
        if go:
            spec = TenantSpec(ident or "", name or "", tier or "", email or "")
            begun = progress.attempt(lambda: tenant_lifecycle.provision(platform, who, spec, reason or ""))
            if begun is not None:
                st.query_params[MADE] = spec.tenant.strip()
                _leave()


def made(tenant: str) -> None:
    """How far the making of a tenant is, drawn anew until it has ended."""
    st.markdown(f"#### Making {state.plain(tenant)}")
    with st.container(border=True):
        progress.live(workflow_id(PROVISIONING, tenant))
    with st.container(horizontal=True):
        if st.button("Open the tenant", key="tenants_made_open"):
            _go(tenant=tenant)
        if st.button("All tenants", type="tertiary", key="tenants_made_all"):
            _go()


def _leave() -> None:
    for key in _FIELDS:
        st.session_state.pop(key, None)
    st.query_params.pop(ADD, None)
    st.rerun()


def _go(**where: str) -> None:
    st.query_params.pop(MADE, None)
    for name, value in where.items():
        st.query_params[name] = value
    st.rerun()
