"""Middleware for any ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from limiter.aio import AsyncLimiter
from limiter.http import headers, problem
from limiter.model import Decision
from limiter.sync import Limiter

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Identify = Callable[[Scope], "tuple[str, str | None, str | None, int] | None"]


class RateLimitMiddleware:
    """Answers 429 where the limiter rejects, and tells every caller where it stands.

    ``identify`` gives key, tenant, agent and cost of a request, or None for one that is not limited.
    """

    def __init__(self, app: App, limiter: Limiter | AsyncLimiter, identify: Identify) -> None:
        self.app, self.limiter, self.identify = app, limiter, identify

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        who = self.identify(scope) if scope["type"] == "http" else None
        if who is None:
            await self.app(scope, receive, send)
            return
        decision = await self._check(who)
        extra = [(name.lower().encode(), value.encode()) for name, value in headers(decision).items()]
        if not decision.allowed:
            body = problem(decision)
            kind = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 429, "headers": kind + extra})
            await send({"type": "http.response.body", "body": body})
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        await self.app(scope, receive, with_headers)

    async def _check(self, who: tuple[str, str | None, str | None, int]) -> Decision:
        if isinstance(self.limiter, AsyncLimiter):
            return await self.limiter.check(*who)
        return await asyncio.to_thread(self.limiter.check, *who)
