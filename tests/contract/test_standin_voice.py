"""The voice stand-ins: real sound in, real sound out, refusals as the servers word them, state that is kept."""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from sandbox.standins import Host, voice
from sandbox.standins.voice_sound import pcm, wav

SMALL = "Systran/faster-whisper-small"
LARGE = "Systran/faster-distil-whisper-large-v3"


def client(folder: Path, service: str, seed: int | None = None, **secrets: str) -> TestClient:
    return TestClient(voice.create(folder, seed, [], host=Host(url="", secrets=secrets), service=service))


@pytest.fixture
def whisper(tmp_path: Path) -> TestClient:
    return client(tmp_path, "whisper")


@pytest.fixture
def kokoro(tmp_path: Path) -> TestClient:
    return client(tmp_path, "kokoro")


def transcribe(http: TestClient, raw: bytes, **fields: str) -> Any:
    return http.post("/v1/audio/transcriptions", files={"file": ("a.wav", raw)}, data={"model": SMALL, **fields})


def test_a_transcription_knows_how_long_the_sound_was(whisper: TestClient) -> None:
    sound = wav(pcm(2.5, 0))
    told = transcribe(whisper, sound, response_format="verbose_json").json()
    assert told["duration"] == 2.5 and told["text"]
    assert transcribe(whisper, sound).json() == {"text": told["text"]}
    assert transcribe(whisper, sound, response_format="text").text == told["text"]
    assert transcribe(whisper, wav(pcm(2.5, 1))).json()["text"] != told["text"]


@pytest.mark.parametrize("raw", [b"", b"not sound", wav(b""), wav(pcm(1, 0))[:20]])
def test_what_is_no_sound_is_refused(whisper: TestClient, raw: bytes) -> None:
    assert transcribe(whisper, raw).status_code == 415


def test_refused_transcriptions(whisper: TestClient) -> None:
    sound = wav(pcm(1, 0))
    assert transcribe(whisper, sound, model="no/such").status_code == 404
    assert transcribe(whisper, sound, model=voice.SPEECH_MODEL).status_code == 404
    assert transcribe(whisper, sound, response_format="docx").status_code == 422
    assert whisper.post("/v1/audio/transcriptions", data={"model": SMALL}).status_code == 422
    assert whisper.post("/v1/audio/transcriptions", files={"file": ("a.wav", sound)}).status_code == 422


def test_the_other_dialects(whisper: TestClient) -> None:
    sound = wav(pcm(1, 0))
    text = transcribe(whisper, sound).json()["text"]
    assert whisper.post("/inference", files={"file": ("a.wav", sound)}).json() == {"text": text}
    assert whisper.post("/inference").status_code == 400
    assert whisper.post("/asr", files={"audio": ("a.wav", sound)}).json()["text"] == text
    assert whisper.post("/asr", files={"audio_file": ("a.wav", sound)}).text == text
    assert whisper.post("/asr?output=json", files={"audio_file": ("a.wav", sound)}).json()["text"] == text
    assert whisper.post("/asr", files={"other": ("a.wav", sound)}).status_code == 422
    assert "/asr" in whisper.get("/openapi.json").json()["paths"]


def test_models_in_memory(whisper: TestClient) -> None:
    assert whisper.get("/api/ps").json() == {"models": []}
    assert whisper.post(f"/api/ps/{LARGE}").status_code == 201
    assert whisper.post(f"/api/ps/{LARGE}").status_code == 409
    assert whisper.post("/api/ps/no/such").status_code == 404
    transcribe(whisper, wav(pcm(1, 0)))
    assert whisper.get("/api/ps").json() == {"models": [LARGE, SMALL]}
    assert whisper.delete(f"/api/ps/{LARGE}").status_code == 204
    assert whisper.delete(f"/api/ps/{LARGE}").status_code == 404
    assert whisper.get("/api/ps").json() == {"models": [SMALL]}


def test_state_survives_a_restart_and_a_reset_forgets_it(tmp_path: Path) -> None:
    first = client(tmp_path, "whisper")
    first.post(f"/api/ps/{LARGE}")
    first.app.state.standin.save()  # type: ignore[attr-defined]
    second = client(tmp_path, "whisper")
    assert second.get("/api/ps").json() == {"models": [LARGE]}
    second.app.state.standin.reset()  # type: ignore[attr-defined]
    assert second.get("/api/ps").json() == {"models": []}


def test_models_by_task(whisper: TestClient) -> None:
    def names(**params: str) -> list[str]:
        return [row["id"] for row in whisper.get("/v1/models", params=params).json()["data"]]

    assert names() == [SMALL, LARGE, voice.SPEECH_MODEL]
    assert names(task="automatic-speech-recognition") == [SMALL, LARGE]
    assert names(task="text-to-speech") == [voice.SPEECH_MODEL]
    assert whisper.get("/v1/models", params={"task": "cooking"}).status_code == 422


def speak(http: TestClient, **fields: Any) -> Any:
    body = {"model": "kokoro", "input": "Good morning.", "voice": "af_heart", "response_format": "wav"}
    return http.post("/v1/audio/speech", json=body | fields)


def seconds(raw: bytes) -> float:
    with wave.open(io.BytesIO(raw)) as sound:
        assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, 24000)
        return sound.getnframes() / sound.getframerate()


def test_speech_is_as_long_as_its_text(kokoro: TestClient) -> None:
    short, long = speak(kokoro, input="a" * 20), speak(kokoro, input="a" * 40)
    assert long.headers["content-type"] == "audio/wav"
    assert seconds(long.content) == pytest.approx(2 * seconds(short.content), rel=0.01)
    assert seconds(speak(kokoro, input="a" * 40, speed=2).content) == pytest.approx(seconds(short.content), rel=0.01)
    assert speak(kokoro, input="a" * 20, response_format="pcm").content == short.content[44:]
    assert speak(kokoro, input="a" * 20, voice="bf_emma").content != short.content


@pytest.mark.parametrize(
    "wrong",
    [
        *({"model": "gpt"}, {"voice": "nobody"}, {"voice": 3}, {"input": ""}, {"input": "a" * 4097}, {"input": 5}),
        *({"response_format": "mp3"}, {"response_format": None}, {"speed": 9}, {"speed": "fast"}, {"speed": True}),
    ],
)
def test_refused_speech(kokoro: TestClient, wrong: dict[str, Any]) -> None:
    answer = speak(kokoro, **wrong)
    assert answer.status_code == 400 and answer.json()["detail"]["message"]


def test_speech_needs_an_object(kokoro: TestClient) -> None:
    for raw in ("", "{", "[]"):
        assert kokoro.post("/v1/audio/speech", content=raw).status_code == 422


def test_srs_speech_and_speech_of_speaches(kokoro: TestClient, whisper: TestClient) -> None:
    answer = kokoro.post("/synthesize", json={"text": "Hello", "voice": "af_heart", "speed": 1.0, "format": "wav"})
    assert seconds(answer.content) == pytest.approx(0.3)
    assert speak(whisper).status_code == 404
    assert speak(whisper, model=voice.SPEECH_MODEL).status_code == 200
    assert whisper.get("/api/ps").json() == {"models": [voice.SPEECH_MODEL]}
    assert kokoro.get("/api/ps").status_code == 404


def test_voices(kokoro: TestClient, whisper: TestClient) -> None:
    names = kokoro.get("/v1/audio/voices").json()["voices"]
    assert kokoro.get("/voices").json()["voices"] == names == list(voice.VOICES)
    assert [row["name"] for row in whisper.get("/v1/audio/voices").json()["voices"]] == names


def test_loading_and_keys(tmp_path: Path) -> None:
    http = client(tmp_path, "whisper", whisper_api_key="the-key")
    assert http.get("/health").status_code == 200
    assert http.get("/v1/models").status_code == 401
    assert http.get("/v1/models", headers={"authorization": "Bearer the-key"}).status_code == 200
    http.app.state.standin.state["loading"] = True  # type: ignore[attr-defined]
    assert http.get("/health").status_code == 503


def test_a_seeded_whisper_has_a_model_in_memory(tmp_path: Path) -> None:
    assert client(tmp_path, "whisper", seed=1).get("/api/ps").json() == {"models": [SMALL]}
