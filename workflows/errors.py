"""Errors of operations and adapters as activities report them: what kind, in words, and whether trying again helps."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from temporalio import activity
from temporalio.exceptions import ApplicationError

from adapters.core.errors import AdapterError, Denied, Rejected, Unconfigured
from adapters.core.redact import redact
from operations.access import Forbidden
from operations.change import Conflict, Invalid, NotFound

log = logging.getLogger(__name__)

FINAL = (Denied, Rejected, Unconfigured, Invalid, NotFound, Conflict, Forbidden)
"""Errors that the same call meets again: somebody must change something first. Their names are what a history says."""
BUSY = (408, 425, 429)
"""HTTP statuses of a refusal that passes: too many requests, not yet."""


@contextmanager
def translated(
    doing: str = "", *, until_done: bool = False, passing: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Turn what an activity's block raises into an ApplicationError; its type is the name of the error's class.

    Those in FINAL are not retried, all others are; with ``until_done`` (taking something back) all are, and those in
    ``passing``: here they pass by themselves. ``doing`` goes before the sentence ("Creating the group").
    The service's raw text goes to the log alone: a workflow's history is read by more people.
    """
    try:
        yield
    except (AdapterError, Invalid, NotFound, Conflict, Forbidden) as error:
        sentence = error.sentence if isinstance(error, AdapterError) else str(error)
        said = f"{doing}: {sentence}" if doing else sentence
        busy = getattr(error, "status", 0) in BUSY
        final = isinstance(error, FINAL) and not isinstance(error, passing) and not until_done and not busy
        if activity.in_activity():
            detail = redact(getattr(error, "detail", "") or repr(error.__cause__ or ""))
            log.warning("%s: %s (%s)", activity.info().activity_type, said, detail)
        raise ApplicationError(said, type=type(error).__name__, non_retryable=final) from None
