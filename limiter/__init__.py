"""Rate limits that are administered elsewhere and obeyed here.

Depends on redis-py only. See docs/limiter.md. ``limiter.aio``, ``limiter.asgi`` and ``limiter.django`` are imported
by whoever needs them.
"""

from limiter.lease import LeasedLimiter
from limiter.model import Decision, KeyPolicies, Mode, OnFailure, Rule, Scope
from limiter.resolve import Effective, resolve
from limiter.sync import Limiter

__all__ = [
    "Decision", "Effective", "KeyPolicies", "LeasedLimiter", "Limiter", "Mode", "OnFailure", "Rule", "Scope", "resolve",
]  # fmt: skip
