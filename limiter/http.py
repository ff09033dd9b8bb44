"""A decision as HTTP: 429, Retry-After, and the RateLimit fields of draft-ietf-httpapi-ratelimit-headers-10."""

from __future__ import annotations

import json
import math

from limiter.model import Decision


def headers(decision: Decision) -> dict[str, str]:
    """``RateLimit-Policy`` and ``RateLimit`` (nothing for an unlimited subject), and ``Retry-After`` when rejected."""
    found: dict[str, str] = {}
    if decision.limit is not None and not decision.degraded:
        name = json.dumps(decision.key)
        found["RateLimit-Policy"] = f"{name};q={decision.limit};w={decision.window_seconds}"
        found["RateLimit"] = f"{name};r={decision.remaining or 0};t={math.ceil(decision.reset_after)}"
    if not decision.allowed and decision.retry_after is not None:
        found["Retry-After"] = str(max(1, math.ceil(decision.retry_after)))
    return found


def problem(decision: Decision) -> bytes:
    """The body of a 429: RFC 9457 problem details."""
    if decision.degraded:
        detail = f"The limit of {decision.key} cannot be checked now."
    elif decision.limit == 0:
        detail = f"{decision.key} is not available to you."
    else:
        detail = f"The limit of {decision.limit} {decision.key} per {decision.window_seconds} s is used up."
    body = {
        "type": "urn:pilothouse:problem:rate-limited", "title": "Too many requests", "status": 429, "detail": detail,
        "limit": decision.limit, "used": decision.used, "retry_after": decision.retry_after,
    }  # fmt: skip
    return json.dumps(body).encode()
