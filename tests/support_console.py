"""A console without pages, to be killed: ``python -m tests.support_console SEED``, settings from the environment.

Runs the outbox relay as every console does and changes rate limits until it is ended.
"""

from __future__ import annotations

import random
import sys

from operations import ratelimits
from operations.access import SYSTEM
from operations.change import Conflict, NotFound, StoreUnavailable
from operations.outbox import Relay
from operations.platform import Platform
from operations.ratelimits import Edit, Scope, Target
from operations.settings import Settings

KEYS = ("api_calls", "file_uploads", "llm_tokens")
TENANTS = tuple(f"tenant-{number}" for number in range(6))
ACTION = "ratelimit.killed"


def wish(chance: random.Random) -> list[Edit]:
    """One to three edits of one key: its policy, a tier's, or a tenant's override set or cleared."""
    key, edits = chance.choice(KEYS), {}
    for _ in range(chance.choice((1, 1, 1, 3))):
        scope = chance.choice((Scope.GLOBAL, Scope.TIER, Scope.TENANT, Scope.TENANT))
        reference = {Scope.GLOBAL: "", Scope.TIER: "team"}.get(scope) or ""
        if scope is Scope.TENANT:
            reference = chance.choice(TENANTS)
        clears = scope is Scope.TENANT and chance.random() < 0.25
        target = Target(key, scope, reference)
        edits[target] = Edit(target, None if clears else {"limit": chance.randrange(1_000_000)})
    return list(edits.values())


def main(seed: int) -> None:
    """Change limits for ever."""
    platform, chance = Platform(Settings()), random.Random(seed)
    Relay(platform, every=0.2).start()
    while True:
        try:
            ratelimits.save(platform, SYSTEM, wish(chance), reason="a change", action=ACTION)
        except (Conflict, NotFound, StoreUnavailable):
            continue


if __name__ == "__main__":
    main(int(sys.argv[1]))
