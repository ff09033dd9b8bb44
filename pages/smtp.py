"""The page of mail: the queue of what the platform sends, and what the server says of itself."""

from typing import cast

from adapters.core import Unit
from adapters.smtp import SMTP
from pages.smtp_parts import queue
from pages.widgets import listing, state
from pages.widgets.page import service_page
from pages.widgets.template import View, service

PAGE = service_page("smtp", icon=":material/mail:")
LIMITS = (
    "The platform's own mails wait in a queue and leave one by one; a tenant is told of a limit once per window. "
    "The mail server applies its own limits to everything else."
)


def render() -> None:
    """Draw the page."""
    service(PAGE, more={"Queue": queue.draw}, monitor=_monitor, limits=LIMITS)


def _monitor(view: View) -> None:
    adapter = cast(SMTP, view.adapter)
    told = listing.known(view, "conversation", "Conversation", adapter.converse, every=30.0)
    if told is None:
        return
    limit = told.size_limit
    listing.facts(
        (
            ("Greeting", told.greeting[:80] or "–", "the server's first line"),
            ("Encryption", told.encrypted or "none", "of this conversation"),
            ("Signed in", "yes" if told.signed_in else "no", "with the configured user name"),
            ("Round trip", state.number(told.latency_ms, Unit.MILLISECONDS), "one NOOP"),
            ("Largest message", state.number(limit, Unit.BYTES) if limit else "not told", "as announced by SIZE"),
        )
    )
    listing.shown(
        sorted(told.extensions.items()),
        ("Extension", "Parameters"),
        lambda one: (f"<code>{state.text(one[0].upper())}</code>", state.text(one[1] or "–")),
        nothing="The server announces no extension.",
    )
