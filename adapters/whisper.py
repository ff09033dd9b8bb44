"""Whisper: speech to text, behind any of the servers people run it with."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from adapters.core.errors import Unexpected
from adapters.core.model import Category, Metric, Service
from adapters.voice.server import VoiceConfig, VoiceServer, Work
from adapters.voice.sound import tone

TRY_OUT_SECONDS = 1.0


class WhisperConfig(VoiceConfig):
    """How to reach the transcription server."""

    dialect: Literal["speaches", "whisper.cpp", "asr-webservice", "srs"] = Field(
        "speaches", title="Dialect", description="Which server it is: they differ in addresses and fields."
    )


class Whisper(VoiceServer[WhisperConfig]):
    """One transcription server."""

    service = Service(
        slug="whisper",
        title="Whisper",
        category=Category.AI,
        path="/platform/infrastructure/voice/stt",
        purpose="Turns speech into text.",
        affects="voice input",
        order=80,
    )
    task = "automatic-speech-recognition"

    def _prepared(self) -> Work:
        sound = ("try-out.wav", tone(TRY_OUT_SECONDS), "audio/wav")
        path, field, more = "/asr", "audio", dict[str, Any]()
        match self.config.dialect:
            case "speaches":
                path, field = "/v1/audio/transcriptions", "file"
                more = {"data": {"model": self._model(), "response_format": "json"}}
            case "whisper.cpp":
                path, field = "/inference", "file"
                more = {"data": {"response_format": "json"}}
            case "asr-webservice":
                field = "audio_file"
                more = {"params": {"task": "transcribe", "output": "json", "encode": "true"}}
            case "srs":
                pass

        def work() -> tuple[float, str]:
            body = self._post(path, dict, files={field: sound}, **more)
            text = body.get("text", body.get("transcription"))
            if not isinstance(text, str):
                # whisper.cpp answers some errors with status 200.
                raise Unexpected("Whisper answered a transcription without text.", detail=str(body)[:300])
            return TRY_OUT_SECONDS, text

        return work

    def _counted(self) -> tuple[str, list[Metric]]:
        return self._model_counts()
