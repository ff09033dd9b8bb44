"""Usage events on their way into Lago: in batches, each taken once, the good ones in spite of the bad.

Lago takes a batch as a whole or not at all. It refuses one (HTTP 422) with the faults by place in the batch, and names
an event whose ``transaction_id`` it has already as a fault (``value_already_exist``): for us that one is delivered.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from adapters.core.errors import Rejected, Unreachable

MOST = 100
"""Events of one batch, as Lago bounds it."""
SECONDS = 30.0
TAKEN = "value_already_exist"
_ABOUT_CONTENT = (400, 422)


@dataclass(frozen=True, slots=True)
class Event:
    """One usage event. ``at`` and ``transaction_id`` make it the same event whenever it is sent again."""

    transaction_id: str
    subscription_id: str
    code: str
    at: datetime
    properties: Mapping[str, int]

    def wire(self) -> dict[str, Any]:
        """As Lago takes it; the time as Unix seconds."""
        return {
            "transaction_id": self.transaction_id,
            "external_subscription_id": self.subscription_id,
            "code": self.code,
            "timestamp": int(self.at.timestamp()),
            "properties": dict(self.properties),
        }


@dataclass
class Verdict:
    """What became of the events of a batch, by transaction id."""

    taken: set[str] = field(default_factory=set)
    """Taken now."""
    known: set[str] = field(default_factory=set)
    """Lago had them already."""
    refused: dict[str, str] = field(default_factory=dict)
    """Not taken, and why, in Lago's words."""


def units(row: Any, subscription: str) -> tuple[int, int] | None:
    """What a stored event counts; None where it is another subscription's or holds no units."""
    properties = row["properties"] or {}
    if row["external_subscription_id"] != subscription or "units" not in properties:
        return None
    return int(properties["units"]), int(properties.get("over") or 0)


def hand_over(post: Callable[[Sequence[Event]], None], batch: Sequence[Event]) -> Verdict:
    """Send a batch with ``post``, leaving out what Lago finds fault with. Raises AdapterError; see Lago.send_events."""
    verdict = Verdict()
    _send(post, list(batch), verdict)
    return verdict


def _send(post: Callable[[Sequence[Event]], None], batch: list[Event], verdict: Verdict) -> None:
    while batch:
        try:
            post(batch)
        except Rejected as error:
            if error.status == 429:
                raise Unreachable("Lago takes no more for now (HTTP 429).", detail=error.detail) from error
            if error.status not in _ABOUT_CONTENT:
                raise
            faults = _faults(error.body, len(batch))
        else:
            verdict.taken.update(one.transaction_id for one in batch)
            return
        if not faults:  # it does not say which: half by half until the culprit stands alone
            middle = len(batch) // 2
            _send(post, batch[:middle], verdict)
            _send(post, batch[middle:], verdict)
            return
        for place, words in faults.items():
            ident = batch[place].transaction_id
            if words is None:
                verdict.known.add(ident)
            else:
                verdict.refused[ident] = words
        batch = [one for place, one in enumerate(batch) if place not in faults]


def _faults(body: str, size: int) -> dict[int, str | None]:
    """What Lago finds fault with by place in the batch, None for "I have it already"; empty where it names no place.

    A refusal of a single event may name its fields at once, without a place.
    """
    try:
        answer = json.loads(body)
        details = answer.get("error_details") or {}
        code = str(answer.get("code") or answer.get("error") or "")
    except (ValueError, AttributeError):
        details, code = {}, ""
    found: dict[int, str | None] = {}
    if isinstance(details, dict):
        for name, fault in details.items():
            if str(name).isdigit() and int(name) < size:
                found[int(name)] = _words(fault)
    if not found and size == 1:
        found[0] = _words(details) if details else (code or "refused without a reason")[:200]
    return found


def _words(fault: Any) -> str | None:
    """A fault in words; None where it only says that the transaction is known."""
    if not isinstance(fault, dict):
        return (str(fault) or "refused without a reason")[:200]
    named = {
        str(name): [str(one) for one in why] if isinstance(why, list) else [str(why)] for name, why in fault.items()
    }
    if named == {"transaction_id": [TAKEN]}:
        return None
    return "; ".join(f"{name}: {', '.join(why)}" for name, why in named.items())[:200] or "refused without a reason"
