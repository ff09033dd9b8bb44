"""What a page shows before its scripts have run: its head with the last known numbers, and the navigation.

The scripts take a browser a second or more. Until then the index page itself says what is known, and its links
work; pages/static/first.js takes it away as soon as the page has the same to show.
"""

from __future__ import annotations

import logging
from itertools import groupby

from adapters.core import AdapterError
from operations import health, sessions
from operations.access import Actor
from operations.platform import Platform
from pages.widgets import shell, state, template
from pages.widgets.page import Page, modules

log = logging.getLogger(__name__)

_LAST = ("ph-card", "ph-banner")
"""What comes last of a head: once the page has drawn it, the rest is there."""


def view(platform: Platform, path: str, sid: str) -> str:
    """The HTML for the page at ``path`` and the person of the session; empty where there is nothing to show."""
    wanted = f"/{path.strip('/')}"
    page = next((page for page in shell.offered().values() if shell.address(page) == wanted), None)
    try:
        who = sessions.resolve(platform, sid)
        if page is None or who is None or not who.may(page.permission):
            return ""
        head = _head(platform, page, who)
    except AdapterError as error:
        log.info("a page begins without what is known: %s", error.sentence)
        return ""
    until = next((one for one in _LAST if f'class="{one}' in head), "ph-crumb")
    return (
        f'<div id="ph-first" data-until=".{until}">{_navigation(page, who)}<main>'
        f'<div class="ph-first-top"><div class="ph-crumb">{shell.crumb(page)}</div></div>{head}</main></div>'
    )


def _head(platform: Platform, page: Page, who: Actor) -> str:
    own = getattr(modules()[page.slug], "first", None)
    if own is not None:
        return str(own(platform, who))
    return template.banner(page, health.now(platform, page.service)) if page.service else ""


def _navigation(here: Page, who: Actor) -> str:
    seen = [page for page in shell.offered().values() if who.may(page.permission)]
    parts = []
    for section, pages in groupby(seen, key=lambda page: page.section):
        links = "".join(
            f'<a href="{shell.address(page)}"{current}>{state.text(page.title)}</a>'
            for page in pages
            for current in (' aria-current="page"' if page is here else "",)
        )
        parts.append((f"<b>{state.text(section)}</b>" if section else "") + links)
    return f'<nav aria-label="Pages"><img src="{shell.STATIC}/logo.svg" alt="Pilothouse">{"".join(parts)}</nav>'
