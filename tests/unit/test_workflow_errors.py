"""What activities report: the kind of error, its sentence, whether trying again helps; never the raw text."""

from __future__ import annotations

from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from adapters.core import AdapterError, Denied, Rejected, TimedOut, Unconfigured, Unexpected, Unreachable
from operations.change import Conflict, Invalid, NotFound
from workflows.errors import FINAL, translated


def met(error: Exception, **how: Any) -> ApplicationError:
    with pytest.raises(ApplicationError) as found, translated("Making it", **how):
        raise error
    return found.value


@pytest.mark.parametrize("kind", [Denied, Rejected, Unconfigured, Unreachable, TimedOut, Unexpected])
def test_a_service_failed(kind: type[AdapterError]) -> None:
    error = met(kind("Lago said no."))
    assert (error.message, error.type) == ("Making it: Lago said no.", kind.__name__)
    assert error.non_retryable is (kind in FINAL)
    assert not met(kind("Lago said no."), until_done=True).non_retryable


def test_what_is_not_tried_again_is_named() -> None:
    named = {"Denied", "Rejected", "Unconfigured", "Invalid", "NotFound", "Conflict", "Forbidden"}
    assert {kind.__name__ for kind in FINAL} == named


def test_a_change_was_refused() -> None:
    for error in (Invalid([]), NotFound("It is gone."), Conflict(1, 2)):
        assert met(error).non_retryable


def test_what_passes_by_itself_here_is_tried_again() -> None:
    assert not met(Unconfigured("No address."), passing=(Unconfigured,)).non_retryable
    assert met(Denied("No."), passing=(Unconfigured,)).non_retryable


def test_a_refusal_that_passes_is_tried_again() -> None:
    error = Rejected("Lago refused the request (HTTP 429).")
    error.status = 429
    assert not met(error).non_retryable


def test_the_raw_text_stays_out_of_the_history() -> None:
    try:
        raise OSError("postgresql://user:secret@host")
    except OSError as cause:
        error = Unreachable("No connection.", detail=str(cause))
        error.__cause__ = cause
    found = met(error)
    assert found.__cause__ is None
    assert "secret" not in str(found)


def test_a_mistake_of_the_program_is_left_as_it_is() -> None:
    with pytest.raises(KeyError), translated():
        raise KeyError("x")
