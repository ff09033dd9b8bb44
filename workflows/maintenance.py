"""The platform's own housekeeping as a workflow, so that its runs, failures and retries can be seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.workflow import ActivityCancellationType

with workflow.unsafe.imports_passed_through():
    from operations import backups, maintenance
    from operations.platform import Platform
    from operations.workflow_catalogue import (
        BACKUP,
        BACKUP_SCHEDULE,
        CLEAN_UP,
        MAINTENANCE,
        RECONCILE,
        Maintained,
        MaintenanceInput,
    )
    from operations.workflow_progress import DONE, QUERY, Progress
    from workflows.errors import translated
    from workflows.inputs import check
    from workflows.planned import Planned
    from workflows.steps import UNTIL_DONE, Came, Steps, Task
    from workflows.threads import in_thread

MAX_BATCHES = 50
SHORT = timedelta(minutes=2)
LONG = timedelta(hours=1)
SILENT = timedelta(seconds=30)
AFTERWARDS = {
    CLEAN_UP: "The next run goes on where this one ended.",
    RECONCILE: "The next run looks again.",
}
ABANDONED = "backup-abandoned"
"""The change by which a run that does not come to its end says so in its backup's row."""
CANCELED = "Canceled."
"""What a step says that a cancel has ended."""
NOT_COUNTED = "This backup does not count."
COUNTED = "The backup itself is proved and counts; the next run removes what is old."
WORKFLOW = MAINTENANCE


@dataclass
class Batch:
    """Rows removed by one batch of a clean-up, by kind, and whether there may be more."""

    rows: dict[str, int] = field(default_factory=dict)
    more: bool = False


class Activities:
    """The activities, bound to the worker's platform."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    @activity.defn(name="maintenance.clean_up")
    async def clean_up(self) -> Batch:
        """Remove one batch of what is past its time."""
        with translated("Cleaning up"):
            done = await in_thread(lambda: maintenance.clean_up(self._platform))
        return Batch({name: count for name, count in asdict(done).items() if count}, done.more)

    @activity.defn(name="maintenance.remove_expired_overrides")
    async def remove_expired_overrides(self) -> int:
        """Remove limits of tenants and agents that expired long ago."""
        with translated("Removing expired overrides"):
            return await in_thread(lambda: maintenance.remove_expired_overrides(self._platform))

    @activity.defn(name="maintenance.prune_samples")
    async def prune_samples(self) -> int:
        """Drop samples past their time."""
        with translated("Pruning samples"):
            return await in_thread(lambda: maintenance.prune_samples(self._platform))

    @activity.defn(name="maintenance.reconcile")
    async def reconcile(self) -> dict[str, int]:
        """Deliver what waits and repair what differs."""
        with translated():
            return await in_thread(lambda: maintenance.reconcile(self._platform))

    @activity.defn(name="maintenance.make_backup")
    async def make_backup(self, ident: str) -> int:
        """Make and store the backup; its size in bytes."""
        with translated("Making the backup"):
            return await in_thread(lambda: backups.make(self._platform, ident))

    @activity.defn(name="maintenance.prove_backup")
    async def prove_backup(self, ident: str) -> int:
        """Restore it into a scratch database; how many rows are there."""
        with translated("Proving the backup"):
            return await in_thread(lambda: backups.prove(self._platform, ident))

    @activity.defn(name="maintenance.abandon_backup")
    async def abandon_backup(self, ident: str, why: str) -> bool:
        """Note that its run ended before it was proved."""
        with translated("Noting the end of the backup", until_done=True):
            return await in_thread(lambda: backups.abandon(self._platform, ident, why))

    @activity.defn(name="maintenance.expire_backups")
    async def expire_backups(self) -> int:
        """Remove what the rule no longer keeps."""
        with translated("Removing old backups"):
            return await in_thread(lambda: backups.expire(self._platform))


@workflow.defn(name=MAINTENANCE)
class Maintenance:
    """One job of the platform's own: clean-up, reconciliation, or a backup that is proved before it counts."""

    def __init__(self) -> None:
        self._steps = Steps([], lambda: "")
        self._counts: Counter[str] = Counter()

    @workflow.run
    async def run(self, given: MaintenanceInput | None = None) -> Maintained:
        """Returns what was counted. Fails with "StepFailed" naming the step, or "Invalid" for an unknown job."""
        given = given or MaintenanceInput()
        check(MAINTENANCE, given, self._steps.progress)
        job = given.job
        tasks = {CLEAN_UP: self._clean_up, RECONCILE: self._reconcile, BACKUP: self._backup}[job]
        self._steps = Steps(tasks(), lambda: self._afterwards(job))
        await self._steps.run()
        self._steps.progress.sentence = "; ".join(step.detail for step in self._steps.progress.steps if step.detail)
        return Maintained(job, dict(self._counts), self._steps.progress.sentence)

    @workflow.query(name=QUERY)
    def progress(self) -> Progress:
        """The steps and how far each is."""
        return self._steps.progress

    def _afterwards(self, job: str) -> str:
        if job != BACKUP:
            return AFTERWARDS[job]
        states = {step.name: step.state for step in self._steps.progress.steps}
        return COUNTED if states["prove"] == DONE else NOT_COUNTED

    async def _abandon(self, ident: str) -> bool:
        """Nothing is taken back; where it was not proved, its row says that and why. False: the step stays as it is."""
        make, prove = (step for step in self._steps.progress.steps if step.name in ("make", "prove"))
        if prove.state == DONE or not workflow.patched(ABANDONED):
            return False
        failed = prove.detail if "bytes" in self._counts else make.detail
        canceled = failed in ("", CANCELED)
        why = "Its run was canceled, or out of time." if canceled else f"Its run ended without proving it. {failed}"
        await workflow.execute_activity(
            "maintenance.abandon_backup", args=[ident, why], result_type=bool, start_to_close_timeout=SHORT,
            retry_policy=UNTIL_DONE, summary="Note that the backup does not count",
        )  # fmt: skip
        return False

    def _clean_up(self) -> list[Task]:
        return [
            Task("rows", "Remove what is past its time", self._rows),
            Task("overrides", "Remove overrides that expired long ago", self._overrides, needs=("rows",)),
            Task("samples", "Drop old samples", self._samples, needs=("rows",)),
        ]

    async def _rows(self) -> Came:
        for _ in range(MAX_BATCHES):  # what is left is the next run's
            batch = await _do(Batch, "maintenance.clean_up", SHORT)
            self._counts.update(batch.rows)
            if not batch.more:
                break
        return Came(_words(self._counts) or "nothing to remove")

    async def _overrides(self) -> Came:
        removed = await _do(int, "maintenance.remove_expired_overrides", SHORT)
        self._counts["expired_overrides"] = removed
        return Came(f"{removed} expired overrides removed" if removed else "no expired overrides")

    async def _samples(self) -> Came:
        dropped = await _do(int, "maintenance.prune_samples", SHORT)
        self._counts["sample_partitions"] = dropped
        return Came(f"{dropped} partitions of samples dropped" if dropped else "no old samples")

    def _reconcile(self) -> list[Task]:
        return [Task("reconcile", "Deliver what waits, repair what differs", self._repair)]

    async def _repair(self) -> Came:
        done: dict[str, int] = await _do(dict, "maintenance.reconcile", SHORT)
        self._counts.update(done)
        return Came(_words(done) or "nothing differed")

    def _backup(self) -> list[Task]:
        started = workflow.now()
        ident = f"{started:%Y%m%dT%H%M%S}-{workflow.uuid4().hex[:8]}"

        async def make() -> Came:
            size = await _do(int, "maintenance.make_backup", LONG, ident)
            self._counts["bytes"] = size
            return Came(f"{ident}: {size:,} bytes stored")

        async def prove() -> Came:
            rows = await _do(int, "maintenance.prove_backup", LONG, ident)
            self._counts["rows"] = rows
            return Came(f"{rows:,} rows restored and found equal")

        async def expire() -> Came:
            gone = await _do(int, "maintenance.expire_backups", LONG)
            self._counts["expired"] = gone
            return Came(f"{gone} old backups removed" if gone else "no old backups to remove")

        return [
            Task("make", "Dump, encrypt and store", make, undo=lambda: self._abandon(ident)),
            Task("prove", "Restore into a scratch database and compare", prove, needs=("make",)),
            Task("expire", "Remove what the rule no longer keeps", expire, needs=("prove",)),
        ]


async def _do(result: type[Any], name: str, limit: timedelta, *args: Any) -> Any:
    """An activity, retried as the settings of the workflow's type say; its name says in words what it does."""
    return await workflow.execute_activity(
        name,
        args=args,
        result_type=result,
        start_to_close_timeout=limit,
        heartbeat_timeout=SILENT if limit is LONG else None,
        summary=name.removeprefix("maintenance.").replace("_", " ").capitalize(),
        # Of a backup nothing is at work any more when its end is noted.
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED
        if limit is LONG
        else ActivityCancellationType.TRY_CANCEL,
    )


def _words(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items() if count)


WORKFLOWS = (Maintenance,)
SCHEDULES = (
    Planned("pilothouse-maintenance", MAINTENANCE, MaintenanceInput(CLEAN_UP), timedelta(hours=6),
            "Removes what is past its time.", at_once=True),
    Planned("pilothouse-reconcile", MAINTENANCE, MaintenanceInput(RECONCILE), timedelta(minutes=5),
            "Delivers what waits and repairs what differs."),
    Planned(BACKUP_SCHEDULE, MAINTENANCE, MaintenanceInput(BACKUP), "15 2 * * *",
            "A backup a day, proved by restoring it."),
)  # fmt: skip


def activities(platform: Platform) -> list[Callable[..., Any]]:
    """Everything a worker can do for this module's workflows."""
    made = Activities(platform)
    return [
        made.clean_up,
        made.remove_expired_overrides,
        made.prune_samples,
        made.reconcile,
        made.make_backup,
        made.prove_backup,
        made.abandon_backup,
        made.expire_backups,
    ]
