"""Opening a page as somebody, without a browser."""

from __future__ import annotations

import time
from collections.abc import Mapping

from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from operations import sessions
from operations.platform import Platform
from pages.widgets.page import all_pages
from pages.widgets.shell import HOME
from tests.support import ROOT

SECONDS = 30


def signed_in(platform: Platform, *roles: str) -> str:
    """Session id of a new person with these roles."""
    who = "-".join(roles) or "nobody"
    claims = {
        "sub": f"person-{who}",
        "name": f"Person {who}",
        "email": f"{who}@example.test",
        "realm_access": {"roles": list(roles)},
        "exp": time.time() + 3600,
    }
    return sessions.create(platform, claims, {})


def opened(slug: str, sid: str | None, query: Mapping[str, str] | None = None) -> AppTest:
    """The page, run once for the person of the session."""
    app = AppTest.from_file(ROOT / "pages" / "main.py", default_timeout=SECONDS)
    app.user = {} if sid is None else {"sid": sid}
    for name, value in (query or {}).items():
        app.query_params[name] = value
    # Pages here are functions, and AppTest switches only between files: the address's hash is what a browser sends.
    app._page_hash = calc_hash("" if slug == HOME else all_pages()[slug].url)
    app.run()
    return app


def texts(app: AppTest) -> str:
    """Everything the page says, as one text."""
    kinds = ("html", "markdown", "error", "warning", "info", "success", "expander", "code")
    return "\n".join(
        str(getattr(element, "value", None) or getattr(element, "label", ""))
        for kind in kinds
        for element in app.get(kind)
    )
