"""A round over tenants inside a workflow: so many at a time, one failing does not stop the others, told by progress.

Few tenants have an activity and a step each. Many share them in groups, so that neither the history nor what the page
shows grows without bounds; within a group they are cared for one after the other.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from adapters.core import AdapterError
    from operations import somabrain_care
    from operations import workflow_progress as progress
    from operations.somabrain_care import Cared, Charge
    from operations.stopping import check
    from operations.workflow_catalogue import PerTenant
    from operations.workflow_progress import Progress, Step
    from workflows.errors import FINAL
    from workflows.steps import said
    from workflows.threads import in_thread

MOST_STEPS = 200
MOST_FAILED = 200
"""As many of those that failed a run's result names; the others are counted."""
WORDS = 300
"""As many characters of why one failed."""
PAGED = "tenants-in-pages"
LISTING = timedelta(seconds=60)
PER_TENANT = timedelta(seconds=60)
HEARTBEAT = timedelta(seconds=10)
ALL_FAILED = "AllFailed"
"""Type of the error a round fails with when not one tenant could be cared for."""


@dataclass
class Group:
    """Tenants cared for by one activity, one after the other."""

    charges: list[Charge] = field(default_factory=list)


async def care(group: Group, work: Callable[[Charge], Cared]) -> PerTenant:
    """Do an activity's ``work`` for each tenant of its group; another attempt goes on where the last one was.

    Raises ApplicationError, with the outcome so far as its detail, where some failed: not retried where all that
    failed would fail again.
    """
    outcome, left, again = PerTenant(), list(group.charges), list[str]()
    told = activity.info().heartbeat_details
    if told:
        so_far, names = told[0]
        outcome = PerTenant(**so_far)
        left = [one for one in left if one.tenant in names]
        outcome.failed = {tenant: why for tenant, why in outcome.failed.items() if tenant not in names}
    lock = threading.Lock()

    def state() -> tuple[dict[str, Any], list[str]]:
        """The outcome so far, and whom another attempt has to see to."""
        with lock:
            return asdict(outcome), [*again, *(one.tenant for one in left)]

    def every() -> None:
        for one in tuple(left):
            check()
            why, final = "", True
            try:
                cared = work(one)
            except AdapterError as error:
                cared, why, final = Cared(), error.sentence, isinstance(error, FINAL)
            with lock:
                left.remove(one)
                if not final:
                    again.append(one.tenant)
                _count(outcome, one.tenant, cared, why)

    await in_thread(every, state)
    if outcome.failed:
        activity.heartbeat(state())
        first = next(iter(outcome.failed.values()))
        raise ApplicationError(first, outcome, type="TenantsFailed", non_retryable=not again)
    return outcome


def _count(outcome: PerTenant, tenant: str, cared: Cared, why: str) -> None:
    if why:
        outcome.failed[tenant] = why[:WORDS]
    elif not cared.unsupported:
        outcome.done += 1
        outcome.items += cared.items
    elif cared.unsupported not in outcome.unsupported:
        outcome.unsupported.append(cared.unsupported)


class Round:
    """One round. ``progress`` is what the query "progress" answers."""

    def __init__(self) -> None:
        self.progress = Progress()
        self._result = PerTenant()

    async def run(
        self, named: Sequence[str], concurrency: int, name: str, told: Callable[[int], str], more: Sequence[Any] = ()
    ) -> PerTenant:
        """Care for the tenants ``named``, or all, with the activity ``name``, ``concurrency`` groups at a time.

        ``told`` says what so many items done for one tenant are; ``more`` goes to the activity after its group.
        Raises ApplicationError "AllFailed" where not one could be cared for.
        """
        self.progress.sentence = "Looking up the tenants."
        charges = await self._charges(list(dict.fromkeys(named)))
        size = max(1, -(-len(charges) // MOST_STEPS))
        groups = [charges[start : start + size] for start in range(0, len(charges), size)]
        for place, group in enumerate(groups):
            title = group[0].tenant if len(group) == 1 else f"{group[0].tenant} to {group[-1].tenant}"
            self.progress.steps.append(Step(str(place), title))
        free = asyncio.Semaphore(concurrency)
        self._tell(len(charges))
        await asyncio.gather(
            *(
                self._one(step, group, free, name, told, more)
                for step, group in zip(self.progress.steps, groups, strict=True)
            )
        )
        self._tell(len(charges))
        if self._failed and self._failed == len(charges):
            why = next(iter(self._result.failed.values()))
            raise ApplicationError(f"No tenant could be cared for: {why}", self._result, type=ALL_FAILED)
        return self._result

    async def _charges(self, named: list[str]) -> list[Charge]:
        """Whom to care for, a page at a time, up to the most of one run."""
        if not workflow.patched(PAGED):
            unpaged: list[Charge] = await workflow.execute_activity(
                "somabrain.tenants", named, result_type=list[Charge], start_to_close_timeout=LISTING,
                summary="Look up the tenants",
            )  # fmt: skip
            return unpaged
        size, most = somabrain_care.TENANTS_AT_ONCE, somabrain_care.MOST_TENANTS
        charges: list[Charge] = []
        if named:
            for start in range(0, min(len(named), most), size):
                charges += await _page(named[start : start + size], "")
            self._result.left_out = max(0, len(named) - most)
            return charges
        page = await _page([], "")
        while page:
            charges += page
            if len(page) < size or len(charges) >= most:
                break
            page = await _page([], charges[-1].tenant)
        if len(charges) >= most:
            self._result.left_out = await workflow.execute_activity(
                "somabrain.tenants_beyond", charges[-1].tenant, result_type=int, start_to_close_timeout=LISTING,
                summary="Count the tenants beyond those",
            )  # fmt: skip
        return charges

    @property
    def _failed(self) -> int:
        return len(self._result.failed) + self._result.failed_more

    def _tell(self, tenants: int) -> None:
        result = self._result
        parts = [f"{result.done:,} of {tenants:,} tenants done"]
        parts += [f"{self._failed:,} failed"] if self._failed else []
        parts += [f"{result.left_out:,} more left out"] if result.left_out else []
        parts += list(result.unsupported[:1])
        self.progress.sentence = ", ".join(parts) if parts[-1].endswith(".") else f"{', '.join(parts)}."

    async def _one(
        self, step: Step, group: list[Charge], free: asyncio.Semaphore, name: str, told: Callable[[int], str],
        more: Sequence[Any],
    ) -> None:  # fmt: skip
        async with free:
            step.state, step.started_at = progress.RUNNING, workflow.now().isoformat()
            try:
                outcome: PerTenant = await workflow.execute_activity(
                    name, args=[Group(group), *more], result_type=PerTenant,
                    start_to_close_timeout=PER_TENANT * len(group), heartbeat_timeout=HEARTBEAT,
                    summary=step.title,
                )  # fmt: skip
            except ActivityError as error:
                if is_cancelled_exception(error):
                    step.state, step.detail = progress.FAILED, "Canceled."
                    raise
                outcome = _outcome(error, group)
            step.ended_at = workflow.now().isoformat()
            step.state, step.detail = _judged(outcome, len(group), told)
            self._add(outcome)

    def _add(self, outcome: PerTenant) -> None:
        self._result.done += outcome.done
        self._result.items += outcome.items
        self._result.unsupported += [one for one in outcome.unsupported if one not in self._result.unsupported]
        for tenant, why in outcome.failed.items():
            if len(self._result.failed) < MOST_FAILED:
                self._result.failed[tenant] = why[:WORDS]
            else:
                self._result.failed_more += 1


async def _page(named: list[str], after: str) -> list[Charge]:
    page: list[Charge] = await workflow.execute_activity(
        "somabrain.tenants_page", args=[named, after], result_type=list[Charge], start_to_close_timeout=LISTING,
        summary=f"Look up the tenants after {after}" if after else "Look up the tenants",
    )  # fmt: skip
    return page


def _outcome(error: ActivityError, group: list[Charge]) -> PerTenant:
    """What an activity that failed came to: what it says itself, else that all of its tenants failed."""
    cause = error.cause
    if isinstance(cause, ApplicationError) and cause.details and isinstance(cause.details[0], dict):
        return PerTenant(**cause.details[0])
    return PerTenant(failed={one.tenant: said(error) for one in group})


def _judged(outcome: PerTenant, size: int, told: Callable[[int], str]) -> tuple[str, str]:
    """A step's state, and what came of it in words."""
    if outcome.failed:
        why = next(iter(outcome.failed.values()))
        return progress.FAILED, why if size == 1 else f"{len(outcome.failed):,} of {size:,} failed: {why}"
    if outcome.unsupported and not outcome.done:
        return progress.SKIPPED, outcome.unsupported[0]
    return progress.DONE, told(outcome.items) if size == 1 else f"{outcome.done:,} of {size:,} done."
