"""The API obeys the limiter too: so many requests per token, as the policy ``console_api`` says."""

from __future__ import annotations

import hashlib
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


def identify(scope: MutableMapping[str, Any]) -> tuple[str, str | None, str | None, int] | None:
    """Whoever asks: the token (as a hash), the session (as a hash), or the address."""
    if scope["path"].removeprefix(scope.get("root_path", "")) in FREE:
        return None
    headers = Headers(scope=scope)
    secret = headers.get("authorization") or session_id(headers)
    if secret:
        return KEY, "caller-" + hashlib.sha256(secret.encode()).hexdigest()[:16], None, 1
    client = scope.get("client")
    return KEY, f"address-{client[0] if client else 'unknown'}", None, 1


class _Throttle(RateLimitMiddleware):
    """Takes the platform's limiter when the first request comes: making the API connects to nothing."""

    def __init__(self, app: App, platform: Platform) -> None:
        self.app, self.identify, self._platform = app, identify, platform

    async def _check(self, who: tuple[str, str | None, str | None, int]) -> Any:
        self.limiter = self._platform.limiter
        return await super()._check(who)


def install(api: FastAPI, platform: Platform) -> None:
    """Limit every route but the probes."""
    api.add_middleware(_Throttle, platform=platform)
