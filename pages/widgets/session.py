"""Who is looking at the page."""

from __future__ import annotations

from typing import NoReturn
from urllib.parse import quote, urlsplit

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from adapters.core import AdapterError
from operations import platform as platforms
from operations import sessions
from operations.access import Actor, Permission, roles_with
from operations.platform import Platform
from pages.widgets import state
from pages.widgets.page import Page


def platform() -> Platform:
    """The assembled platform of this process."""
    return platforms.current()


def present() -> Actor | None:
    """The signed-in person, resolved again on every run; None when there is none or the session has ended."""
    sid = _sid()
    return sessions.resolve(platform(), sid) if sid else None


def _sid() -> str:
    """The session's id, as the gate found it in the cookie; empty where there is none."""
    # Not st.user: that looks for a file of secrets each time, of which there is none.
    context = get_script_run_ctx()
    sid = context.user_info.get("sid") if context is not None else None
    return sid if isinstance(sid, str) else ""


def actor() -> Actor:
    """The signed-in person. Without one the run ends with the card that leads back to signing in."""
    who = present()
    if who is None:
        context = get_script_run_ctx()
        if context is not None and context.fragment_ids_this_run:
            # A live part noticed first: the whole page gives way to the card, not that part alone.
            st.rerun(scope="app")
        signed_out()
    return who


def failed(error: AdapterError) -> None:
    """A service this very page stands on failed: its sentence, what to do, and the raw text."""
    with st.container(border=True, key="failed"):
        st.markdown(f"#### :material/error: {state.plain(error.sentence)}\n\n{state.plain(error.advice)}")
        st.markdown(":gray[The page tries again as soon as you reload it.]")


def allowed(permission: Permission) -> bool:
    """Whether the person has the permission; for hiding what they may not use, never for guarding it."""
    return actor().may(permission)


def here() -> str:
    """Path and query of the page in the browser, for coming back after signing in."""
    parts = urlsplit(st.context.url or "/")
    query = "&".join(f"{quote(key)}={quote(value)}" for key, value in st.query_params.items())
    return (parts.path or "/") + (f"?{query}" if query else "")


def signed_out() -> NoReturn:
    """Show that the session has ended, with the way back to this very page, and stop the run."""
    ended = bool(_sid())
    with st.container(key="ended", horizontal_alignment="center"):
        st.markdown(
            "### :material/lock_clock: Your session has ended" if ended else "### :material/lock: Please sign in"
        )
        st.markdown(
            "Nothing was lost on the server. Sign in again to come back to this page."
            if ended
            else "This console shows nothing to people it does not know."
        )
        st.html(f'<a class="ph-go" href="/sign-in?next={quote(here(), safe="")}" target="_self">Sign in</a>')
    st.stop()


def explain_denied(page: Page) -> None:
    """The page's name, why the person may not enter, and whom to ask."""
    st.markdown(f"## {page.icon} {page.title}")
    roles = ", ".join(f"**{role.replace('_', ' ')}**" for role in roles_with(page.permission))
    with st.container(border=True, key="denied"):
        st.markdown(f"#### :material/lock: You may not open this page\n\n{page.summary}")
        st.markdown(
            f"It needs the permission `{page.permission}`, which none of your roles grants. "
            f"Ask someone who is {roles}, or ask a **platform admin** to give you one of these roles in Keycloak."
        )
