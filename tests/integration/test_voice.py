"""Trying a voice server out: who may, what is on record, and what comes of a failure."""

from __future__ import annotations

import pytest

from operations import audit, change, voice
from operations.access import SYSTEM, Actor, Forbidden
from operations.platform import Platform
from sandbox.inprocess import Services

pytestmark = pytest.mark.engines
ANALYST = Actor(id="ana", name="Ana", roles=frozenset({"analyst"}))


@pytest.mark.parametrize("slug", voice.SERVICES)
def test_a_try_out_is_done_and_on_record(slug: str, platform: Platform) -> None:
    tried = voice.try_out(platform, SYSTEM, slug)
    assert tried.ok and tried.audio_seconds > 0
    entry = audit.entries(platform, SYSTEM, limit=1)[0]
    assert (entry.action, entry.subject) == ("voice.try_out", slug)


def test_a_server_that_fails_is_told_and_not_raised(platform: Platform, standins: Services) -> None:
    standins.fault("whisper", "500")
    tried = voice.try_out(platform, SYSTEM, "whisper")
    assert not tried.ok and tried.error


def test_who_may_not_and_what_has_no_voice(platform: Platform) -> None:
    with pytest.raises(Forbidden):
        voice.try_out(platform, ANALYST, "whisper")
    with pytest.raises(change.NotFound):
        voice.try_out(platform, SYSTEM, "redis")
    assert not audit.entries(platform, SYSTEM, subject_prefix="whisper", limit=5)
