"""What executions were given, returned and failed with, as people can read it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.failure.v1 import Failure as Wire

LETTERS = 20_000
DEEPEST = 8
STACK_LETTERS = 8_000


@dataclass(frozen=True, slots=True)
class Value:
    """One value as text: JSON indented, text as it is, anything else by what it is and how long."""

    text: str
    encoding: str
    readable: bool = True
    """False where ``text`` describes the value instead of being it."""
    cut: bool = False
    """Whether the end is missing, because it is long."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something failed, with what caused it. ``type`` is the error's own name; empty where there is none."""

    kind: str
    """application, timeout, canceled, terminated, server, activity, child workflow, reset or other."""
    type: str
    message: str
    final: bool = False
    """Whether trying again was ruled out by who raised it."""
    stack: str = ""
    cause: Failure | None = None

    @property
    def root(self) -> Failure:
        """The failure at the bottom: the one that says what happened."""
        found = self
        while found.cause is not None:
            found = found.cause
        return found


_KINDS = {
    "application_failure_info": "application",
    "timeout_failure_info": "timeout",
    "canceled_failure_info": "canceled",
    "terminated_failure_info": "terminated",
    "server_failure_info": "server",
    "activity_failure_info": "activity",
    "child_workflow_execution_failure_info": "child workflow",
    "reset_workflow_failure_info": "reset",
}


def value(payload: Payload, letters: int = LETTERS) -> Value:
    """A payload as text. Never raises: what cannot be decoded is described."""
    encoding = payload.metadata.get("encoding", b"").decode("utf-8", "replace")[:100]
    if encoding == "binary/null":
        return Value("null", encoding)
    described = Value(f"{len(payload.data):,} bytes, encoding {encoding or 'not named'}", encoding, readable=False)
    if encoding.startswith("json/"):
        if len(payload.data) > 50 * letters:
            return described
        try:
            text = json.dumps(json.loads(payload.data), indent=2, ensure_ascii=False)
        except (ValueError, RecursionError):
            return described
    elif encoding in ("plain/text", "text/plain", ""):
        try:
            text = payload.data[: 4 * letters].decode("utf-8")
        except UnicodeDecodeError:
            return described
    else:
        return described
    return Value(text[:letters], encoding, cut=len(text) > letters)


def values(payloads: Payloads | Iterable[Payload], letters: int = LETTERS) -> tuple[Value, ...]:
    """Payloads as texts, at most twenty."""
    listed = payloads.payloads if isinstance(payloads, Payloads) else list(payloads)
    return tuple(value(one, letters) for one in listed[:20])


def failure(wire: Wire, depth: int = 0) -> Failure:
    """A failure with its causes, at most eight deep."""
    info = wire.WhichOneof("failure_info") or ""
    kind = _KINDS.get(info, "other")
    name, final, message = "", False, wire.message
    if kind == "application":
        name, final = wire.application_failure_info.type, wire.application_failure_info.non_retryable
    elif kind == "server":
        final = wire.server_failure_info.non_retryable
    elif kind == "timeout":
        name = "Timeout"
    if wire.HasField("encoded_attributes") and message == "Encoded failure":
        message = "The failure is encoded; the console has no codec for it."
    return Failure(
        kind,
        name[:200],
        message[:LETTERS],
        final,
        wire.stack_trace[:STACK_LETTERS],
        failure(wire.cause, depth + 1) if wire.HasField("cause") and depth < DEEPEST else None,
    )
