"""The page of a service: what all of them have in common, and places for what is particular.

A page gives one function per face it has something of its own to show in::

    def render() -> None:
        service(PAGE, status=collections, limits="Limits of the cluster apply to all collections together.")

Each function receives a :class:`View` and draws after the common part of its face; on Monitor before it,
because what goes on now matters more than its history.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import streamlit as st

from operations import health
from operations.access import Actor, Permission
from operations.platform import Platform
from pages.widgets import faces, session, state
from pages.widgets.page import Page, link, slug_at

if TYPE_CHECKING:
    from adapters.core import Adapter
    from operations.health import ServiceNow

FACES = ("Status", "Configure", "Monitor", "Limits")
LIVE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class View:
    """What a face has at hand while it draws."""

    page: Page
    slug: str
    platform: Platform
    actor: Actor
    now: ServiceNow

    @property
    def adapter(self) -> Adapter[Any]:
        """The service's adapter with the configuration in force."""
        return self.platform.adapters[self.slug]

    def may(self, permission: Permission) -> bool:
        """Whether the person has the permission: for hiding, the operation checks for itself."""
        return self.actor.may(permission)


Part = Callable[[View], None]


def service(
    page: Page,
    *,
    status: Part | None = None,
    configure: Part | None = None,
    monitor: Part | None = None,
    limits: Part | str = "The console sets no limits for this service.",
    more: Mapping[str, Part] | None = None,
    settings: bool = True,
) -> None:
    """Draw the page of ``page.service``: header, then the face that is open.

    Status and Monitor redraw themselves while open; Configure and Limits do not, so that nothing
    moves under the hands of somebody who types. ``more`` are faces of the service's own, after Status;
    what of them is to be live is a fragment of their own making. ``settings=False`` leaves the service's
    settings off Status, for a page that shows them better elsewhere.
    """
    slug = page.service or page.slug
    platform, actor = session.platform(), session.actor()
    _header(page, slug)
    own = dict(more or {})
    names = (FACES[0], *own, *FACES[1:])
    tabs = st.tabs(names, key=f"face_{slug}", bind="query-params")
    view = View(page, slug, platform, actor, health.now(platform, slug))
    draw: dict[str, Callable[[], None]] = {
        **{name: partial(_still, view, part) for name, part in own.items()},
        "Status": lambda: _live(page, slug, faces.status, status, faces.reported if settings else None),
        "Configure": lambda: _still(view, faces.configure, configure),
        "Monitor": lambda: _live(page, slug, monitor, faces.monitor),
        "Limits": lambda: _limits(view, limits),
    }
    for name, tab in zip(names, tabs, strict=True):
        if tab.open:
            with tab:
                draw[name]()


@st.fragment(run_every=LIVE_SECONDS)
def _header(page: Page, slug: str) -> None:
    """The banner, and what to do where something is wrong."""
    session.actor()
    now = health.now(session.platform(), slug)
    st.html(banner(page, now))
    if now.health.state.failing or now.depends_down:
        faces.trouble(now)


def banner(page: Page, now: ServiceNow) -> str:
    """Name, state, sentence and the numbers that say how fresh all this is, as HTML."""
    told = now.health
    facts = [
        ("State for", state.since(now.since), state.moment(now.since)),
        ("Check took", "–" if told.latency_ms is None else f"{told.latency_ms:.0f} ms", "latency of the last check"),
        ("Checked", f"{state.since(told.checked_at)} ago", state.moment(told.checked_at)),
        ("Version", told.version or "–", "as the service reports it"),
    ]
    note = ""
    m = now.headline or next((m for m in now.known if m.headline), None)
    if m is not None:
        full = state.exact(m.value, m.unit, m.currency)
        facts.insert(0, (m.label, state.number(m.value, m.unit, m.currency), f"{full} {m.note}".strip()))
        note = m.note if now.headline else f"{state.since(now.known_at)} ago"
    cells = "".join(
        f'<div title="{state.text(title)}"><small>{state.text(name)}</small><b>{state.text(value)}</b>'
        + (f"<em>{state.text(note)}</em>" if note and not place else "")
        + "</div>"
        for place, (name, value, title) in enumerate(facts)
    )
    return (
        f'<div class="ph-banner ph-{told.state.value}"><div>'
        f"<h2>{state.text(page.title)} &nbsp;{state.pill(told.state)}</h2>"
        f"<p>{state.text(told.message)}</p></div><div class='ph-facts'>{cells}</div></div>"
    )


@st.fragment(run_every=LIVE_SECONDS)
def _live(page: Page, slug: str, *parts: Part | None) -> None:
    platform, actor = session.platform(), session.actor()
    view = View(page, slug, platform, actor, health.now(platform, slug))
    _still(view, *parts)


def _still(view: View, *parts: Part | None) -> None:
    for part in parts:
        if part is not None:
            part(view)


def _limits(view: View, limits: Part | str) -> None:
    if callable(limits):
        limits(view)
        return
    st.markdown("#### Limits")
    st.markdown(limits)
    if view.may(Permission.RATELIMIT_VIEW):
        link(slug_at("redis-ratelimits"), "Rate limits of the platform", icon=":material/speed:")
