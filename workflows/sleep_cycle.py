"""Bringing SomaBrain into a mode of sleep, tenant by tenant. It wakes by itself when its time is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    from operations import somabrain_care
    from operations.platform import Platform
    from operations.somabrain_care import Charge
    from operations.workflow_catalogue import SLEEP_CYCLE, PerTenant, SleepInput
    from operations.workflow_progress import QUERY, Progress
    from workflows.errors import translated
    from workflows.inputs import check
    from workflows.planned import Planned
    from workflows.tenant_round import Group, Round, care


class Activities:
    """What a round does, on the worker's platform."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    @activity.defn(name="somabrain.tenants")
    async def tenants(self, named: list[str]) -> list[Charge]:
        """Whom to care for, as runs ask that began before there were pages."""
        with translated():
            return await asyncio.to_thread(somabrain_care.charges, self._platform, named)

    @activity.defn(name="somabrain.tenants_page")
    async def tenants_page(self, named: list[str], after: str) -> list[Charge]:
        """Whom to care for, a page at a time; both rounds ask this."""
        with translated():
            return await asyncio.to_thread(
                somabrain_care.charges, self._platform, named, after=after, most=somabrain_care.TENANTS_AT_ONCE
            )

    @activity.defn(name="somabrain.tenants_beyond")
    async def tenants_beyond(self, after: str) -> int:
        """How many are left out."""
        with translated():
            return await asyncio.to_thread(somabrain_care.beyond, self._platform, after)

    @activity.defn(name="somabrain.sleep")
    async def sleep(self, group: Group, target: str, ttl_seconds: int) -> PerTenant:
        """Put the tenants of a group to sleep."""
        return await care(group, lambda one: somabrain_care.put_to_sleep(self._platform, one, target, ttl_seconds))


@workflow.defn(name=SLEEP_CYCLE)
class SleepCycle:
    """See the module."""

    def __init__(self) -> None:
        self._round = Round()

    @workflow.run
    async def run(self, given: SleepInput | None = None) -> PerTenant:
        """What came of it. Fails with "Invalid" that names the fields, or "AllFailed"."""
        given = given or SleepInput()
        check(SLEEP_CYCLE, given, self._round.progress)
        return await self._round.run(
            given.tenants, given.concurrency, "somabrain.sleep", lambda _: f"{given.target.capitalize()}.",
            [given.target, given.ttl_seconds],
        )  # fmt: skip

    @workflow.query(name=QUERY)
    def progress(self) -> Progress:
        """One step per tenant, or per group of them."""
        return self._round.progress


WORKFLOWS: tuple[type, ...] = (SleepCycle,)
SCHEDULES = (
    Planned(
        SLEEP_CYCLE, SLEEP_CYCLE, SleepInput(), "0 2 * * *",
        "Light sleep of ten minutes at night. Paused until somebody decides when the product may be slow.", paused=True,
    ),
)  # fmt: skip


def activities(platform: Platform) -> Sequence[Callable[..., Any]]:
    """The activities on one platform."""
    own = Activities(platform)
    return [own.tenants, own.tenants_page, own.tenants_beyond, own.sleep]
