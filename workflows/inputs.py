"""What a run is given, checked by the run itself: it may have been started at Temporal, by whoever reaches it.

A run of the platform's own that is given what it cannot be run with fails at once with "Invalid", not retried, and says
which field is wrong and what it may hold. Left to the SDK, a value of another type would fail the run's first task
again and again, and the run would never end.
"""

from __future__ import annotations

import json
from contextvars import ContextVar
from dataclasses import replace
from datetime import timedelta
from typing import Any, get_args

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    CompositePayloadConverter,
    DataConverter,
    DefaultPayloadConverter,
    JSONPlainPayloadConverter,
)
from temporalio.exceptions import ApplicationError

from operations import workflow_inputs, workflow_start
from operations.change import FieldError, Invalid
from operations.workflow_catalogue import CATALOGUE
from operations.workflow_progress import Progress
from workflows.errors import translated

TIMEOUT: ContextVar[timedelta | None] = ContextVar("timeout", default=None)
"""How long the run may take by the settings; set around its code by the interceptor."""
CHECKED = "input-checked"
_KINDS = {kind.input: kind.name for kind in CATALOGUE.values()}
_TAKES = {name: ", ".join(f"{one.name}: {one.kind}" for one in workflow_start.fields(name)) for name in CATALOGUE}


def check(kind: str, given: Any, progress: Progress, *, since: str = "") -> None:
    """Fail the run with "Invalid" where it cannot be run with what it is ``given``; its progress says why.

    ``since`` names the change that brought the check to a type whose runs went on without it: those under way still do.
    """
    try:
        with translated():
            workflow_inputs.check(kind, given, _allowed())
    except ApplicationError as error:
        # Asked for only here, so that a run with good values has no marker of it in its history.
        if not since or workflow.patched(since):
            progress.sentence = error.message
            raise


def _allowed() -> timedelta | None:
    """How long this run may take, by the settings or by who started it; None where nothing says."""
    info = workflow.info()
    limits = [one for one in (TIMEOUT.get(), info.execution_timeout, info.run_timeout) if one]
    return min(limits, default=None)


class _Inputs(JSONPlainPayloadConverter):
    """JSON as the SDK reads it, with a sentence where it is not what one of the platform's own types takes."""

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        try:
            return super().from_payload(payload, type_hint)
        except Exception as error:
            kind = next((_KINDS[one] for one in (type_hint, *get_args(type_hint)) if one in _KINDS), None)
            if kind is None:
                raise
            raise ApplicationError(_wrong(kind, payload), type="Invalid", non_retryable=True) from error


class Converter(CompositePayloadConverter):
    """The SDK's own converters, with the one for inputs in place of plain JSON."""

    def __init__(self) -> None:
        own = DefaultPayloadConverter().converters.values()
        super().__init__(*(_Inputs() if isinstance(one, JSONPlainPayloadConverter) else one for one in own))


CONVERTER = replace(DataConverter.default, payload_converter_class=Converter)
"""What a worker's client reads and writes values with."""


def _wrong(kind: str, payload: Payload) -> str:
    """What is wrong with a value that is no input of a type."""
    try:
        value = json.loads(payload.data)
        if isinstance(value, dict):
            workflow_start.made(kind, value)
    except Invalid as error:
        return str(error)
    except (ValueError, RecursionError):
        pass
    return str(Invalid([FieldError("input", f"is not what {kind} takes", _TAKES[kind])]))
