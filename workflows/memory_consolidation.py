"""Replaying the writes that did not arrive in SomaBrain's memory, tenant by tenant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    from operations import somabrain_care
    from operations.platform import Platform
    from operations.workflow_catalogue import CONSOLIDATION, ConsolidationInput, PerTenant
    from operations.workflow_progress import QUERY, Progress
    from workflows.inputs import check
    from workflows.planned import Planned
    from workflows.tenant_round import Group, Round, care


class Activities:
    """What a round does, on the worker's platform. Whom to care for is asked of ``sleep_cycle``'s."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    @activity.defn(name="somabrain.consolidate")
    async def consolidate(self, group: Group) -> PerTenant:
        """Replay what failed or is stuck of the tenants of a group."""
        return await care(group, lambda one: somabrain_care.consolidate(self._platform, one))


@workflow.defn(name=CONSOLIDATION)
class MemoryConsolidation:
    """See the module."""

    def __init__(self) -> None:
        self._round = Round()

    @workflow.run
    async def run(self, given: ConsolidationInput | None = None) -> PerTenant:
        """What came of it. Fails with "Invalid" that names the fields, or "AllFailed"."""
        given = given or ConsolidationInput()
        check(CONSOLIDATION, given, self._round.progress)
        return await self._round.run(
            given.tenants, given.concurrency, "somabrain.consolidate",
            lambda items: f"{items:,} replayed." if items else "Nothing to replay.",
        )  # fmt: skip

    @workflow.query(name=QUERY)
    def progress(self) -> Progress:
        """One step per tenant, or per group of them."""
        return self._round.progress


WORKFLOWS: tuple[type, ...] = (MemoryConsolidation,)
SCHEDULES = (
    Planned(
        CONSOLIDATION, CONSOLIDATION, ConsolidationInput(), timedelta(minutes=15),
        "Sends writes once more that failed or are stuck on their way into memory.",
    ),
)  # fmt: skip


def activities(platform: Platform) -> Sequence[Callable[..., Any]]:
    """The activities on one platform."""
    return [Activities(platform).consolidate]
