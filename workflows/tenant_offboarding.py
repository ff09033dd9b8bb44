"""Removing a tenant from every system it lives in, after a waiting period that people can end or call off.

While it waits nothing is removed and "keep_tenant", or canceling the run, puts the tenant back to what it was. Then
billing is closed first, and the rest goes in the reverse of provisioning. What is removed cannot be brought back: a
run that fails there is started again and goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from temporalio import activity, workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from adapters.core import Unconfigured
    from operations import tenant_leaving, tenant_parts
    from operations.platform import Platform
    from operations.tenant_leaving import LONGEST_WAIT_HOURS, Leaving
    from operations.workflow_catalogue import END_WAIT, KEEP_TENANT, OFFBOARDING, Offboarded, OffboardingInput
    from operations.workflow_progress import QUERY, Progress
    from workflows.errors import translated
    from workflows.inputs import CHECKED, check
    from workflows.steps import UNTIL_DONE, Came, Steps, Task
    from workflows.threads import in_thread

BILLING = "lago"
PARTS = ("somabrain", "s3", "qdrant", "keycloak")
TITLES = {
    "mark": "Marked as leaving",
    "wait": "Waiting period",
    "lago": "Last bill and Lago customer",
    "somabrain": "SomaBrain namespace",
    "s3": "S3 prefix",
    "qdrant": "Qdrant collection",
    "keycloak": "Keycloak group",
    "close": "Closed",
}
KEPT, OVER = "The tenant is kept", "The waiting period is over"
TIMEOUT = timedelta(seconds=12)
REMOVE_TIMEOUT = timedelta(hours=1)
"""Of one attempt to remove a part: millions of files take their time, and the heartbeat tells that it goes on."""
HEARTBEAT = timedelta(seconds=15)


class Activities:
    """What the steps do, bound to the worker's platform. All may be repeated and interrupted at any point."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    @activity.defn(name="tenant.mark_leaving")
    async def mark(self, tenant: str, ends_at: datetime, reason: str) -> Leaving:
        """Set the tenant offboarding."""
        with translated():
            return await in_thread(partial(tenant_leaving.mark, self._platform, tenant, _owner(), ends_at, reason))

    @activity.defn(name="tenant.waited")
    async def waited(self, tenant: str) -> None:
        """Note that removing begins."""
        with translated():
            await in_thread(partial(tenant_leaving.waited, self._platform, tenant, _owner()))

    @activity.defn(name="tenant.keep")
    async def keep(self, tenant: str) -> bool:
        """Put the tenant back to what it was."""
        with translated(until_done=True):
            return await in_thread(partial(tenant_leaving.keep, self._platform, tenant, _owner()))

    @activity.defn(name="tenant.remove")
    async def remove(self, tenant: str, system: str) -> bool:
        """Remove one system's part; the heartbeat says how many things are gone."""
        gone = [0]

        def count(done: int) -> None:
            gone[0] = done

        with translated(passing=(Unconfigured,)):
            work = partial(tenant_parts.remove, self._platform, tenant, system, _owner(), count)
            return await in_thread(work, lambda: gone[0])

    @activity.defn(name="tenant.close")
    async def close(self, tenant: str) -> bool:
        """Close the tenant's row."""
        with translated():
            return await in_thread(partial(tenant_leaving.close, self._platform, tenant, _owner()))


def _owner() -> str:
    return activity.info().workflow_id or ""


@workflow.defn(name=OFFBOARDING)
class TenantOffboarding:
    """See the module."""

    @workflow.init
    def __init__(self, given: OffboardingInput | None = None) -> None:
        self._given = given or OffboardingInput("")
        self._result = Offboarded(self._given.tenant)
        self._leaving = Leaving()
        self._wanted = ""
        parts = [Task(name, TITLES[name], partial(self._remove, name), needs=(BILLING,)) for name in PARTS]
        self._steps = Steps(
            [
                Task("mark", TITLES["mark"], self._mark, self._keep),
                Task("wait", TITLES["wait"], self._wait, needs=("mark",)),
                Task(BILLING, TITLES[BILLING], partial(self._remove, BILLING), needs=("wait",)),
                *parts,
                Task("close", TITLES["close"], self._close, needs=PARTS),
            ],
            self._afterwards,
        )

    @workflow.run
    async def run(self, given: OffboardingInput | None = None) -> Offboarded:
        """Returns what was removed, or that the tenant was kept.

        Fails with "Invalid" that names the fields, or "StepFailed".
        """
        check(OFFBOARDING, self._given, self._steps.progress, since=CHECKED)
        await self._steps.run()
        if self._result.kept:
            self._steps.progress.sentence = "Called off: the tenant is what it was before."
        elif not self._result.removed and self._leaving.gone:
            self._steps.progress.sentence = "There is no such tenant any more: nothing was to be done."
        else:
            self._steps.progress.sentence = "Closed. Nothing of the tenant is left in any system."
        return self._result

    @workflow.query(name=QUERY)
    def progress(self) -> Progress:
        """The steps and how far they are; while it waits, until when."""
        return self._steps.progress

    @workflow.signal(name=END_WAIT)
    def end_wait(self) -> None:
        """Begin removing now. Nothing once it has begun, or was called off."""
        self._wanted = self._wanted or END_WAIT

    @workflow.signal(name=KEEP_TENANT)
    def keep_tenant(self) -> None:
        """Call it off. Nothing once removing has begun."""
        self._wanted = self._wanted or KEEP_TENANT

    async def _mark(self) -> Came:
        self._steps.progress.sentence = f"Marking {self._given.tenant} as leaving."
        given = self._given
        if not 0 <= given.wait_hours <= LONGEST_WAIT_HOURS:  # of a run that began before inputs.check
            said = f"The waiting period is 0 to {LONGEST_WAIT_HOURS} hours."
            raise ApplicationError(said, type="Invalid", non_retryable=True)
        ends_at = workflow.now() + timedelta(hours=given.wait_hours)
        self._leaving = await _do(
            TITLES["mark"], "tenant.mark_leaving", given.tenant, ends_at, given.reason, result=Leaving
        )
        if self._leaving.gone:
            return Came("There is no such tenant any more.", skipped=True)
        return Came(self._given.reason)

    async def _keep(self) -> bool:
        """Take the mark back; False where removing has begun."""
        self._result.kept = await _do(KEPT, "tenant.keep", self._given.tenant, result=bool, retry_policy=UNTIL_DONE)
        return self._result.kept

    def _afterwards(self) -> str:
        if self._result.kept:
            return "The tenant is what it was before."
        return "Start it again to go on where it was." if self._leaving.ends_at else "Nothing was changed."

    async def _wait(self) -> Came:
        if self._leaving.gone:
            return _NOTHING
        if not self._leaving.waited:
            end = datetime.fromisoformat(self._leaving.ends_at)
            self._steps.progress.sentence = (
                f"Waits until {end:%Y-%m-%d %H:%M} UTC. Until then the tenant can be kept, or the wait ended."
            )
            left = (end - workflow.now()).total_seconds()
            if left > 0:
                try:
                    await workflow.wait_condition(
                        lambda: bool(self._wanted), timeout=left, timeout_summary=TITLES["wait"]
                    )
                except TimeoutError:
                    self._wanted = self._wanted or END_WAIT
            if self._wanted == KEEP_TENANT:
                await self._keep()
                if self._result.kept:
                    return Came("Called off.", skipped=True)
            self._wanted = self._wanted or END_WAIT
            await _do(OVER, "tenant.waited", self._given.tenant)
        self._steps.progress.sentence = "Removing the tenant from every system."
        return Came("Over.")

    async def _remove(self, name: str) -> Came:
        if self._leaving.gone or self._result.kept:
            return _NOTHING
        was = await workflow.execute_activity(
            "tenant.remove", args=[self._given.tenant, name], result_type=bool, start_to_close_timeout=REMOVE_TIMEOUT,
            heartbeat_timeout=HEARTBEAT, summary=TITLES[name],
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )  # fmt: skip
        self._result.removed.append(name)
        return Came("Removed." if was else "There was nothing.")

    async def _close(self) -> Came:
        if self._leaving.gone or self._result.kept:
            return _NOTHING
        await _do(TITLES["close"], "tenant.close", self._given.tenant)
        return Came("Its row stays for audit and billing; its id is not used again.")


_NOTHING = Came("Nothing to do.", skipped=True)


async def _do(summary: str, name: str, *args: Any, result: type | None = None, **more: Any) -> Any:
    return await workflow.execute_activity(
        name, args=args, result_type=result, start_to_close_timeout=TIMEOUT, summary=summary,
        cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED, **more,
    )  # fmt: skip


WORKFLOWS: tuple[type, ...] = (TenantOffboarding,)
SCHEDULES: tuple[Any, ...] = ()


def activities(platform: Platform) -> Sequence[Callable[..., Any]]:
    """The activities on one platform."""
    own = Activities(platform)
    return [own.mark, own.waited, own.keep, own.remove, own.close]
