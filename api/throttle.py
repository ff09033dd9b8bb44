"""The API obeys the limiter too, as the policy ``console_api`` says: so many requests per caller.

A caller is who has shown to be somebody: the token or session of a request that was let in lately. Everybody else is
the address they come from, so that guessing tokens, or sending a new one each time, gains nothing.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.datastructures import Headers

from api.web.gate import session_id
from limiter.asgi import App, RateLimitMiddleware

if TYPE_CHECKING:
    from operations.platform import Platform

KEY = "console_api"
FREE = ("/health/live", "/health/ready")
"""Probes of an orchestrator must never be refused."""
KNOWN_SECONDS = 300.0
MOST = 10_000
"""Callers remembered per process."""


class _Callers:
    """Who was let in lately, by the hash of the token or session."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()

    def note(self, caller: str) -> None:
        self._until[caller] = time.monotonic() + KNOWN_SECONDS
        self._until.move_to_end(caller)
        while len(self._until) > MOST:
            self._until.popitem(last=False)

    def __contains__(self, caller: str) -> bool:
        return self._until.get(caller, 0.0) > time.monotonic()


def _caller(scope: MutableMapping[str, Any]) -> str | None:
    """The token or session a request shows, as a hash; nobody knows yet whether it is worth anything."""
    headers = Headers(scope=scope)
    secret = headers.get("authorization") or session_id(headers)
    return "caller-" + hashlib.sha256(secret.encode()).hexdigest()[:16] if secret else None


class _Throttle(RateLimitMiddleware):
    """Takes the platform's limiter when the first request comes: making the API connects to nothing."""

    def __init__(self, app: App, platform: Platform) -> None:
        self.app, self.identify, self._platform = app, self._who, platform
        self._callers = _Callers()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """See ASGI. ``api.auth`` says in the request's state whether the caller was let in."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        await super().__call__(scope, receive, send)
        caller = _caller(scope)
        if caller is not None and state.get("authenticated") is True:
            self._callers.note(caller)

    def _who(self, scope: MutableMapping[str, Any]) -> tuple[str, str | None, str | None, int] | None:
        if scope["path"].removeprefix(scope.get("root_path", "")) in FREE:
            return None
        caller = _caller(scope)
        if caller is not None and caller in self._callers:
            return KEY, caller, None, 1
        client = scope.get("client")
        return KEY, f"address-{client[0] if client else 'unknown'}", None, 1

    async def _check(self, who: tuple[str, str | None, str | None, int]) -> Any:
        self.limiter = self._platform.limiter
        return await super()._check(who)


def install(api: FastAPI, platform: Platform) -> None:
    """Limit every route but the probes."""
    api.add_middleware(_Throttle, platform=platform)
