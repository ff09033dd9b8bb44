"""The Kokoro adapter in every dialect on the stand-ins, and on servers that do everything wrong."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from adapters.core.errors import Rejected, Unexpected
from adapters.core.model import State
from adapters.core.probe import probe
from adapters.kokoro import Kokoro, KokoroConfig
from adapters.voice.records import Voice
from adapters.voice.sound import seconds_of, tone
from sandbox.standins import Host, voice
from tests.contract.openapi import serve
from tests.support_adapters import fail_in_time, health_is_a_value
from tests.support_faulty import BODIES, FAULTS, FaultyServer, no_leaks

KEY = "kokoro-key-for-tests"
DIALECTS = ("kokoro-fastapi", "speaches", "srs")
COUNT = len(voice.VOICES)


@pytest.fixture
def apps(tmp_path: Path) -> dict[str, Any]:
    """The stand-in for each dialect: speaches also speaks."""
    host = Host(url="", secrets={"kokoro_api_key": KEY, "whisper_api_key": KEY})
    made = {name: voice.create(tmp_path, None, [], host=host, service=name) for name in ("kokoro", "whisper")}
    return {"kokoro-fastapi": made["kokoro"], "srs": made["kokoro"], "speaches": made["whisper"]}


@pytest.fixture
def url(apps: dict[str, Any]) -> Iterator[str]:
    with serve(apps["kokoro-fastapi"]) as address:
        yield address


def made(url: str | None, **more: Any) -> Kokoro:
    return Kokoro(KokoroConfig.model_validate({"url": url, "api_key": KEY, **more}))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect(apps: dict[str, Any], dialect: str) -> None:
    app = apps[dialect]
    with serve(app) as url:
        adapter = made(url, dialect=dialect)
        assert adapter.health().state is State.HEALTHY
        metrics = {metric.name: metric for metric in adapter.metrics()}
        assert [m.name for m in metrics.values() if m.headline] == ["health_latency"]
        assert metrics["health_latency"].note == f"{COUNT} voices"
        assert metrics["voices"].value == COUNT
        assert ("models" in metrics) == (dialect != "srs")
        assert ("loaded_models" in metrics) == (dialect == "speaches")
        tried = adapter.last_try_out
        assert tried is not None and tried.ok and tried.text == "Hello."
        assert tried.audio_seconds == pytest.approx(0.36)
        assert metrics["real_time_factor"].value == pytest.approx(tried.latency_ms / 360, abs=1e-4)
        adapter.metrics()
        assert app.state.standin.state["syntheses"] == 1
        settings = {(s.group, s.name): s.value for s in adapter.settings()}
        assert settings["General", "Dialect"] == dialect
        assert settings["Voices", "af_heart"] == ("en-us" if dialect == "speaches" else "not told")
        assert KEY not in str(settings)
        adapter.close()


def test_voices_and_models(url: str) -> None:
    adapter = made(url, voice="bf_emma")
    assert [one.name for one in adapter.voices()] == sorted(voice.VOICES)
    assert [one.name for one in adapter.models()] == ["kokoro", "tts-1", "tts-1-hd"]
    assert adapter.loaded() is None
    assert next(m for m in adapter.metrics() if m.headline).note == f"bf_emma, {COUNT} voices"
    with pytest.raises(Rejected):
        adapter.load("kokoro")
    adapter.close()


def test_models_in_memory_of_speaches(apps: dict[str, Any]) -> None:
    with serve(apps["speaches"]) as url:
        adapter = made(url, dialect="speaches")
        adapter.load(voice.SPEECH_MODEL)
        assert adapter.loaded() == (voice.SPEECH_MODEL,)
        with pytest.raises(Rejected):
            adapter.load("Systran/faster-whisper-small")  # it listens, it does not speak
        adapter.unload(voice.SPEECH_MODEL)
        assert adapter.loaded() == ()
        adapter.close()


@pytest.mark.parametrize("more", [{"voice": "nobody"}, {"model": "no-such"}, {"api_key": "wrong-key"}])
def test_a_failed_try_out_degrades(url: str, more: dict[str, str]) -> None:
    adapter = made(url, **more)
    tried = adapter.try_out()
    health = adapter.health()
    assert not tried.ok and health.state is State.DEGRADED and tried.error in health.message
    assert "wrong-key" not in repr(health) + repr(tried)
    adapter.close()


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("sound", [b"", b"ID3 an mp3", tone()[:44], tone()[:44] + bytes(1000), {"audio": "UklGRg=="}])
def test_what_is_no_sound_is_a_failure(dialect: str, sound: Any) -> None:
    with FaultyServer(answer=lambda method, path: (200, sound)) as server:
        adapter = made(server.url, dialect=dialect, voice="a", model="kokoro")
        tried = adapter.try_out()
        assert not tried.ok and "Kokoro answered" in tried.error
        adapter.close()


def test_seconds_of_a_wav() -> None:
    sound = tone(0.5)
    assert seconds_of(sound, "It") == 0.5
    for unknown in (0, 0xFFFFFFFF):
        assert seconds_of(sound[:40] + struct.pack("<I", unknown) + sound[44:], "It") == 0.5
    listed = sound[:36] + b"LIST" + struct.pack("<I", 3) + b"abc\0" + sound[36:]
    assert seconds_of(listed, "It") == 0.5
    for broken in (sound[:20], sound[:36], sound[:12] + sound[36:], sound[:20] + b"\x55\x00" + sound[22:]):
        with pytest.raises(Unexpected):
            seconds_of(broken, "It")


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ({"voices": ["b", "a"]}, (Voice("a"), Voice("b"))),
        (["a"], (Voice("a"),)),
        ({"voices": [{"id": "a", "name": "Anna", "language": "de"}]}, (Voice("a", "de"),)),
        ({"voices": [{"voice_id": "a"}, {"name": "b"}]}, (Voice("a"), Voice("b"))),
        ({"voices": []}, ()),
    ],
)
def test_shapes_of_voices(told: Any, found: tuple[Voice, ...]) -> None:
    with FaultyServer(answer=lambda method, path: (200, told)) as server:
        adapter = made(server.url)
        assert adapter.voices() == found
        adapter.close()


@pytest.mark.parametrize(
    "wrong", [None, 5, {}, {"voices": None}, {"voices": [5]}, {"voices": [{}]}, [None], {"data": 1}]
)
def test_unexpected_shapes_are_named(wrong: Any) -> None:
    with FaultyServer(answer=lambda method, path: (200, wrong)) as server:
        adapter = made(server.url)
        for call in (adapter.voices, adapter.models):
            with pytest.raises(Unexpected):
                call()
        adapter.close()


def test_voices_are_bounded_and_none_is_said() -> None:
    many = {"voices": [f"v{n:04}" for n in range(1000)]}
    with FaultyServer(answer=lambda method, path: (200, many)) as server:
        adapter = made(server.url)
        assert len(adapter.voices()) == 200
        adapter.close()
    with FaultyServer(answer=lambda method, path: (200, {"voices": []})) as server:
        adapter = made(server.url)
        assert "no voice" in adapter.try_out().error
        adapter.close()


def test_configuration() -> None:
    assert "PILOTHOUSE_KOKORO_URL" in probe(Kokoro(KokoroConfig())).health.message
    with pytest.raises(ValidationError):
        KokoroConfig.model_validate({"dialect": "whisper.cpp"})


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("fault", FAULTS + BODIES)
def test_health_is_a_value_whatever_happens(fault: str, dialect: str) -> None:
    health_is_a_value(fault, lambda url: made(url, dialect=dialect), KEY)


@pytest.mark.parametrize("fault", ["hang", "drip", "500", "garbage", "huge", "reset", "unexpected", "invalid", "404"])
def test_everything_else_is_bounded_too(fault: str) -> None:
    with no_leaks(), FaultyServer(fault) as server:
        adapter = made(server.url)
        fail_in_time(fault, adapter.metrics, adapter.settings, adapter.voices)
        start = time.monotonic()
        assert not adapter.try_out(1.5).ok
        assert time.monotonic() - start < 2.2
        adapter.close()


def test_speech_without_end_is_cut_off() -> None:
    def answer(method: str, path: str) -> tuple[int, Any]:
        return 200, {"status": "healthy", "data": [], "voices": ["a"]}

    with no_leaks(), FaultyServer("huge", answer=answer, only=lambda path: path.endswith("/speech")) as server:
        adapter = made(server.url)
        assert probe(adapter).health.state is State.HEALTHY
        health = probe(adapter).health
        assert health.state is State.DEGRADED and "8 MiB" in health.message
        adapter.close()
