"""Overrides: exceptions for tenants and agents, those that end soon first."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from limiter import Scope
from operations import ratelimits
from operations.ratelimit_rules import window_text
from operations.ratelimits import Edit, Listing, Policy
from pages.ratelimits_parts import common, override_form, review
from pages.ratelimits_parts.common import View
from pages.widgets import forms, state, table

NAME = "overrides"
PER_PAGE = 25
SCOPES = {"Tenants and agents": (Scope.TENANT, Scope.AGENT), "Tenants": (Scope.TENANT,), "Agents": (Scope.AGENT,)}
WHEN = {"Any time": None, "Within 24 hours": 1, "Within 7 days": 7, "Within 30 days": 30}


def draw(view: View) -> None:
    """Search, one page of overrides, and what can be done with those chosen."""
    made = review.draft(NAME)
    forms.result(made.note)
    keys = [policy.target.key for policy in ratelimits.policies(view.platform, view.actor)]
    filters = _filters(keys)
    at = int(st.session_state.get("ov_page") or 1)
    found = _page(view, filters, at)
    if not found.rows and at > 1:
        at, found = 1, _page(view, filters, 1)
    chosen = _table(view, found, f"{made.generation}_{at}_{hash(str(sorted(filters.items()))) & 0xFFFFFF:x}")
    pages = -(-found.total // PER_PAGE)
    with st.container(horizontal=True, vertical_alignment="center"):
        if pages > 1:
            st.pagination(pages, key="ov_page")
        if found.total:
            common.hint(f"{found.total:,} overrides, soon expiring first")
    if view.edits:
        _actions(view, made, chosen, keys)
        review.draw(view, made)


def _filters(keys: list[str]) -> dict[str, Any]:
    words, key, scope, when = st.columns([3, 2, 2, 2], vertical_alignment="bottom")
    with words:
        wanted = st.text_input(
            "Search", key="ov_q", bind="query-params", placeholder="Tenant, agent or owner", icon=":material/search:"
        )
    with key:
        one = st.selectbox("Key", keys, index=None, key="ov_key", bind="query-params", placeholder="Any key")
    with scope:
        kind = st.selectbox("For", list(SCOPES), key="ov_for", bind="query-params")
    with when:
        soon = st.selectbox("Expires", list(WHEN), key="ov_when", bind="query-params")
    return {
        "query": wanted or "", "key": one, "scopes": SCOPES.get(kind, SCOPES["Tenants and agents"]),
        "expiring_days": WHEN.get(soon),
    }  # fmt: skip


def _page(view: View, filters: dict[str, Any], at: int) -> Listing:
    return ratelimits.listing(view.platform, view.actor, **filters, limit=PER_PAGE, offset=(at - 1) * PER_PAGE)


def _table(view: View, found: Listing, generation: str) -> list[Policy]:
    if not found.rows:
        table.empty("No override matches", "Without one, a tenant gets what its tier gets, or what everyone gets.")
        return []
    frame = pd.DataFrame([_row(policy) for policy in found.rows])
    c = st.column_config
    config = {
        "Limit": c.TextColumn(alignment="right", width=100), "For": c.TextColumn(width=170),
        "Key": c.TextColumn(width=120),
        "Window": c.TextColumn(width=90), "Policy": c.TextColumn(width=75), "Expires": c.TextColumn(width=185),
        "Why": c.TextColumn(width=230), "Owner": c.TextColumn(width=100),
    }  # fmt: skip
    if not view.edits:
        st.dataframe(frame, hide_index=True, column_config=config, height="auto", alt="Overrides")
        return []
    event: Any = st.dataframe(
        frame, hide_index=True, column_config=config, height="auto", on_select="rerun", selection_mode="multi-row",
        key=f"ov_rows_{generation}", alt="Overrides",
    )  # fmt: skip
    return [found.rows[index] for index in event.selection.rows if index < len(found.rows)]


def _row(p: Policy) -> dict[str, Any]:
    agent = p.target.scope is Scope.AGENT
    name = p.name or p.target.reference
    return {
        "For": f"{name} (agent of {p.tenant_id})" if agent else name,
        "Key": p.target.key,
        "Limit": common.amount(p.limit),
        "Window": window_text(p.window_seconds) or "inherits",
        "Policy": p.policy or "inherits",
        "Expires": _expires(p),
        "Warns at": f"{p.warn_percent} %" if p.warn_percent else "inherits",
        "Without Redis": p.on_redis_failure or "inherits",
        "Owner": p.owner,
        "Why": p.reason,
        "Changed": f"{p.updated_by}, {state.short(p.updated_at)}" if p.updated_by else state.short(p.updated_at),
    }


def _expires(p: Policy) -> str:
    if not p.active:
        return "inactive"
    if p.expires_at is None:
        return "never"
    left = -(common.ago(p.expires_at))
    at = p.expires_at.astimezone(state.zone())
    return f"{at:%d %b %H:%M %Z} · {'in ' + state.span(left) if left > 0 else 'expired'}"


def _actions(view: View, made: review.Draft, chosen: list[Policy], keys: list[str]) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(
            f"Clear {len(chosen)}" if chosen else "Clear", key="ov_clear", icon=":material/delete_sweep:",
            disabled=not chosen, help="Those chosen inherit again; shown for review first",
        ):  # fmt: skip
            review.begin(view, made, [Edit(p.target, None, p.version) for p in chosen], [])
        words = f"{len(chosen)} chosen" if chosen else "Choose rows to clear them or to set them to one value together."
        common.hint(f"{words}")
    label = f"Set the {len(chosen)} chosen" if chosen else "Set overrides"
    # A switch and no expander: what is closed costs nothing.
    if st.toggle(label, key="ov_set"):
        with st.container(border=True, key="ov_form"):
            override_form.draw(view, made, chosen, keys)
