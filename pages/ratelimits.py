"""Rate limits: every face of one subject, one computed per run."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from operations.access import Actor, Permission
from operations.platform import Platform
from pages.ratelimits_parts import (
    card,
    common,
    exchange,
    explain,
    history,
    live,
    overrides,
    policies,
    review,
    tiers,
    typed,
    whatif,
)
from pages.widgets import session
from pages.widgets.page import Page

PAGE = Page(
    slug="ratelimits",
    title="Rate limits",
    section="Data",
    path="/platform/infrastructure/redis/ratelimits",
    permission=Permission.RATELIMIT_VIEW,
    icon=":material/speed:",
    order=25,
    summary="What every tenant, tier and agent may use: set here, obeyed everywhere at once, explained and proved.",
)
FACES: dict[str, Callable[[common.View], None]] = {
    "Policies": policies.draw,
    "Tiers": tiers.draw,
    "Overrides": overrides.draw,
    "Live": live.draw,
    "Explain": explain.draw,
    "What if": whatif.draw,
    "History": history.draw,
    "Import and export": exchange.draw,
}


GRIDS = {"Policies": policies.NAME, "Tiers": tiers.NAME}


def first(_platform: Platform, _who: Actor) -> str:
    """What the page shows before its scripts run."""
    return card.head()


def render() -> None:
    """Draw the head and the face that is open; the others cost nothing."""
    view = common.View(session.platform(), session.actor())
    card.banner()
    chosen = st.segmented_control(
        "Face",
        list(FACES),
        default="Policies",
        required=True,
        key="face",
        bind="query-params",
        label_visibility="collapsed",
    )
    if not view.edits:
        common.locked()
    _elsewhere(chosen or "Policies")
    FACES.get(chosen or "Policies", policies.draw)(view)


def _elsewhere(chosen: str) -> None:
    """Remind of typing that waits in another face."""
    waiting = [face for face, name in GRIDS.items() if face != chosen and typed.unsaved(review.draft(name))]
    if waiting:
        st.markdown(f":orange[:material/edit_note: Unsaved changes in {' and '.join(waiting)}.]")
