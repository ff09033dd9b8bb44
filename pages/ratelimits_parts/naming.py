"""Tenants and agents by name, with their ids in the tooltip."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from operations import ratelimit_subjects
from operations.ratelimit_signals import Signal
from operations.ratelimit_usage import BlockedCall, Subject
from pages.ratelimits_parts.common import View
from pages.widgets import state


def named_by(view: View, rows: Sequence[Subject | BlockedCall | Signal]) -> dict[str, str]:
    """Names by id of every tenant and agent in the rows; asked for once per browser session."""
    wanted = tuple(sorted({row.tenant for row in rows} | {row.agent for row in rows if row.agent}))
    known: dict[str, str] = st.session_state.setdefault("_rl_names", {})
    if any(one not in known for one in wanted):
        found = ratelimit_subjects.names(view.platform, view.actor, wanted, wanted)
        known |= {one: found.get(one, one) for one in wanted}
    return known


def who(tenant: str, agent: str | None, names: dict[str, str]) -> str:
    """A tenant or agent as HTML, by name with the id in the tooltip."""
    name = f"<b>{named(tenant, names)}</b>"
    return f"{name}<br><small>agent {named(agent, names)}</small>" if agent else name


def named(ident: str | None, names: dict[str, str]) -> str:
    """One name as HTML with its id in the tooltip; a dash for nobody."""
    if not ident:
        return "–"
    return f"<span title='{state.text(ident)}'>{state.text(names.get(ident, ident))}</span>"
