"""Speech to text and text to speech without a model: real WAV in, real WAV out, nothing understood.

``service="whisper"`` answers as speaches does, and besides on the routes of whisper.cpp
(``/inference``), of whisper-asr-webservice and of SRS-style servers (``/asr``), so that the dialect
can be changed in the console. ``service="kokoro"`` answers as Kokoro-FastAPI does, and on ``/synthesize``.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sandbox.people import Person
from sandbox.standins import Host, Standin
from sandbox.standins.voice_sound import NotSound, duration, heard, pcm, spoken, wav

SPEECH_MODEL = "speaches-ai/Kokoro-82M-v1.0-ONNX"
ASR, TTS = "automatic-speech-recognition", "text-to-speech"
SPEACHES_MODELS = {
    "Systran/faster-whisper-small": ASR,
    "Systran/faster-distil-whisper-large-v3": ASR,
    SPEECH_MODEL: TTS,
}
KOKORO_MODELS = ("tts-1", "tts-1-hd", "kokoro")
VOICES = ("af_bella", "af_heart", "af_nicole", "am_adam", "am_michael", "bf_emma", "bm_george", "ef_dora", "ff_siwis")
LANGUAGES = {"a": "en-us", "b": "en-gb", "e": "es", "f": "fr"}
MAX_CHARACTERS = 4096


class Refusal(Exception):
    """A request the server refuses: status and body."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(str(body))
        self.status, self.body = status, body


Handler = Callable[[Request], Awaitable[Response]]


class Voice:
    """The handlers of both servers over one state: which models are loaded, and what was done."""

    def __init__(self, standin: Standin, service: str) -> None:
        self.standin, self.service = standin, service

    @property
    def state(self) -> dict[str, Any]:
        return self.standin.state

    # What both have

    async def health(self, request: Request) -> Response:
        if self.state["loading"]:
            return JSONResponse({"status": "loading model"}, 503)
        if self.service == "kokoro":
            return JSONResponse({"status": "healthy"})
        return JSONResponse({"message": "OK", "status": "ok"})

    async def models(self, request: Request) -> Response:
        if self.service == "kokoro":
            rows = [
                {"id": name, "object": "model", "created": 1686935002, "owned_by": "kokoro"} for name in KOKORO_MODELS
            ]
        else:
            task = request.query_params.get("task")
            if task not in (None, ASR, TTS):
                raise Refusal(422, {"detail": [{"loc": ["query", "task"], "msg": "Input should be a known task"}]})
            rows = [
                {"id": name, "object": "model", "created": 0, "owned_by": name.split("/")[0], "task": kind}
                for name, kind in SPEACHES_MODELS.items()
                if task in (None, kind)
            ]
        return JSONResponse({"object": "list", "data": rows})

    async def voices(self, request: Request) -> Response:
        if self.service == "kokoro":
            return JSONResponse({"voices": list(VOICES)})
        rows = [{"id": name, "name": name, "language": LANGUAGES[name[0]]} for name in VOICES]
        return JSONResponse({"voices": rows, "object": "list"})

    # Models in memory: speaches only

    async def loaded(self, request: Request) -> Response:
        return JSONResponse({"models": self.state["loaded"]})

    async def load(self, request: Request) -> Response:
        name = self._known(request.path_params["model"])
        if name in self.state["loaded"]:
            raise Refusal(409, {"message": f"Model '{name}' already loaded"})
        self._use(name)
        return JSONResponse({"message": f"Model '{name}' loaded"}, 201)

    async def unload(self, request: Request) -> Response:
        name = request.path_params["model"]
        if name not in self.state["loaded"]:
            raise Refusal(404, {"message": f"Model '{name}' not found"})
        self.state["loaded"].remove(name)
        self.standin.changed()
        return Response(status_code=204)

    def _known(self, name: str, task: str | None = None) -> str:
        if SPEACHES_MODELS.get(name) is None or task not in (None, SPEACHES_MODELS[name]):
            raise Refusal(404, {"detail": f"Model '{name}' is not installed locally."})
        return name

    def _use(self, name: str) -> None:
        """Models are loaded by their first use."""
        if name not in self.state["loaded"]:
            self.state["loaded"].append(name)
        self.standin.changed()

    # Work

    async def transcribe(self, request: Request) -> Response:
        """speaches: ``file`` and ``model``."""
        async with request.form(max_files=1) as form:
            name = form.get("model")
            if not isinstance(name, str):
                raise Refusal(422, {"detail": [{"type": "missing", "loc": ["body", "model"], "msg": "Field required"}]})
            raw = await _uploaded(form.get("file"), "file")
            kind = form.get("response_format") or "json"
        self._known(name, ASR)
        if kind not in ("json", "text", "verbose_json"):
            raise Refusal(422, {"detail": [{"loc": ["body", "response_format"], "msg": "Unknown format"}]})
        text, seconds = self._hear(raw, 415)
        self._use(name)
        if kind == "text":
            return PlainTextResponse(text)
        full = {"task": "transcribe", "language": "en", "duration": seconds, "text": text, "segments": []}
        return JSONResponse(full if kind == "verbose_json" else {"text": text})

    async def inference(self, request: Request) -> Response:
        """whisper.cpp: ``file``."""
        async with request.form(max_files=1) as form:
            if not isinstance(form.get("file"), UploadFile):
                raise Refusal(400, {"error": "no 'file' field in the request"})
            raw = await _uploaded(form.get("file"), "file")
        return JSONResponse({"text": self._hear(raw, 400)[0]})

    async def asr(self, request: Request) -> Response:
        """SRS-style ``audio``, or ``audio_file`` of whisper-asr-webservice, which answers text by default."""
        async with request.form(max_files=1) as form:
            theirs = isinstance(form.get("audio_file"), UploadFile)
            raw = await _uploaded(form.get("audio_file") or form.get("audio"), "audio")
        text, seconds = self._hear(raw, 400)
        if theirs and request.query_params.get("output", "txt") != "json":
            return PlainTextResponse(text)
        return JSONResponse({"text": text, "language": "en", "duration": seconds})

    def _hear(self, raw: bytes, status: int) -> tuple[str, float]:
        try:
            seconds = duration(raw)
        except NotSound as error:
            raise Refusal(status, {"detail": f"Failed to decode audio: {error}"}) from error
        self.state["transcriptions"] += 1
        self.state["seconds_heard"] = round(self.state["seconds_heard"] + seconds, 3)
        self.standin.changed()
        return heard(raw, seconds), round(seconds, 3)

    async def speech(self, request: Request) -> Response:
        """``{model, input, voice, response_format, speed}`` of speaches and Kokoro-FastAPI."""
        given = await _body(request)
        name = given.get("model", "kokoro")
        if self.service == "whisper":
            self._known(str(name), TTS)
        elif name not in KOKORO_MODELS:
            raise _invalid(f"Unsupported model: {name}", "invalid_model")
        made = self._speak(given.get("input"), given.get("voice"), given.get("response_format", "mp3"), given)
        if self.service == "whisper":
            self._use(str(name))
        return made

    async def synthesize(self, request: Request) -> Response:
        """SRS-style ``{text, voice, speed, format}``."""
        given = await _body(request)
        return self._speak(given.get("text"), given.get("voice"), given.get("format", "wav"), given)

    def _speak(self, text: Any, voice: Any, kind: Any, given: dict[str, Any]) -> Response:
        speed = given.get("speed", 1.0)
        voice = "af_heart" if voice is None else voice
        if not isinstance(text, str) or not text.strip() or len(text) > MAX_CHARACTERS:
            raise _invalid(f"The text must have between 1 and {MAX_CHARACTERS} characters.")
        if voice not in VOICES:
            raise _invalid(f"Voice '{voice}' not found. Available voices: {', '.join(VOICES)}")
        if isinstance(speed, bool) or not isinstance(speed, int | float) or not 0.25 <= speed <= 4:
            raise _invalid("speed must be between 0.25 and 4.0")
        if kind not in ("wav", "pcm"):
            raise _invalid(f"Format {kind} not supported. Supported formats: wav, pcm")
        samples = pcm(spoken(text, float(speed)), VOICES.index(voice))
        self.state["syntheses"] += 1
        self.standin.changed()
        return Response(wav(samples) if kind == "wav" else samples, media_type=f"audio/{kind}")


def _invalid(text: str, error: str = "validation_error") -> Refusal:
    return Refusal(400, {"detail": {"error": error, "message": text, "type": "invalid_request_error"}})


async def _uploaded(field: Any, name: str) -> bytes:
    if not isinstance(field, UploadFile):
        raise Refusal(422, {"detail": [{"type": "missing", "loc": ["body", name], "msg": "Field required"}]})
    return await field.read()


async def _body(request: Request) -> dict[str, Any]:
    try:
        given = json.loads(await request.body())
    except ValueError as error:
        raise Refusal(422, {"detail": [{"type": "json_invalid", "loc": ["body"], "msg": str(error)}]}) from error
    if not isinstance(given, dict):
        raise Refusal(422, {"detail": [{"type": "model_type", "loc": ["body"], "msg": "Input should be an object"}]})
    return given


def _fresh(service: str, seed: int | None) -> dict[str, Any]:
    loaded = ["Systran/faster-whisper-small"] if service == "whisper" and seed is not None else []
    return {"loaded": loaded, "loading": False, "transcriptions": 0, "seconds_heard": 0.0, "syntheses": 0}


def create(
    state_dir: Path, seed: int | None, people: list[Person], *, host: Host, service: str = "whisper", **_: object
) -> Starlette:
    """The stand-in for ``service``. It asks for a key when the host has ``<service>_api_key``.

    ``state["loading"]`` set to true makes it answer as a server that is still loading its model.
    """
    standin = Standin(service, state_dir, lambda: _fresh(service, seed))
    voice = Voice(standin, service)
    key = host.secrets.get(f"{service}_api_key", "")

    def route(method: str, path: str, handler: Handler) -> Route:
        async def answer(request: Request) -> Response:
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            if key and path != "/health" and not hmac.compare_digest(given.encode(), key.encode()):
                return JSONResponse({"detail": "Invalid API key"}, 401)
            try:
                return await handler(request)
            except Refusal as refusal:
                return JSONResponse(refusal.body, refusal.status)

        return Route(path, answer, methods=[method])

    routes = [
        route("GET", "/health", voice.health),
        route("GET", "/v1/models", voice.models),
        route("GET", "/v1/audio/voices", voice.voices),
        route("GET", "/voices", voice.voices),
        route("POST", "/v1/audio/speech", voice.speech),
    ]
    if service == "kokoro":
        routes.append(route("POST", "/synthesize", voice.synthesize))
    else:
        routes += [
            route("GET", "/api/ps", voice.loaded),
            route("POST", "/api/ps/{model:path}", voice.load),
            route("DELETE", "/api/ps/{model:path}", voice.unload),
            route("POST", "/v1/audio/transcriptions", voice.transcribe),
            route("POST", "/inference", voice.inference),
            route("POST", "/asr", voice.asr),
        ]
    paths: dict[str, dict[str, Any]] = {}
    for one in routes:
        for method in sorted((one.methods or set()) - {"HEAD"}):
            responses = {"200": {"description": "Successful Response"}}
            paths.setdefault(one.path.replace(":path", ""), {})[method.lower()] = {"responses": responses}
    description = {"openapi": "3.1.0", "info": {"title": service, "version": "0.8.3"}, "paths": paths}

    async def openapi(request: Request) -> Response:
        return JSONResponse(description)

    app = Starlette(routes=[*routes, Route("/openapi.json", openapi)])
    app.state.standin = standin
    return app
