"""What the platform's own types can be run with, checked before they start and by the run itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from adapters.lago_records.events import MOST
from adapters.somabrain_client.care import STATES
from operations import somabrain_care, tenant_inputs
from operations.change import FieldError, Invalid
from operations.workflow_catalogue import (
    BACKUP,
    CLEAN_UP,
    CONSOLIDATION,
    MAINTENANCE,
    OFFBOARDING,
    PROVISIONING,
    RECONCILE,
    SLEEP_CYCLE,
    USAGE_SYNC,
    MaintenanceInput,
    UsageSyncInput,
)

CHOICES: dict[tuple[str, str], tuple[str, ...]] = {
    (SLEEP_CYCLE, "target"): tuple(STATES),
    (MAINTENANCE, "job"): (CLEAN_UP, RECONCILE, BACKUP),
}
"""Fields by type and name that take one of a few values only."""


def check(kind: str, given: Any, timeout: timedelta | None = None) -> None:
    """Raise Invalid, naming the fields, for what a run cannot be run with; ``timeout`` is how long it may take."""
    wrong: list[FieldError] = []
    if kind == PROVISIONING:
        wrong = tenant_inputs.provisioning(given)
    elif kind == OFFBOARDING:
        wrong = tenant_inputs.offboarding(given, timeout)
    elif kind in _CHECKS:
        _CHECKS[kind](given)
    if wrong:
        raise Invalid(wrong)


def _usage(given: UsageSyncInput) -> None:
    if not 1 <= given.batch <= MOST:
        raise Invalid([FieldError("batch", "is out of range", f"1 to {MOST}")])


def _maintenance(given: MaintenanceInput) -> None:
    jobs = CHOICES[MAINTENANCE, "job"]
    if given.job not in jobs:
        raise Invalid([FieldError("job", f"{given.job[:60]!r} is none", ", ".join(jobs))])


_CHECKS: dict[str, Callable[[Any], None]] = {
    SLEEP_CYCLE: somabrain_care.check_sleep,
    CONSOLIDATION: somabrain_care.check_consolidation,
    USAGE_SYNC: _usage,
    MAINTENANCE: _maintenance,
}
