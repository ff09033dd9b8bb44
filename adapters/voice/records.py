"""What voice servers answer, as values: models, voices, try-outs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from adapters.core.errors import Rejected, Unexpected

MAX_LISTED = 200
_SAFE_MODEL = re.compile(r"[\w.:@-]+(/[\w.:@-]+)*")


@dataclass(frozen=True, slots=True)
class Model:
    """One model the server has."""

    name: str
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Voice:
    """One voice the server speaks with; ``language`` is "" where it does not tell."""

    name: str
    language: str = ""


@dataclass(frozen=True, slots=True)
class TryOut:
    """What came of one real piece of work."""

    at: datetime
    latency_ms: float
    audio_seconds: float = 0.0
    """Seconds of sound that went in or came out; 0 where it failed."""
    text: str = ""
    """What was heard or said, at most 200 characters."""
    error: str = ""
    """The sentence of the failure; "" where it worked."""
    detail: str = ""
    advice: str = ""

    @property
    def ok(self) -> bool:
        """Whether the work was done."""
        return not self.error

    @property
    def real_time_factor(self) -> float | None:
        """Seconds of work per second of sound: below 1 is faster than real time. None where it failed."""
        return self.latency_ms / 1000 / self.audio_seconds if self.ok and self.audio_seconds else None


def models(body: Mapping[str, Any], service: str) -> tuple[Model, ...]:
    """Models of an OpenAI-style list, by name, at most 200. Raises Unexpected."""
    rows = _rows(body, "data", service)
    found = {_name(row, ("id",), service): row for row in rows}
    return tuple(
        Model(name, str(row.get("owned_by") or "")[:80] if isinstance(row, dict) else "")
        for name, row in sorted(found.items())[:MAX_LISTED]
    )


def voices(body: Any, service: str) -> tuple[Voice, ...]:
    """Voices of any dialect, by name, at most 200: a list or ``voices``, of names or of objects. Raises Unexpected."""
    rows = body if isinstance(body, list) else _rows(body, "voices", service)
    found = {_name(row, ("id", "voice_id", "name"), service): row for row in rows}
    return tuple(
        Voice(name, str(row.get("language") or "")[:40] if isinstance(row, dict) else "")
        for name, row in sorted(found.items())[:MAX_LISTED]
    )


def loaded(body: Mapping[str, Any], service: str) -> tuple[str, ...]:
    """Names of the models in memory, at most 200. Raises Unexpected."""
    return tuple(sorted(_name(row, ("id",), service) for row in _rows(body, "models", service))[:MAX_LISTED])


def checked_model(name: str) -> str:
    """A model's name that may stand in a path. Raises Rejected for anything that would change the path."""
    if not _SAFE_MODEL.fullmatch(name) or len(name) > 200 or {".", ".."} & set(name.split("/")):
        raise Rejected("This is no name of a model.", detail=name[:200])
    return name


def _rows(body: Any, key: str, service: str) -> list[Any]:
    rows = body.get(key) if isinstance(body, dict) else None
    if not isinstance(rows, list):
        raise Unexpected(f"{service} answered JSON of an unexpected shape.", detail=f"no list {key}: {str(body)[:300]}")
    return rows


def _name(row: Any, keys: tuple[str, ...], service: str) -> str:
    if isinstance(row, str) and row:
        return row[:200]
    if isinstance(row, dict):
        for key in keys:
            value = row.get(key)
            if isinstance(value, str) and value:
                return value[:200]
    raise Unexpected(f"{service} listed something without a name.", detail=str(row)[:300])
