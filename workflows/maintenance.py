"""The platform's own housekeeping as a Temporal workflow, so that its runs, failures and retries can be seen."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from operations.maintenance import clean_up
    from operations.platform import Platform

WORKFLOW = "maintenance"
MAX_BATCHES = 50


@dataclass
class Result:
    """Rows removed by the whole run, per kind."""

    outbox_rows: int = 0
    sessions: int = 0
    state_changes: int = 0
    batches: int = 0


@dataclass
class Batch:
    """Rows removed by one batch, and whether there may be more."""

    outbox_rows: int
    sessions: int
    state_changes: int
    more: bool


class Activities:
    """The activities, bound to the worker's platform."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    @activity.defn(name="maintenance.clean_up")
    async def clean_up(self) -> Batch:
        """Remove one batch of what is past its time."""
        done = await asyncio.to_thread(clean_up, self._platform)
        return Batch(**asdict(done), more=done.more)


@workflow.defn(name=WORKFLOW)
class Maintenance:
    """Clean up in batches until nothing is left to remove."""

    def __init__(self) -> None:
        self._result = Result()

    @workflow.run
    async def run(self) -> Result:
        """Returns what was removed. A run that hits the batch limit leaves the rest to the next."""
        while self._result.batches < MAX_BATCHES:
            batch = await workflow.execute_activity(
                "maintenance.clean_up",
                result_type=Batch,
                start_to_close_timeout=timedelta(minutes=2),
                retry_policy=RetryPolicy(maximum_attempts=5),
            )
            self._result.batches += 1
            self._result.outbox_rows += batch.outbox_rows
            self._result.sessions += batch.sessions
            self._result.state_changes += batch.state_changes
            if not batch.more:
                break
        return self._result

    @workflow.query
    def progress(self) -> Result:
        """What has been removed so far."""
        return self._result
