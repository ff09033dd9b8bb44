"""What the platform's own types can be run with, checked before they start rather than when they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from adapters.lago_records.events import MOST
from adapters.somabrain_client.care import STATES
from operations import somabrain_care
from operations.change import FieldError, Invalid
from operations.workflow_catalogue import (
    BACKUP,
    CLEAN_UP,
    CONSOLIDATION,
    MAINTENANCE,
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


def check(kind: str, given: Any) -> None:
    """Raise Invalid, naming the fields, for what a run would fail with; tenants' types are for their own door."""
    if kind in _CHECKS:
        _CHECKS[kind](given)


def _usage(given: UsageSyncInput) -> None:
    if not 1 <= given.batch <= MOST:
        raise Invalid([FieldError("batch", "is out of range", f"1 to {MOST}")])


def _maintenance(given: MaintenanceInput) -> None:
    jobs = CHOICES[MAINTENANCE, "job"]
    if given.job not in jobs:
        raise Invalid([FieldError("job", "is none", ", ".join(jobs))])


_CHECKS: dict[str, Callable[[Any], None]] = {
    SLEEP_CYCLE: somabrain_care.check_sleep,
    CONSOLIDATION: somabrain_care.check_consolidation,
    USAGE_SYNC: _usage,
    MAINTENANCE: _maintenance,
}
