"""The part of a voice adapter that does not depend on the direction: health, try-outs, models in memory.

None of these servers exports request metrics, so the console measures itself: the latency of the
health address at every visit, and a real piece of work every ten minutes.
"""

from __future__ import annotations

import json
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import Field, SecretStr

from adapters.core.adapter import Adapter, ServiceConfig
from adapters.core.deadline import deadline, remaining
from adapters.core.errors import AdapterError, Rejected, TimedOut, Unexpected
from adapters.core.http import NotSupported, request
from adapters.core.http import client as http_client
from adapters.core.model import Health, Metric, Setting, State, Unit, utcnow
from adapters.voice import records
from adapters.voice.records import Model, TryOut, Voice

TRY_EVERY_S = 600.0
TRY_SECONDS = 20.0
LOAD_SECONDS = 60.0
ENOUGH_SECONDS = 1.0
"""A try-out with less time left than this would say more about the deadline than about the server."""
GOOD = frozenset({"ok", "healthy", "ready", "up", "alive", "running"})
BAD = frozenset({"unhealthy", "down", "error", "failed", "critical"})

Work = Callable[[], tuple[float, str]]
"""Does the work; returns seconds of sound and the text heard or said."""
R = TypeVar("R")


class VoiceConfig(ServiceConfig):
    """What both directions are configured with."""

    url: str | None = Field(
        None,
        title="Address",
        description="Root of the server, with a path prefix where it has one.",
        json_schema_extra={"required": True},
    )
    api_key: SecretStr | None = Field(None, title="API key", description="Not needed where the server asks for none.")
    dialect: str = Field("speaches", title="Dialect")
    model: str | None = Field(None, title="Model", description="Used for try-outs; without it, the first one loaded.")


V = TypeVar("V", bound=VoiceConfig)


class VoiceServer(Adapter[V]):
    """One voice server. Subclasses say which lists it has and what the work is."""

    task = ""
    """What ``/v1/models`` of speaches is asked for."""

    def __init__(self, config: V) -> None:
        super().__init__(config)
        self._health_ms: float | None = None
        self._tried: TryOut | None = None
        self._next_try = 0.0
        self._working = threading.Lock()

    @cached_property
    def _http(self) -> httpx.Client:
        self.require_config()
        key = self.config.api_key.get_secret_value() if self.config.api_key else ""
        headers = {"authorization": f"Bearer {key}"} if key else None
        return http_client((self.config.url or "").rstrip("/"), headers=headers)

    def _get(self, path: str, **params: str) -> Any:
        return request(self._http, "GET", path, service=self.service.title, params=params)

    def _post(self, path: str, expect: type[R], **kw: Any) -> R:
        return request(self._http, "POST", path, expect=expect, service=self.service.title, seconds=remaining(), **kw)

    # Health

    def health(self) -> Health:
        """The dialect's health address; degraded while loading and after a try-out that failed."""
        with deadline():
            health = self._ask()
        tried = self._tried
        if health.state is not State.HEALTHY or tried is None:
            return health
        if not tried.ok:
            sentence = f"{health.message} The try-out at {tried.at:%H:%M} UTC failed: {tried.error}"
            return Health(State.DEGRADED, sentence, health.version, detail=tried.detail, advice=tried.advice)
        sentence = f"{health.message} The try-out at {tried.at:%H:%M} UTC took {tried.latency_ms:.0f} ms."
        return Health(State.HEALTHY, sentence, health.version)

    def _ask(self) -> Health:
        start = time.monotonic()
        health = self._described() if self.config.dialect == "asr-webservice" else self._said()
        self._health_ms = (time.monotonic() - start) * 1000
        return health

    def _described(self) -> Health:
        """A server without a health address is asked for the description of its API."""
        title = self.service.title
        body = request(self._http, "GET", "/openapi.json", expect=dict, service=title)
        if not isinstance(body.get("paths"), dict) or "/asr" not in body["paths"]:
            raise Unexpected("What answers at this address transcribes nothing.", detail=str(body)[:300])
        info = body.get("info")
        version = info.get("version") if isinstance(info, dict) else None
        return Health(State.HEALTHY, f"{title} answers.", version[:40] if isinstance(version, str) else None)

    def _said(self) -> Health:
        title = self.service.title
        try:
            text = request(self._http, "GET", "/health", expect=str, service=title)
        except Unexpected as error:
            loading = self.config.dialect == "whisper.cpp" or "loading" in error.detail.lower()
            if not error.detail.startswith("HTTP 503") or not loading:
                raise
            return Health(State.DEGRADED, f"{title} is loading its model.", detail=error.detail)
        word = _word(text)
        if word is None:
            raise Unexpected(f"What answers at this address is not {title}.", detail=text[:300])
        if word in GOOD:
            return Health(State.HEALTHY, f"{title} answers.")
        state = State.DOWN if word in BAD else State.DEGRADED
        return Health(state, f"{title} says of itself: {word}.", detail=text[:300])

    # Try-outs

    @property
    def last_try_out(self) -> TryOut | None:
        """What the latest try-out came to; None before the first."""
        return self._tried

    def try_out(self, seconds: float = TRY_SECONDS) -> TryOut:
        """Do one real piece of work now, within ``seconds``, and remember what came of it.

        A failure of the server is a TryOut with ``error``. Raises Unconfigured, and TimedOut where
        another try-out keeps the server busy.
        """
        self.require_config()
        with deadline(seconds):
            if not self._working.acquire(timeout=remaining()):
                raise TimedOut("Another try-out is still running.", detail="not started")
            try:
                self._next_try = time.monotonic() + TRY_EVERY_S
                self._tried = self._tested()
                return self._tried
            finally:
                self._working.release()

    def _tested(self) -> TryOut:
        at, start = utcnow(), time.monotonic()
        try:
            work = self._prepared()
            start = time.monotonic()
            audio_seconds, text = work()
        except AdapterError as error:
            spent = (time.monotonic() - start) * 1000
            return TryOut(at, spent, error=error.sentence, detail=error.detail, advice=error.advice)
        return TryOut(at, (time.monotonic() - start) * 1000, audio_seconds, text[:200])

    def _try_when_due(self) -> None:
        """A try-out if the last one is ten minutes old and the present deadline leaves time for it."""
        with suppress(TimedOut):
            left = remaining()
            if left >= ENOUGH_SECONDS and time.monotonic() >= self._next_try and not self._working.locked():
                self.try_out(left)

    @abstractmethod
    def _prepared(self) -> Work:
        """Choose model and voice; return the work itself, whose time is measured."""

    # Models

    def models(self) -> Sequence[Model]:
        """Models the server has, at most 200; for servers with a fixed one, the configured name."""
        if self.config.dialect == "speaches":
            return records.models(self._get("/v1/models", task=self.task), self.service.title)
        if self.config.dialect == "kokoro-fastapi":
            return records.models(self._get("/v1/models"), self.service.title)
        return (Model(self.config.model),) if self.config.model else ()

    def loaded(self) -> Sequence[str] | None:
        """Names of the models in memory, at most 200; None where the server does not tell."""
        if self.config.dialect != "speaches":
            return None
        try:
            return records.loaded(self._get("/api/ps"), self.service.title)
        except NotSupported:
            return None

    def voices(self) -> Sequence[Voice]:
        """Voices the server speaks with, at most 200; none for servers that only listen."""
        return ()

    def load(self, model: str) -> None:
        """Load a model into memory; one that is loaded already is fine.

        Raises Rejected where the model does not exist or the server cannot do it.
        """
        path = self._memory_path(model)
        if model not in {one.name for one in self.models()}:
            raise Rejected(f"{self.service.title} has no model {model}.", advice="Choose one of the models listed.")
        try:
            request(self._http, "POST", path, expect=bytes, service=self.service.title, seconds=LOAD_SECONDS)
        except Rejected as error:
            if not error.detail.startswith("HTTP 409"):
                raise

    def unload(self, model: str) -> None:
        """Take a model out of memory. Raises Rejected where it is not loaded, is in use, or cannot be."""
        path = self._memory_path(model)
        try:
            request(self._http, "DELETE", path, expect=bytes, service=self.service.title)
        except NotSupported as error:
            raise Rejected(f"The model {model} is not loaded.", detail=error.detail) from error

    def _memory_path(self, model: str) -> str:
        if self.config.dialect != "speaches":
            advice = "Change the model where the server is started."
            raise Rejected(f"This kind of {self.service.title} keeps the model it started with.", advice=advice)
        return f"/api/ps/{quote(records.checked_model(model), safe='/:@')}"

    def _model(self) -> str:
        """The model for a try-out. Raises Rejected where the server has none."""
        found = self.config.model or next(iter(self.loaded_here(self.models(), self.loaded())), "")
        if not found:
            advice = "Download a model on the server, or name one in the configuration."
            raise Rejected(f"{self.service.title} has no model for this work.", advice=advice)
        return found

    @staticmethod
    def loaded_here(models: Sequence[Model], loaded: Sequence[str] | None) -> list[str]:
        """Names of ``models``, the loaded ones first: a try-out should not load a model nobody uses."""
        return sorted((one.name for one in models), key=lambda name: name not in (loaded or ()))

    # What the card and the page show

    def metrics(self) -> Sequence[Metric]:
        """Health latency (headline), what is there and in memory, and the last try-out's time and factor."""
        with deadline():
            if self._health_ms is None:
                self._ask()
            try:
                note, counted = self._counted()
            finally:
                self._try_when_due()
        latency_ms = round(self._health_ms or 0.0, 2)
        found = [Metric("health_latency", "Health latency", latency_ms, Unit.MILLISECONDS, headline=True, note=note)]
        return [*found, *counted, *_tried_metrics(self._tried)]

    @abstractmethod
    def _counted(self) -> tuple[str, list[Metric]]:
        """The headline's note, and the counts."""

    def _model_counts(self) -> tuple[str, list[Metric]]:
        """The model in use ("" where unknown), and how many there are and are loaded."""
        listed, loaded = self.models(), self.loaded()
        names = {one.name for one in listed}
        here = None if loaded is None else [name for name in loaded if name in names]
        counts = [] if self.config.dialect in FIXED else [Metric("models", "Models", len(listed))]
        if here is not None:
            counts.append(Metric("loaded_models", "Loaded models", len(here)))
        return self.config.model or next(iter(self.loaded_here(listed, here)), ""), counts

    def settings(self) -> Sequence[Setting]:
        """Dialect, models with the loaded ones marked, voices; each list at most 200."""
        with deadline():
            listed, loaded, voices = self.models(), self.loaded(), self.voices()
        found = [Setting("Dialect", self.config.dialect), Setting("Model", self.config.model or "the first one loaded")]
        if loaded is not None:
            found.append(Setting("Loaded models", ", ".join(loaded) or "none"))
        for one in listed:
            here = "unknown" if loaded is None else "loaded" if one.name in loaded else "not loaded"
            found.append(Setting(one.name, here, group="Models"))
        return [*found, *(Setting(one.name, one.language or "not told", group="Voices") for one in voices)]

    def close(self) -> None:
        """Close the client."""
        http = self.__dict__.pop("_http", None)
        if http is not None:
            http.close()


FIXED = frozenset({"whisper.cpp", "asr-webservice", "srs"})
"""Dialects that do not list their models."""


def _word(text: str) -> str | None:
    """The one word a health address says, in lower case; None where it says none."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = text.strip() if len(text) <= 20 else None
        return body.lower() if body and body.lower() in GOOD | BAD else None
    if isinstance(body, dict):
        body = body.get("status", body.get("message"))
    return body.strip().lower()[:80] if isinstance(body, str) and body.strip() else None


def _tried_metrics(tried: TryOut | None) -> list[Metric]:
    if tried is None or not tried.ok:
        return []
    found = [Metric("try_out_latency", "Try-out", round(tried.latency_ms, 2), Unit.MILLISECONDS)]
    factor = tried.real_time_factor
    if factor is not None:
        note = "below 100 % is faster than real time"
        found.append(Metric("real_time_factor", "Real-time factor", round(factor, 4), Unit.RATIO, note=note))
    return found
