"""Making a tenant in every system it lives in, or leaving nothing behind.

First the tenant's row is claimed; then its parts are made side by side, each noted on the row before it is begun;
then the tenant becomes active and is welcomed. Where a step fails, or the run is canceled or out of time, all of it is
taken back, last the row. A tenant at work already is left as it is: running it twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    from adapters.core import Unconfigured
    from operations import tenant_parts, tenant_records
    from operations.platform import Platform
    from operations.tenant_records import NAMES, Claim
    from operations.tenant_systems import TenantSpec
    from operations.workflow_catalogue import PROVISIONING, Provisioned, ProvisioningInput
    from operations.workflow_progress import QUERY, Progress
    from workflows.errors import translated
    from workflows.inputs import CHECKED, check
    from workflows.steps import TAKE_BACK, UNTIL_DONE, Came, Steps, Task
    from workflows.threads import in_thread

PARTS = ("keycloak", "lago", "qdrant", "s3", "somabrain")
"""The systems that do not depend on each other."""
TITLES = {
    "claim": "Row and tier",
    "keycloak": "Keycloak group",
    "lago": "Lago customer and subscription",
    "qdrant": "Qdrant collection",
    "s3": "S3 prefix",
    "somabrain": "SomaBrain namespace",
    "finish": "Ready for use",
    "welcome": "Welcome mail",
}
TIMEOUT = timedelta(seconds=12)
"""Of one attempt. Short: after a worker has died its steps are tried again only when this is over."""


class Activities:
    """What the steps do, bound to the worker's platform. All may be repeated and interrupted at any point."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    @activity.defn(name="tenant.claim")
    async def claim(self, given: ProvisioningInput, token: str) -> Claim:
        """Take the tenant's row, or find the tenant at work."""
        owner = activity.info().workflow_id or ""
        with translated():
            return await in_thread(lambda: tenant_records.claim(self._platform, _spec(given), owner, token))

    @activity.defn(name="tenant.release")
    async def release(self, tenant: str, token: str) -> bool:
        """Remove the row this run claimed."""
        with translated(until_done=True):
            return await in_thread(lambda: tenant_records.release(self._platform, tenant, token))

    @activity.defn(name="tenant.make")
    async def make(self, given: ProvisioningInput, system: str, token: str) -> dict[str, Any]:
        """Make one system's part: its identifier, detail, skipped, and also a second identifier."""
        with translated(passing=(Unconfigured,)):
            made = await in_thread(lambda: tenant_parts.make(self._platform, _spec(given), system, token))
        return {
            "identifier": made.identifier, "detail": made.detail, "skipped": made.skipped, "also": made.also,
        }  # fmt: skip

    @activity.defn(name="tenant.unmake")
    async def unmake(self, tenant: str, system: str, token: str) -> bool:
        """Remove one system's part where this run began it."""
        with translated(until_done=True):
            return await in_thread(lambda: tenant_parts.unmake(self._platform, tenant, system, token))

    @activity.defn(name="tenant.activate")
    async def activate(self, tenant: str, token: str, names: dict[str, str]) -> bool:
        """Make the tenant active."""
        run = activity.info().workflow_run_id or ""
        with translated():
            return await in_thread(lambda: tenant_records.activate(self._platform, tenant, token, run, names))

    @activity.defn(name="tenant.deactivate")
    async def deactivate(self, tenant: str, token: str) -> bool:
        """Take back what this very run made active."""
        run = activity.info().workflow_run_id or ""
        with translated(until_done=True):
            return await in_thread(lambda: tenant_records.deactivate(self._platform, tenant, token, run))

    @activity.defn(name="tenant.welcome")
    async def welcome(self, given: ProvisioningInput, token: str) -> bool:
        """Queue the welcome mail once."""
        with translated():
            return await in_thread(lambda: tenant_records.welcome(self._platform, _spec(given), token))

    @activity.defn(name="tenant.unwelcome")
    async def unwelcome(self, tenant: str, token: str) -> bool:
        """Call the welcome mail off while it waits."""
        with translated(until_done=True):
            return await in_thread(lambda: tenant_records.unwelcome(self._platform, tenant, token))


@workflow.defn(name=PROVISIONING)
class TenantProvisioning:
    """See the module."""

    @workflow.init
    def __init__(self, given: ProvisioningInput | None = None) -> None:
        self._given = given or ProvisioningInput("", "", "", "")
        self._claim = Claim(workflow.info().run_id)
        self._names: dict[str, str] = {}
        self._skipped: list[str] = []
        parts = [
            Task(name, TITLES[name], partial(self._make, name), partial(self._unmake, name), ("claim",))
            for name in PARTS
        ]
        self._steps = Steps(
            [
                Task("claim", TITLES["claim"], self._take, self._release),
                *parts,
                Task("finish", TITLES["finish"], self._activate, self._deactivate, PARTS),
                Task("welcome", TITLES["welcome"], self._welcome, self._unwelcome, ("finish",)),
            ],
            self._afterwards,
        )

    @workflow.run
    async def run(self, given: ProvisioningInput | None = None) -> Provisioned:
        """Returns the tenant's names.

        Fails with "Invalid" that names the fields, or "StepFailed" that says which step failed and why.
        """
        given = self._given
        check(PROVISIONING, given, self._steps.progress, since=CHECKED)
        self._steps.progress.sentence = f"Making {given.name} in every system."
        await self._steps.run()
        done = "was there already; nothing was changed" if self._claim.existing else "is ready for use"
        self._steps.progress.sentence = f"{given.name} {done}."
        names = self._claim.names if self._claim.existing else self._names
        result = Provisioned(given.tenant, skipped=sorted(self._skipped))
        for name, field in NAMES.items():
            setattr(result, field, names.get(name, ""))
        return result

    @workflow.query(name=QUERY)
    def progress(self) -> Progress:
        """The steps and how far they are."""
        return self._steps.progress

    def _afterwards(self) -> str:
        begun = any(step.started_at for step in self._steps.progress.steps if step.name in PARTS)
        return "Whatever was made for the tenant has been removed again." if begun else "Nothing was made."

    async def _take(self) -> Came:
        claim = await _do("claim", "tenant.claim", self._given, self._claim.token, result=Claim)
        # The token stays with the run that claimed first, also where this one was reset to a point after that.
        self._claim = claim
        return Came(f"{self._given.tenant} is at work already." if claim.existing else f"On {self._given.tier}.")

    async def _release(self) -> None:
        await _undo("claim", "tenant.release", self._given.tenant, self._claim.token)

    async def _make(self, name: str) -> Came:
        if self._claim.existing:
            return _THERE
        made = await _do(name, "tenant.make", self._given, name, self._claim.token, result=dict)
        self._names[name] = made["identifier"]
        if made["also"]:
            self._names["subscription"] = made["also"]
        if made["skipped"]:
            self._skipped.append(name)
        return Came(made["detail"], made["skipped"])

    async def _unmake(self, name: str) -> None:
        await _undo(name, "tenant.unmake", self._given.tenant, name, self._claim.token)

    async def _activate(self) -> Came:
        if self._claim.existing:
            return _THERE
        await _do("finish", "tenant.activate", self._given.tenant, self._claim.token, self._names)
        return Came("Active.")

    async def _deactivate(self) -> None:
        await _undo("finish", "tenant.deactivate", self._given.tenant, self._claim.token)

    async def _welcome(self) -> Came:
        if self._claim.existing:
            return _THERE
        await _do("welcome", "tenant.welcome", self._given, self._claim.token)
        return Came(f"On its way to {self._given.email}.")

    async def _unwelcome(self) -> None:
        await _undo("welcome", "tenant.unwelcome", self._given.tenant, self._claim.token)


_THERE = Came("There already.", skipped=True)


async def _do(step: str, name: str, *args: Any, result: type | None = None) -> Any:
    # Canceled, a step still waits for the end of its attempt: what is taken back must not come to be afterwards.
    return await workflow.execute_activity(
        name, args=args, result_type=result, start_to_close_timeout=TIMEOUT, summary=TITLES[step],
        cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )  # fmt: skip


async def _undo(step: str, name: str, *args: Any) -> None:
    await workflow.execute_activity(
        name, args=args, start_to_close_timeout=TIMEOUT, retry_policy=UNTIL_DONE, summary=TAKE_BACK + TITLES[step]
    )


def _spec(given: ProvisioningInput) -> TenantSpec:
    return TenantSpec(given.tenant, given.name, given.tier, given.email)


WORKFLOWS: tuple[type, ...] = (TenantProvisioning,)
SCHEDULES: tuple[Any, ...] = ()


def activities(platform: Platform) -> Sequence[Callable[..., Any]]:
    """The activities on one platform."""
    own = Activities(platform)
    return [
        own.claim, own.release, own.make, own.unmake, own.activate, own.deactivate, own.welcome, own.unwelcome,
    ]  # fmt: skip
