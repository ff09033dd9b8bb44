"""What the platform's own types are started with is checked before they start, and said whole."""

from __future__ import annotations

from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from operations import workflow_inputs, workflow_start
from operations.change import FieldError, Invalid
from operations.workflow_catalogue import CATALOGUE, MaintenanceInput, SleepInput
from workflows.errors import translated


@pytest.mark.parametrize(
    ("kind", "given", "field", "allowed"),
    [
        ("maintenance", {"job": "restore"}, "job", "clean-up, reconcile, backup"),
        ("maintenance", {"job": ""}, "job", "clean-up, reconcile, backup"),
        ("usage-sync", {"batch": 5000}, "batch", "1 to 100"),
        ("usage-sync", {"batch": 0}, "batch", "1 to 100"),
        ("sleep-cycle", {"target": "nap"}, "target", "active, light, deep, freeze"),
        ("sleep-cycle", {"ttl_seconds": 3601}, "ttl_seconds", "1 to 3600 seconds"),
        ("memory-consolidation", {"concurrency": 0}, "concurrency", "1 to 32 tenants at a time"),
    ],
)
def test_a_run_that_would_fail_is_not_started(kind: str, given: dict[str, Any], field: str, allowed: str) -> None:
    with pytest.raises(Invalid) as refused:
        workflow_start.made(kind, given)
    assert [(one.field, one.allowed) for one in refused.value.errors] == [(field, allowed)]


def test_what_is_fine_and_every_default_passes() -> None:
    assert workflow_start.made("sleep-cycle", {"target": "deep"}) == SleepInput("deep")
    assert workflow_start.made("maintenance", {"job": "backup"}) == MaintenanceInput("backup")
    for kind in CATALOGUE:
        if not workflow_start.per_tenant(kind):
            workflow_start.made(kind, {})


def test_closed_choices_are_known_to_the_form() -> None:
    for (kind, name), choices in workflow_inputs.CHOICES.items():
        field = next(one for one in workflow_start.fields(kind) if one.name == name)
        assert field.choices == choices
        assert field.default in choices


def test_a_sentence_names_the_values_allowed() -> None:
    error = Invalid([FieldError("job", "is none", "clean-up, backup"), FieldError("filter", "is empty")])
    assert str(error) == "job: is none (allowed: clean-up, backup); filter: is empty"
    with (
        pytest.raises(ApplicationError, match=r"Sleeping: job: is none \(allowed: clean-up, backup\)"),
        translated("Sleeping"),
    ):
        raise error
