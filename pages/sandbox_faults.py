"""Break something: make a service of the sandbox fail, to see what the console makes of it."""

from __future__ import annotations

import streamlit as st

from adapters.core import AdapterError, services
from operations import health, sandbox
from operations.access import Forbidden, Permission
from pages.widgets import session, state, table
from pages.widgets.page import Page, link

PAGE = Page(
    slug="sandbox_faults",
    title="Break something",
    section="Sandbox",
    path="/platform/sandbox",
    permission=Permission.INFRA_OPERATE,
    icon=":material/bug_report:",
    order=10,
    sandbox=True,
    summary="Fault switches of the sandbox.",
)
FAULTS = {
    "none": "Works",
    "refuse": "Refuses connections",
    "reset": "Resets connections",
    "hang": "Takes calls, never answers",
    "drip": "One byte a second",
    "500": "Answers 500",
    "401": "Answers 401",
    "garbage": "Answers garbage",
    "huge": "Answers 100 MB",
}


def render() -> None:
    """Draw one switch per service."""
    who = session.actor()
    st.markdown(
        "Everything here is local and made up, so breaking it is safe. The console only knows the addresses that "
        "these switches stand in front of: it learns of a fault the way it would learn of a real outage."
    )
    try:
        faults = sandbox.faults(session.platform(), who)
    except AdapterError as error:
        st.error(f"{state.plain(error.sentence)} {state.plain(error.advice)}", icon=":material/error:")
        return
    known = services()
    if not faults:
        table.empty("No switches", "The sandbox offers none.")
        return
    with st.grid(2, min_column_width=320, gap=14):
        for slug in sorted(
            faults, key=lambda slug: (slug not in known, list(known).index(slug) if slug in known else 0)
        ):
            _switch(slug, known[slug].title if slug in known else slug, faults[slug] or "none")


def _switch(slug: str, title: str, current: str) -> None:
    key = f"fault_{slug}"
    with st.container(
        border=True, horizontal=True, horizontal_alignment="distribute", vertical_alignment="center", key=f"row_{slug}"
    ):
        if slug in services():
            now = health.now(session.platform(), slug)
            st.markdown(f"**{state.plain(title)}**  \n{state.badge(now.health.state)}", width=150)
        else:
            st.markdown(f"**{state.plain(title)}**")
        options = list(FAULTS) if current in FAULTS else [*FAULTS, current]
        st.selectbox(
            f"Fault of {title}",
            options,
            index=options.index(current),
            format_func=lambda fault: FAULTS.get(fault, fault),
            key=key,
            on_change=_set,
            args=(slug, key),
            label_visibility="collapsed",
            width=240,
        )
        if slug in services():
            link(slug, "Open")


def _set(slug: str, key: str) -> None:
    fault = st.session_state[key]
    try:
        sandbox.set_fault(session.platform(), session.actor(), slug, None if fault == "none" else fault)
    except (AdapterError, Forbidden) as error:
        st.toast(state.plain(str(error)), icon=":material/error:")
