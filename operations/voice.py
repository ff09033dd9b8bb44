"""Trying a voice server out: one real piece of work, now."""

from __future__ import annotations

from typing import Any, cast

from adapters.voice.records import TryOut
from adapters.voice.server import VoiceServer
from operations import change
from operations.access import Actor, Permission, require
from operations.platform import Platform

SERVICES = ("whisper", "kokoro")
SECONDS = 8.0


def try_out(platform: Platform, actor: Actor, slug: str, reason: str = "") -> TryOut:
    """Have the voice server do one real piece of work, at most 8 s of it. On record before it happens.

    A failure of the server is in the TryOut. Raises access.Forbidden, change.NotFound for a service
    that has no voice, change.StoreUnavailable, Unconfigured, and TimedOut where one runs already.
    """
    require(actor, Permission.INFRA_OPERATE)
    if slug not in SERVICES:
        raise change.NotFound(f"{slug} is not a voice server.")
    with change.door(
        platform, actor, Permission.INFRA_OPERATE, action="voice.try_out", subject=slug, reason=reason
    ) as door:
        door.audit(None, {"seconds_at_most": SECONDS})
    tried = cast(VoiceServer[Any], platform.adapters[slug]).try_out(SECONDS)
    platform.readings.forget(f"{slug}:")
    return tried
