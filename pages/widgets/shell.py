"""What stands around every page: who is there, the navigation, the bar above, the search."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import streamlit as st

from adapters.core import AdapterError
from operations import tenants
from operations.access import Actor, Permission
from pages.widgets import session, state
from pages.widgets.page import SECTIONS, Page, all_pages, register, renderer, target

STATIC = "/app/static"
"""Where the browser finds the files of pages/static: as files they would be read and hashed again for every run."""
HOME = "overview"
FOUND = 8


def run() -> None:
    """Draw the page the address names, for the person who is there; only the sign-in card for nobody."""
    # Without an icon here the browser would fetch each page's own from outside.
    st.set_page_config(
        page_title="Pilothouse", page_icon=f"{STATIC}/icon.png", layout="wide", initial_sidebar_state=248
    )
    try:
        who = session.present()
    except AdapterError as error:
        # Sessions are in PostgreSQL: without it nobody can be told from anybody.
        session.failed(error)
        st.stop()
    if who is None:
        session.signed_out()
    pages = {
        slug: st.Page(
            _guarded(slug),
            title=page.title,
            icon=page.icon,
            url_path=page.url,
            default=slug == HOME,
            visibility="visible" if who.may(page.permission) else "hidden",
        )
        for slug, page in offered().items()
    }
    register(pages)
    sections: dict[str, list[st.Page]] = {section: [] for section in SECTIONS}
    for slug, entry in pages.items():
        sections[all_pages()[slug].section].append(entry)
    st.logo(f"{STATIC}/logo.svg", size="large", icon_image=f"{STATIC}/icon.svg")
    chosen = st.navigation({name: entries for name, entries in sections.items() if entries}, expanded=True)
    slug = next((slug for slug, entry in pages.items() if entry is chosen), HOME)
    _bar(all_pages()[slug], who)
    chosen.run()


def offered() -> dict[str, Page]:
    """The pages this console has, by slug: those of the sandbox only on one."""
    sandbox = session.platform().settings.is_sandbox
    return {slug: page for slug, page in all_pages().items() if sandbox or not page.sandbox}


def address(page: Page) -> str:
    """Path of a page in the browser."""
    return "/" if page.slug == HOME else f"/{page.url}"


@cache
def _guarded(slug: str) -> Callable[[], None]:
    """The page behind its own check: each run asks again who is there and what they may."""
    page = all_pages()[slug]

    def enter() -> None:
        if not session.actor().may(page.permission):
            session.explain_denied(page)
            return
        try:
            renderer(slug)()
        except AdapterError as error:
            session.failed(error)

    return enter


def _bar(page: Page, who: Actor) -> None:
    with st.container(
        horizontal=True, wrap=False, horizontal_alignment="distribute", vertical_alignment="center", key="topbar"
    ):
        st.html(f'<div class="ph-crumb">{crumb(page)}</div>', width="content")
        with st.container(horizontal=True, horizontal_alignment="right", gap="xsmall", width="content"):
            if st.button("Search", icon=":material/search:", shortcut="Ctrl+K", key="search", help="Pages and tenants"):
                _search(who)
            with st.popover(who.name, icon=":material/account_circle:"):
                _person(who)


def crumb(page: Page) -> str:
    """Where the page is, as HTML."""
    sandbox = session.platform().settings.is_sandbox
    environment = '<span class="ph-env" title="Everything here is local and made up">sandbox</span>' if sandbox else ""
    section = f'<span class="sec">{state.text(page.section)} /</span>' if page.section else ""
    return f"{section}<b>{state.text(page.title)}</b>{environment}"


def _person(who: Actor) -> None:
    roles = " ".join(f":blue-badge[{role.replace('_', ' ')}]" for role in sorted(who.roles)) or ":gray[no roles]"
    email = f"  \n:gray[{state.plain(who.email)}]" if who.email else ""
    st.markdown(f"**{state.plain(who.name)}**{email}\n\n{roles}")
    st.html('<a class="ph-out" href="/sign-out" target="_self">Sign out</a>')


@st.dialog("Search", width="medium", icon=":material/search:")
def _search(who: Actor) -> None:
    wanted = st.text_input(
        "Search pages and tenants",
        key="search_for",
        placeholder="A page, a service, a tenant…",
        label_visibility="collapsed",
        live=True,
    )
    words = (wanted or "").strip().casefold()
    found = [
        page
        for page in offered().values()
        if who.may(page.permission)
        and words in f"{page.title} {page.section} {page.slug} {page.path} {page.summary}".casefold()
    ]
    found.sort(key=lambda page: (not page.title.casefold().startswith(words), words not in page.title.casefold()))
    for page in found[:FOUND]:
        st.page_link(target(page.slug), label=f"{page.title}  :gray[{page.section}]", icon=page.icon)
    matches = _tenants(who, words) if words else []
    for tenant in matches:
        st.page_link(
            target("tenants"),
            label=f"{state.plain(tenant.name)}  :gray[tenant · {state.plain(tenant.tier)}]",
            icon=":material/apartment:",
            query_params={"tenant": tenant.id},
        )
    if not found and not matches:
        st.markdown(":gray[Nothing found. Tenants are found by name or id.]")


def _tenants(who: Actor, words: str) -> list[tenants.TenantRow]:
    if not who.may(Permission.TENANTS_VIEW):
        return []
    return list(tenants.search(session.platform(), who, words, FOUND, 0).rows)
