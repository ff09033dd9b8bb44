"""Signing in and out: OIDC authorization code with PKCE against Keycloak.

The pending sign-in (state, nonce, verifier, wanted page) travels in an encrypted cookie of ten minutes, so that
any replica can finish what another began.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Any

from cryptography.fernet import InvalidToken
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from adapters.core import AdapterError
from api.web import paths, signin_page
from api.web.gate import session_id
from operations import sessions
from operations.platform import Platform

log = logging.getLogger(__name__)

PENDING = "pilothouse_pending"
PENDING_SECONDS = 600
_NAVIGATION = ("same-origin", "none", None)


def routes(platform: Platform, titles: Mapping[str, str]) -> list[Route]:
    """The routes. ``titles`` maps page addresses to page titles, to say where a person is going."""
    handlers = SignIn(platform, titles)
    return [
        Route(paths.SIGN_IN, handlers.page, methods=["GET"]),
        Route(paths.START, handlers.start, methods=["GET"]),
        Route(paths.CALLBACK, handlers.callback, methods=["GET"]),
        Route(paths.SIGNED_OUT, handlers.signed_out, methods=["GET"]),
        Route(paths.SIGN_OUT, handlers.sign_out, methods=["GET", "POST"]),
    ]


class SignIn:
    """The handlers, over one platform."""

    def __init__(self, platform: Platform, titles: Mapping[str, str]) -> None:
        self.platform = platform
        self.titles = titles
        settings = platform.settings
        self.secure = settings.public_url.startswith("https://")
        self.redirect_uri = settings.public_url + paths.CALLBACK

    async def page(self, request: Request) -> Response:
        """The page that says where the person is going and offers to sign in."""
        return self._page(paths.wanted(request.query_params.get("next")))

    async def signed_out(self, _request: Request) -> Response:
        """Where Keycloak sends people back to after it has ended their session."""
        return self._page("/", signed_out=True)

    async def start(self, request: Request) -> Response:
        """Send the browser to Keycloak."""
        wanted = paths.wanted(request.query_params.get("next"))
        try:
            begun = await asyncio.to_thread(sessions.begin_sign_in, self.platform, self.redirect_uri)
        except AdapterError as error:
            log.warning("sign-in could not begin: %s", error.sentence)
            return self._page(wanted, problem=f"Keycloak cannot be asked right now. {error.sentence}", status=503)
        pending = {"state": begun.state, "nonce": begun.nonce, "verifier": begun.verifier, "wanted": wanted}
        response = RedirectResponse(begun.url, 303)
        self._cookie(response, PENDING, self._seal(pending), PENDING_SECONDS)
        return response

    async def callback(self, request: Request) -> Response:
        """Come back from Keycloak: check, make the session, go where the person wanted."""
        pending = self._unseal(request.cookies.get(PENDING, ""))
        query = request.query_params
        wanted = paths.wanted(pending.get("wanted"))
        if not pending or not query.get("state") or query["state"] != pending["state"]:
            return self._page(wanted, problem="This sign-in was not begun here, or took too long.", status=400)
        if "error" in query or not query.get("code"):
            log.warning("Keycloak refused a sign-in: %s", query.get("error", "no code")[:100])
            return self._page(wanted, problem="Keycloak refused the sign-in.", status=403)
        try:
            made = await asyncio.to_thread(
                sessions.finish_sign_in,
                self.platform,
                code=query["code"],
                verifier=pending["verifier"],
                nonce=pending["nonce"],
                redirect_uri=self.redirect_uri,
            )
        except AdapterError as error:
            log.warning("sign-in could not finish: %s", error.sentence)
            return self._page(wanted, problem=f"The sign-in could not be finished. {error.sentence}", status=503)
        response = RedirectResponse(wanted, 303)
        self._cookie(response, paths.COOKIE, made.sid, int(self.platform.settings.session_hours * 3600))
        response.delete_cookie(PENDING, path="/")
        return response

    async def sign_out(self, request: Request) -> Response:
        """End the session here and at Keycloak. A link on another site cannot do this to somebody."""
        if request.headers.get("sec-fetch-site") not in _NAVIGATION:
            return PlainTextResponse("Sign out from the console itself.", 403)
        target = f"{self.platform.settings.public_url}{paths.SIGNED_OUT}"
        sid = session_id(request.headers)
        if sid is not None:
            try:
                target = await asyncio.to_thread(sessions.end, self.platform, sid, target) or target
            except AdapterError as error:
                log.warning("the Keycloak session could not be ended: %s", error.sentence)
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

    def _cookie(self, response: Response, name: str, value: str, seconds: int) -> None:
        response.set_cookie(name, value, max_age=seconds, path="/", httponly=True, samesite="lax", secure=self.secure)

    def _seal(self, pending: dict[str, str]) -> str:
        return self.platform.settings.fernet.encrypt(json.dumps(pending).encode()).decode()

    def _unseal(self, sealed: str) -> dict[str, Any]:
        try:
            pending: dict[str, Any] = json.loads(self.platform.settings.fernet.decrypt(sealed, PENDING_SECONDS))
        except (InvalidToken, ValueError, TypeError):
            return {}
        return pending
