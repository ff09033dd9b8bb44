"""The Whisper adapter in every dialect on the stand-in, and on servers that do everything wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from adapters.core.errors import Rejected, Unexpected
from adapters.core.model import State, Unit
from adapters.core.probe import probe
from adapters.voice.records import Model
from adapters.whisper import Whisper, WhisperConfig
from sandbox.standins import Host, voice
from tests.contract.openapi import serve
from tests.support_adapters import fail_in_time, health_is_a_value
from tests.support_faulty import BODIES, FAULTS, FaultyServer, no_leaks

KEY = "whisper-key-for-tests"
SMALL = "Systran/faster-whisper-small"
LARGE = "Systran/faster-distil-whisper-large-v3"
DIALECTS = ("speaches", "whisper.cpp", "asr-webservice", "srs")


@pytest.fixture
def app(tmp_path: Path) -> Any:
    return voice.create(tmp_path, None, [], host=Host(url="", secrets={"whisper_api_key": KEY}), service="whisper")


@pytest.fixture
def url(app: Any) -> Iterator[str]:
    with serve(app) as address:
        yield address


def made(url: str | None, **more: Any) -> Whisper:
    return Whisper(WhisperConfig.model_validate({"url": url, "api_key": KEY, **more}))


@pytest.fixture
def whisper(url: str) -> Iterator[Whisper]:
    adapter = made(url)
    yield adapter
    adapter.close()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect(app: Any, url: str, dialect: str) -> None:
    adapter = made(url, dialect=dialect)
    assert adapter.health().state is State.HEALTHY
    metrics = {metric.name: metric for metric in adapter.metrics()}
    assert [m.name for m in metrics.values() if m.headline] == ["health_latency"]
    assert metrics["health_latency"].value > 0 and metrics["health_latency"].unit is Unit.MILLISECONDS
    assert metrics["try_out_latency"].value > 0
    assert metrics["real_time_factor"].value == pytest.approx(metrics["try_out_latency"].value / 1000, abs=1e-3)
    assert ("models" in metrics) == ("loaded_models" in metrics) == (dialect == "speaches")
    settings = {(s.group, s.name): s.value for s in adapter.settings()}
    assert settings["General", "Dialect"] == dialect
    assert KEY not in str(settings)
    assert app.state.standin.state["transcriptions"] == 1
    assert "The try-out at" in adapter.health().message
    adapter.close()


def test_the_try_out_is_remembered_and_not_repeated(app: Any, whisper: Whisper) -> None:
    assert whisper.last_try_out is None
    whisper.metrics()
    first = whisper.last_try_out
    whisper.metrics()
    assert whisper.last_try_out is first and first is not None
    assert first.ok and first.text and first.audio_seconds == 1.0 and first.real_time_factor
    assert app.state.standin.state["transcriptions"] == 1
    again = whisper.try_out()
    assert again is whisper.last_try_out is not first
    assert app.state.standin.state["transcriptions"] == 2


def test_models_in_memory(whisper: Whisper) -> None:
    assert [model.name for model in whisper.models()] == [LARGE, SMALL]
    assert whisper.models()[0] == Model(LARGE, "Systran")
    assert whisper.loaded() == ()
    whisper.load(LARGE)
    whisper.load(LARGE)
    assert whisper.loaded() == (LARGE,)
    headline = next(m for m in whisper.metrics() if m.headline)
    assert headline.note == LARGE
    assert whisper.loaded() == (LARGE,), "the try-out uses what is loaded"
    settings = {(s.group, s.name): s.value for s in whisper.settings()}
    assert (settings["Models", LARGE], settings["Models", SMALL]) == ("loaded", "not loaded")
    whisper.unload(LARGE)
    with pytest.raises(Rejected, match="not loaded"):
        whisper.unload(LARGE)
    assert whisper.loaded() == ()


@pytest.mark.parametrize("name", ["no/such", "../../v1/models", "a/../b", "", "a?b=c", "a#b", "x" * 201, "/a", "a//b"])
def test_a_model_that_does_not_exist_is_never_loaded(whisper: Whisper, name: str) -> None:
    with pytest.raises(Rejected):
        whisper.load(name)
    with pytest.raises(Rejected):
        whisper.unload(name)


@pytest.mark.parametrize("dialect", DIALECTS[1:])
def test_other_dialects_are_never_told_to_load(dialect: str) -> None:
    with FaultyServer() as server:
        adapter = made(server.url, dialect=dialect)
        for call in (adapter.load, adapter.unload):
            with pytest.raises(Rejected):
                call("tiny")
        assert adapter.loaded() is None and adapter.voices() == () and adapter.models() == ()
        assert server.requests == []
        adapter.close()


@pytest.mark.parametrize("more", [{"model": "no/such"}, {"api_key": "wrong-key"}])
def test_a_failed_try_out_degrades(url: str, more: dict[str, str]) -> None:
    adapter = made(url, **more)
    tried = adapter.try_out()
    assert not tried.ok and tried.real_time_factor is None
    health = adapter.health()
    assert health.state is State.DEGRADED and tried.error in health.message and health.advice
    assert "wrong-key" not in repr(health) + repr(tried)
    assert not {"try_out_latency", "real_time_factor"} & {m.name for m in probe(adapter).metrics}
    adapter.close()


def test_a_key_that_is_wrong_shows_within_one_visit(url: str) -> None:
    adapter = made(url, api_key="wrong-key")
    assert probe(adapter).metrics_error
    assert probe(adapter).health.state is State.DEGRADED
    adapter.close()


def test_loading_is_degraded(app: Any, url: str) -> None:
    app.state.standin.state["loading"] = True
    for dialect in ("speaches", "whisper.cpp", "srs"):
        adapter = made(url, dialect=dialect)
        health = adapter.health()
        assert health.state is State.DEGRADED and "loading" in health.message
        adapter.close()


SAID = [
    ("OK", State.HEALTHY),
    ({"status": "ok"}, State.HEALTHY),
    ({"status": "Healthy"}, State.HEALTHY),
    ({"message": "OK"}, State.HEALTHY),
    ({"status": "degraded"}, State.DEGRADED),
    ({"status": "unhealthy"}, State.DOWN),
    ({"status": 5}, None),
    ({}, None),
    ([], None),
    ("<html>Welcome</html>", None),
    ("", None),
    (b"\xff\xfe\x00", None),
]


@pytest.mark.parametrize(("said", "state"), SAID)
def test_what_a_health_address_may_say(said: Any, state: State | None) -> None:
    with FaultyServer(answer=lambda method, path: (200, said)) as server:
        adapter = made(server.url, dialect="srs")
        if state is None:
            with pytest.raises(Unexpected):
                adapter.health()
        else:
            assert adapter.health().state is state
        adapter.close()


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("answer", [{}, {"error": "failed to read audio data"}, {"text": None}, [], b"{"])
def test_a_transcription_without_text_is_a_failure(dialect: str, answer: Any) -> None:
    with FaultyServer(answer=lambda method, path: (200, answer)) as server:
        adapter = made(server.url, dialect=dialect, model="tiny")
        tried = adapter.try_out()
        assert not tried.ok and tried.advice
        adapter.close()


@pytest.mark.parametrize("wrong", [None, [], {}, {"data": None}, {"data": [{}]}, {"data": [5]}, {"models": [{}]}])
def test_unexpected_shapes_are_named(wrong: Any) -> None:
    with FaultyServer(answer=lambda method, path: (200, wrong)) as server:
        adapter = made(server.url)
        for call in (adapter.models, adapter.loaded):
            with pytest.raises(Unexpected):
                call()
        adapter.close()


def test_lists_are_bounded() -> None:
    rows = {"data": [{"id": f"m{n:04}"} for n in range(1000)], "models": [f"m{n:04}" for n in range(1000)]}
    with FaultyServer(answer=lambda method, path: (200, rows)) as server:
        adapter = made(server.url)
        assert len(adapter.models()) == 200 and len(adapter.loaded() or ()) == 200
        adapter.close()


def test_a_server_without_a_list_of_loaded_models() -> None:
    def answer(method: str, path: str) -> tuple[int, Any]:
        if path.startswith("/v1/models"):
            return 200, {"data": [{"id": "one"}]}
        return (404, {}) if path == "/api/ps" else (200, {"message": "OK", "text": "."})

    with FaultyServer(answer=answer) as server:
        adapter = made(server.url)
        assert {m.name for m in adapter.metrics()} >= {"models", "try_out_latency"}
        assert adapter.loaded() is None
        adapter.close()


def test_a_server_without_a_model_says_so() -> None:
    with FaultyServer(answer=lambda method, path: (200, {"data": [], "models": []})) as server:
        adapter = made(server.url)
        assert "no model" in adapter.try_out().error
        adapter.close()


def test_configuration() -> None:
    assert "PILOTHOUSE_WHISPER_URL" in probe(Whisper(WhisperConfig())).health.message
    assert KEY not in repr(WhisperConfig(url="http://x", api_key=SecretStr(KEY)))
    with pytest.raises(ValidationError):
        WhisperConfig.model_validate({"dialect": "parrot"})


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("fault", FAULTS + BODIES)
def test_health_is_a_value_whatever_happens(fault: str, dialect: str) -> None:
    health_is_a_value(fault, lambda url: made(url, dialect=dialect), KEY)


@pytest.mark.parametrize("fault", ["hang", "drip", "500", "garbage", "huge", "reset", "unexpected", "invalid", "404"])
def test_everything_else_is_bounded_too(fault: str) -> None:
    with no_leaks(), FaultyServer(fault) as server:
        adapter = made(server.url)
        fail_in_time(fault, adapter.metrics, adapter.settings, adapter.models)
        start = time.monotonic()
        assert not adapter.try_out(1.5).ok
        assert time.monotonic() - start < 2.2
        adapter.close()


def test_work_that_hangs_leaves_the_card_its_numbers() -> None:
    def answer(method: str, path: str) -> tuple[int, Any]:
        return 200, {"message": "OK", "data": [{"id": "one"}], "models": []}

    with no_leaks(), FaultyServer("hang", answer=answer, only=lambda path: "transcriptions" in path) as server:
        adapter = made(server.url)
        sample = probe(adapter)
        assert sample.health.state is State.HEALTHY
        assert {m.name for m in sample.metrics} == {"health_latency", "models", "loaded_models"}
        assert probe(adapter).health.state is State.DEGRADED
        adapter.close()
