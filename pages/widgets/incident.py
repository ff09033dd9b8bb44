"""What people see when a page fails in a way nobody foresaw: a calm card, and a number to ask about."""

from __future__ import annotations

import contextlib
import logging
import secrets

import streamlit as st

from adapters.core import AdapterError
from pages.widgets import session

log = logging.getLogger("pilothouse")


def show(error: BaseException) -> bool:
    """Show the card; the traceback goes to the server's log alone. True: nothing more is to be shown."""
    if isinstance(error, AdapterError):
        with contextlib.suppress(Exception):
            session.failed(error)
        return True
    number = secrets.token_hex(4)
    log.error("incident %s on a page", number, exc_info=error)
    with contextlib.suppress(Exception):
        st.html(
            "<div class='ph-empty' role='alert'><b>This part of the page failed</b>The rest of the console works. "
            "Reload to try again; if it stays, give whoever runs it the incident number "
            f"<code>{number}</code>.</div>"
        )
    return True
