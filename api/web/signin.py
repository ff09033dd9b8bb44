"""The routes of signing in and out, over the OIDC operations."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from adapters.core import AdapterError
from api.web import paths, signin_page
from api.web.gate import session_id
from operations import oidc
from operations.platform import Platform

log = logging.getLogger(__name__)

PENDING_SECONDS = 600
PENDING_PATH = "/auth"
_NAVIGATION = ("same-origin", "none", None)


def routes(platform: Platform, titles: Mapping[str, str]) -> list[Route]:
    """The routes. ``titles`` maps page addresses to page titles, to say where a person is going."""
    handlers = SignIn(platform, titles)
    return [
        Route(paths.SIGN_IN, handlers.page, methods=["GET"]),
        Route(paths.START, handlers.start, methods=["GET"]),
        Route(paths.CALLBACK, handlers.callback, methods=["GET"]),
        Route(paths.SIGNED_OUT, handlers.signed_out, methods=["GET"]),
        *(Route(path, handlers.sign_out, methods=["GET", "POST"]) for path in paths.SIGN_OUT),
    ]


class SignIn:
    """The handlers, over one platform."""

    def __init__(self, platform: Platform, titles: Mapping[str, str]) -> None:
        self.platform = platform
        self.titles = titles
        self.secure = platform.settings.public_url.startswith("https://")

    async def page(self, request: Request) -> Response:
        """The page that says where the person is going and offers to sign in."""
        return self._page(paths.wanted(request.query_params.get("next")))

    async def signed_out(self, _request: Request) -> Response:
        """Where Keycloak sends people back to after it has ended their session."""
        return self._page("/", signed_out=True)

    async def start(self, request: Request) -> Response:
        """Send the browser to Keycloak, with what must come back in a cookie of ten minutes."""
        wanted = paths.wanted(request.query_params.get("next"))
        try:
            url, pending = await asyncio.to_thread(oidc.begin, self.platform.settings, wanted)
        except (AdapterError, oidc.SignInError) as error:
            log.warning("sign-in could not begin: %s", error)
            return self._page(wanted, problem=f"Keycloak cannot be asked right now. {error}", status=503)
        response = RedirectResponse(url, 303)
        self._cookie(response, oidc.STATE_COOKIE, pending, PENDING_SECONDS, PENDING_PATH)
        return response

    async def callback(self, request: Request) -> Response:
        """Come back from Keycloak: make the session, go where the person wanted."""
        pending = request.cookies.get(oidc.STATE_COOKIE)
        try:
            sid, wanted = await asyncio.to_thread(oidc.complete, self.platform, dict(request.query_params), pending)
        except oidc.SignInError as error:
            log.warning("a sign-in was refused: %s", error)
            return self._page("/", problem=str(error), status=400)
        except AdapterError as error:
            log.warning("a sign-in could not finish: %s", error)
            return self._page("/", problem=f"The sign-in could not be finished. {error}", status=503)
        response = RedirectResponse(paths.wanted(wanted), 303)
        self._cookie(response, paths.COOKIE, sid, int(self.platform.settings.session_hours * 3600), "/")
        response.delete_cookie(oidc.STATE_COOKIE, path=PENDING_PATH)
        return response

    async def sign_out(self, request: Request) -> Response:
        """End the session here and at Keycloak. A link on another site cannot do this to somebody."""
        if request.headers.get("sec-fetch-site") not in _NAVIGATION:
            return PlainTextResponse("Sign out from the console itself.", 403)
        target: str = paths.SIGNED_OUT
        sid = session_id(request.headers)
        if sid is not None:
            try:
                target = await asyncio.to_thread(oidc.logout_url, self.platform, sid) or target
            except AdapterError as error:
                log.warning("the session could not be ended everywhere: %s", error)
        response = RedirectResponse(target, 303)
        response.delete_cookie(paths.COOKIE, path="/")
        return response

    def _page(self, wanted: str, *, problem: str = "", signed_out: bool = False, status: int = 200) -> Response:
        title = self.titles.get(wanted.partition("?")[0]) if wanted != "/" else None
        html = signin_page.render(
            wanted=wanted,
            title=title,
            problem=problem,
            sandbox=self.platform.settings.is_sandbox,
            signed_out=signed_out,
        )
        return HTMLResponse(html, status)

    def _cookie(self, response: Response, name: str, value: str, seconds: int, path: str) -> None:
        response.set_cookie(name, value, max_age=seconds, path=path, httponly=True, samesite="lax", secure=self.secure)
