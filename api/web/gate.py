"""The gate: nothing but the open paths is reached without a session, over HTTP or WebSocket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Set
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.core import AdapterError
from api.web import paths, signin_page

log = logging.getLogger(__name__)

MAX_BODY = 6 * 1024 * 1024
MAX_URL = 8192
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_POLICY_VIOLATION = 1008


class TooLarge(Exception):
    """A request body went over the cap while it was read."""


class Gate:
    """ASGI middleware. ``resolve`` tells, blocking, whether a session id is a living session's;
    ``also_open`` are further paths that reveal nothing, the redirects."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        resolve: Callable[[str], object | None],
        public_url: str,
        also_open: Set[str] = frozenset(),
    ) -> None:
        self.app = app
        self.resolve = resolve
        self.also_open = also_open
        public = urlsplit(public_url)
        self._origin = f"{public.scheme}://{public.netloc}"
        self._hosts = frozenset({public.hostname or "", "127.0.0.1", "localhost", "::1"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, redirect to signing in, or pass on with the session's id in a header of our own."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        scope = dict(scope)
        scope["headers"] = [(name, value) for name, value in scope["headers"] if name.lower() != paths.HEADER]
        path = scope["path"] = paths.normal(scope["path"])
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers, path)
        if refusal is not None:
            await _refuse(scope, receive, send, refusal)
            return
        if not paths.is_open(path) and path not in self.also_open:
            sid = session_id(headers)
            try:
                known = sid is not None and await asyncio.to_thread(self.resolve, sid) is not None
            except AdapterError as error:
                log.warning("a session could not be looked up: %s", error.sentence)
                await _refuse(scope, receive, send, away(error))
                return
            if sid is None or not known:
                await _refuse(scope, receive, send, _unknown(scope, headers, path))
                return
            scope["headers"].append((paths.HEADER, sid.encode("ascii")))
        if scope["type"] == "http":
            await self._capped(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers, path: str) -> Response | None:
        host = _hostname(headers.get("host", ""))
        if host not in self._hosts and not path.startswith("/api/v2/health/"):
            return PlainTextResponse("This address is not the console's.", 421)
        if len(path) + len(scope.get("query_string", b"")) > MAX_URL:
            return PlainTextResponse("The address is too long.", 414)
        if paths.is_absent(path):
            return PlainTextResponse("Not found.", 404)
        if (scope["type"] == "websocket" or scope.get("method") not in _SAFE) and not self._own(headers):
            log.warning("refused a %s from a foreign origin", scope["type"])
            return PlainTextResponse("Requests from other sites are refused.", 403)
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY:
            return PlainTextResponse("The request is too large.", 413)
        return None

    def _own(self, headers: Headers) -> bool:
        """Whether the request comes from our own pages, or from a program that sends no Origin."""
        origin = headers.get("origin")
        return origin is None or origin == self._origin or urlsplit(origin).netloc == headers.get("host")

    async def _capped(self, scope: Scope, receive: Receive, send: Send) -> None:
        size, begun = 0, False

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > MAX_BODY:
                raise TooLarge
            return message

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, counted, noted)
        except TooLarge:
            if not begun:
                await PlainTextResponse("The request is too large.", 413)(scope, receive, send)


def session_id(headers: Headers) -> str | None:
    """The session id in the request's cookies, if it looks like one of ours."""
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(paths.COOKIE)
    except CookieError:
        return None
    value = morsel.value if morsel is not None else ""
    return value if 16 <= len(value) <= 256 and value.isascii() and value.isprintable() else None


def away(error: AdapterError) -> Response:
    """The console cannot look sessions up now: say so, and that nobody was signed out by it."""
    html = signin_page.notice("The console cannot look up your session", f"{error.sentence} {error.advice}")
    return HTMLResponse(html, 503, {"Retry-After": "5"})


def _hostname(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _unknown(scope: Scope, headers: Headers, path: str) -> Response:
    """What somebody without a session gets: browsers the way to sign in, everything else 401."""
    if scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and not path.startswith(("/_stcore/", "/media/")):
        query = scope.get("query_string", b"").decode("latin-1")
        target = paths.wanted(path + (f"?{query}" if query else ""))
        suffix = f"?next={quote(target, safe='')}" if target != "/" else ""
        return RedirectResponse(paths.SIGN_IN + suffix, 303)
    return PlainTextResponse("Sign in first.", 401)


async def _refuse(scope: Scope, receive: Receive, send: Send, response: Response) -> None:
    if scope["type"] == "websocket":
        # Before accepting, a close is answered to the client as HTTP 403.
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": "refused"})
        return
    await response(scope, receive, send)
