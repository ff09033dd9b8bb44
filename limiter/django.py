"""Middleware for Django (synchronous). Django is imported when a call is rejected, and not a dependency.

The setting RATELIMIT is ``{"limiter": limiter, "identify": identify}``, where ``identify(request)`` gives key, tenant,
agent and cost, such as ``("api_calls", "acme", None, 1)``, or None for a request that is not limited.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from limiter.http import headers, problem

GetResponse = Callable[[Any], Any]


class RateLimitMiddleware:
    """As limiter.asgi's. Takes ``limiter`` and ``identify`` from the setting RATELIMIT, or as arguments."""

    def __init__(self, get_response: GetResponse, limiter: Any = None, identify: Any = None) -> None:
        self.get_response = get_response
        if limiter is None:
            chosen = importlib.import_module("django.conf").settings.RATELIMIT
            limiter, identify = chosen["limiter"], chosen["identify"]
        self.limiter, self.identify = limiter, identify

    def __call__(self, request: Any) -> Any:
        """The application's response with the fields added, or a 429."""
        who = self.identify(request)
        if who is None:
            return self.get_response(request)
        decision = self.limiter.check(*who)
        if decision.allowed:
            response = self.get_response(request)
        else:
            make = importlib.import_module("django.http").HttpResponse
            response = make(problem(decision), status=429, content_type="application/problem+json")
        for name, value in headers(decision).items():
            response[name] = value
        return response
