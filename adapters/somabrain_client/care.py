"""Sleep and the outbox of SomaBrain: what is asked of it, in the newer and in the older way."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import httpx

from adapters.core.http import NotSupported, request

STATES = ("active", "light", "deep", "freeze")
"""Modes of sleep, from wide awake to not taking part at all."""
MAX_TTL_SECONDS = 3600
SECONDS = 20.0
"""Falling asleep consolidates first, which is more than a question."""
_PHASES: dict[str, dict[str, bool]] = {"light": {"nrem": True, "rem": False}, "deep": {"nrem": True, "rem": True}}
"""What versions without modes do instead: a consolidation at once."""


def asked_for(tenant: str | None) -> dict[str, str]:
    """The header that says whose memory is meant."""
    return {"x-tenant-id": tenant} if tenant else {}


def sleep(http: httpx.Client, tenant: str | None, target: str, ttl_seconds: int) -> str:
    """Bring a tenant's memory into a mode; the words for what was done.

    Raises AdapterError, NotSupported where this version has neither the mode nor what came before it.
    """
    body: dict[str, Any] = {"target_state": target}
    if target != "active":
        body["ttl_seconds"] = ttl_seconds
    try:
        _post(http, "/api/sleep/brain/mode", tenant, body)
    except NotSupported as error:
        phases = _PHASES.get(target)
        if phases is None:
            raise NotSupported(f"This SomaBrain has no mode {target}.", detail=error.detail) from error
        try:
            _post(http, "/sleep/run", tenant, phases)
        except NotSupported as older:
            raise NotSupported(
                "This SomaBrain can neither be put to sleep nor consolidated from outside.", detail=older.detail
            ) from older
        return "consolidated at once: this version has no modes of sleep"
    return target


def replay(http: httpx.Client, ids: Collection[int], tenant: str | None = None) -> int:
    """Send events of the outbox once more; how many. Raises AdapterError, NotSupported."""
    answer = _post(http, "/api/memory/admin/outbox/replay", tenant, {"ids": sorted(ids)})
    updated = answer.get("updated") if isinstance(answer, dict) else None
    return updated if isinstance(updated, int) and not isinstance(updated, bool) else len(ids)


def _post(http: httpx.Client, path: str, tenant: str | None, body: dict[str, Any]) -> Any:
    return request(http, "POST", path, service="SomaBrain", json=body, headers=asked_for(tenant), seconds=SECONDS)
