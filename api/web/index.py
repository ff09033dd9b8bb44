"""The index page of every address: where the console is, its keys and styles, and what is known before scripts run."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from functools import lru_cache

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.web import paths

log = logging.getLogger(__name__)

FIRST_SECONDS = 0.3
"""How long the page waits for what it may show at once; without it the page is what it was."""

_BEFORE = b'<script type="module"'
_TAG = (
    b'<script defer src="/app/static/base.js"></script><script defer src="/app/static/first.js"></script>'
    b'<script defer src="/app/static/shell.js"></script>'
)
_ROOT = b'<div id="root">'
_FONT = re.compile(r'<link\s+rel="preload"\s+href="[^"]*SourceSans[^"]*"[^>]*/>\s*')
_SHEET = re.compile(r'<link rel="stylesheet"[^>]*>\s*')
_TITLE = re.compile(r"<title>[^<]*</title>")
_NOT_SERVED = re.compile(r'(<!--(?:(?!-->).)*?RFC 8631.*?-->\s*)?<link rel="service-desc"[^>]*/>\s*', re.DOTALL)
_NO_SCRIPT = re.compile(r"<noscript>.*?</noscript>", re.DOTALL)
_NOT_PAGES = ("/api/", "/_stcore/", "/media/", "/component/", "/metrics")


class Index:
    """ASGI middleware: the page asks for its connection at the root at once.

    Left to itself Streamlit's script takes ``/tenants`` for a place the console might be installed under,
    asks there first, and each first look at a page begins with two answers of 404. The keys of the search are there
    from the first moment: as an element of the page they came after everything else.
    """

    def __init__(self, app: ASGIApp, *, sheet: str = "", first: Callable[[str, str], str] | None = None) -> None:
        """``sheet`` are the rules of all pages; ``first`` tells, blocking, by path and session what a page shows
        before its scripts run, as HTML."""
        self.app = app
        self._style = f"<style>{sheet}</style>".encode() if sheet else b""
        self._first = first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; add the script to an HTML page of Streamlit's."""
        path = scope.get("path", "")
        if scope["type"] != "http" or scope["method"] != "GET" or paths.is_asset(path) or path.startswith(_NOT_PAGES):
            await self.app(scope, receive, send)
            return
        # A compressed page could not be added to; it is small.
        scope = {**scope, "headers": [(k, v) for k, v in scope["headers"] if k.lower() != b"accept-encoding"]}
        held: list[Message] = []

        async def added(message: Message) -> None:
            if message["type"] == "http.response.start":
                if Headers(raw=message["headers"]).get("content-type", "").startswith("text/html"):
                    held.append(message)
                    return
            elif held and message["type"] == "http.response.body":
                held.append(message)
                if not message.get("more_body"):
                    await self._release(held, send, await self._known(scope))
                return
            await send(message)

        await self.app(scope, receive, added)

    async def _known(self, scope: Scope) -> bytes:
        sid = Headers(scope=scope).get(paths.HEADER.decode(), "")
        if self._first is None or not sid:
            return b""
        try:
            work = asyncio.to_thread(self._first, scope["path"], sid)
            return (await asyncio.wait_for(work, FIRST_SECONDS)).encode()
        except TimeoutError:
            return b""
        except Exception:  # the page itself does without, and tells better what is wrong
            log.exception("what a page shows first could not be made")
            return b""

    async def _release(self, held: list[Message], send: Send, known: bytes) -> None:
        start, *parts = held
        body = _dressed(b"".join(part.get("body", b"") for part in parts))
        body = body.replace(_ROOT, self._style + known + _ROOT, 1)
        headers = MutableHeaders(raw=list(start["headers"]))
        headers["content-length"] = str(len(body))
        await send({**start, "headers": headers.raw})
        await send({"type": "http.response.body", "body": body})


@lru_cache(maxsize=4)
def _dressed(body: bytes) -> bytes:
    """The page is the same for everyone, so it is made once."""
    if _TAG in body:
        return body
    # Until its script runs the page speaks of Streamlit, and of an interface for programs that is not offered here.
    page = _TITLE.sub("<title>Pilothouse</title>", body.decode("utf-8"), count=1)
    page = _NO_SCRIPT.sub("<noscript>Pilothouse needs JavaScript.</noscript>", _NOT_SERVED.sub("", page))
    # What it loads ahead is a font this console does not use.
    page = _FONT.sub(
        '<link rel="preload" href="/app/static/inter-latin-wght-normal.woff2" as="font" crossorigin>', page
    )
    # Nothing is painted before the style sheet, which would come after sixty scripts on six connections.
    sheets = "".join(_SHEET.findall(page))
    return _SHEET.sub("", page).encode("utf-8").replace(_BEFORE, sheets.encode() + _TAG + _BEFORE, 1)
