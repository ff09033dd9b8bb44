"""The index page of every address, told where the console is."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.web import paths

_BEFORE = b'<script type="module"'
_TAG = b'<script src="/app/static/base.js"></script>'
_NOT_PAGES = ("/api/", "/_stcore/", "/media/", "/component/", "/metrics")


class Index:
    """ASGI middleware: the page asks for its connection at the root at once.

    Left to itself Streamlit's script takes ``/tenants`` for a place the console might be installed under,
    asks there first, and each first look at a page begins with two answers of 404.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

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
                    await _release(held, send)
                return
            await send(message)

        await self.app(scope, receive, added)


async def _release(held: list[Message], send: Send) -> None:
    start, *parts = held
    body = b"".join(part.get("body", b"") for part in parts)
    if _TAG not in body:
        body = body.replace(_BEFORE, _TAG + _BEFORE, 1)
    headers = MutableHeaders(raw=list(start["headers"]))
    headers["content-length"] = str(len(body))
    await send({**start, "headers": headers.raw})
    await send({"type": "http.response.body", "body": body})
