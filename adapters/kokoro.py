"""Kokoro: text to speech, behind any of the servers people run it with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from adapters.core.errors import Rejected
from adapters.core.model import Category, Metric, Service, Setting
from adapters.voice import records
from adapters.voice.records import Voice
from adapters.voice.server import VoiceConfig, VoiceServer, Work
from adapters.voice.sound import seconds_of

WORD = "Hello."


class KokoroConfig(VoiceConfig):
    """How to reach the speech server."""

    dialect: Literal["kokoro-fastapi", "speaches", "srs"] = Field(
        "kokoro-fastapi", title="Dialect", description="Which server it is: they differ in addresses and fields."
    )
    voice: str | None = Field(None, title="Voice", description="Used for try-outs; without it, the first one listed.")


class Kokoro(VoiceServer[KokoroConfig]):
    """One speech server."""

    service = Service(
        slug="kokoro",
        title="Kokoro",
        category=Category.AI,
        path="/platform/infrastructure/voice/tts",
        purpose="Turns text into speech.",
        affects="voice output",
        order=90,
    )
    task = "text-to-speech"

    def voices(self) -> Sequence[Voice]:
        """Voices the server speaks with, by name, at most 200."""
        path = "/voices" if self.config.dialect == "srs" else "/v1/audio/voices"
        return records.voices(self._get(path), self.service.title)

    def _prepared(self) -> Work:
        voice = self.config.voice or next((one.name for one in self.voices()), "")
        if not voice:
            advice = "Install a voice on the server, or name one in the configuration."
            raise Rejected("Kokoro has no voice to speak with.", advice=advice)
        path, body = "/v1/audio/speech", dict[str, Any]()
        if self.config.dialect == "srs":
            path, body = "/synthesize", {"text": WORD, "voice": voice, "speed": 1.0, "format": "wav"}
        else:
            model = self.config.model or ("kokoro" if self.config.dialect == "kokoro-fastapi" else self._model())
            body = {"model": model, "input": WORD, "voice": voice, "response_format": "wav", "speed": 1.0}
            if self.config.dialect == "kokoro-fastapi":
                body["stream"] = False  # a whole file, whose header tells its length

        def work() -> tuple[float, str]:
            raw = self._post(path, bytes, json=body, headers={"accept": "audio/wav"})
            return seconds_of(raw, self.service.title), WORD

        return work

    def _counted(self) -> tuple[str, list[Metric]]:
        _, counts = self._model_counts()
        voices = self.voices()
        many = f"{len(voices)} {'voice' if len(voices) == 1 else 'voices'}"
        note = f"{self.config.voice}, {many}" if self.config.voice else many
        return note, [*counts, Metric("voices", "Voices", len(voices))]

    def settings(self) -> Sequence[Setting]:
        """Dialect, model and voice of the try-outs; models with the loaded ones marked; voices."""
        return [Setting("Voice", self.config.voice or "the first one listed"), *super().settings()]
