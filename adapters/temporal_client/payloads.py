"""Payloads of a workflow's input as people read and write them: JSON where they are JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from temporalio.api.common.v1 import Payload

LETTERS = 65_536
_PLAIN = "json/plain"


@dataclass(frozen=True, slots=True)
class Shown:
    """The arguments of an input. ``text`` is a JSON list of them; masked for those who may not see it."""

    text: str
    count: int
    editable: bool
    """False where an argument is not plain JSON, or all are too large to show."""
    masked: bool = False

    def hidden(self) -> Shown:
        """The same without its values."""
        return Shown("••••" if self.count else "", self.count, False, True)


def shown(payloads: Iterable[Payload]) -> Shown:
    """Arguments as a JSON list; what is no plain JSON is described instead and cannot be edited."""
    values: list[object] = []
    editable = True
    for payload in payloads:
        encoding = payload.metadata.get("encoding", b"").decode("ascii", "replace")
        try:
            if encoding == "binary/null":
                values.append(None)
                continue
            if encoding != _PLAIN:
                raise ValueError(encoding)
            values.append(json.loads(payload.data))
        except ValueError:
            editable = False
            values.append(f"{len(payload.data):,} bytes of {encoding or 'unknown encoding'}"[:200])
    text = json.dumps(values, indent=2, ensure_ascii=False) if values else "[]"
    if len(text) > LETTERS:
        return Shown(f"{len(text):,} letters of JSON: too much to show here.", len(values), False)
    return Shown(text, len(values), editable)


def written(values: Iterable[object]) -> list[Payload]:
    """Arguments as plain JSON payloads."""
    return [
        Payload(
            metadata={"encoding": _PLAIN.encode()},
            data=json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(),
        )
        for value in values
    ]
