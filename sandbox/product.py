"""A small product for the demo traffic: Temporal workflows of the kinds an agent platform runs."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

TASK_QUEUE = "product"
_ONCE = RetryPolicy(maximum_attempts=2, initial_interval=timedelta(seconds=1))


@activity.defn
async def work(step: str, seconds: float, fails: bool) -> str:
    """Take a while; fail where told to, without being tried again."""
    await asyncio.sleep(seconds)
    if fails:
        raise ApplicationError(f"{step} was refused by the other side", non_retryable=True)
    return f"{step}: done"


async def _steps(names: tuple[str, ...], seconds: float, fails: bool) -> str:
    last = ""
    for number, name in enumerate(names, start=1):
        last = await workflow.execute_activity(
            work,
            args=[name, seconds, fails and number == len(names)],
            start_to_close_timeout=timedelta(seconds=30),
            retry_policy=_ONCE,
        )
    return last


@workflow.defn
class OnboardTenant:
    """Three steps."""

    @workflow.run
    async def run(self, tenant: str, fails: bool) -> str:
        """Create, invite, welcome."""
        return await _steps(("create spaces", "invite people", "send welcome"), 0.2, fails)


@workflow.defn
class SyncInvoices:
    """Two steps; the one that fails most."""

    @workflow.run
    async def run(self, tenant: str, fails: bool) -> str:
        """Fetch, compare."""
        return await _steps(("fetch invoices", "compare amounts"), 0.1, fails)


@workflow.defn
class IndexDocuments:
    """One step for each batch."""

    @workflow.run
    async def run(self, tenant: str, fails: bool) -> str:
        """Embed, upsert."""
        return await _steps(("embed batch", "upsert vectors"), 0.5, fails)


@workflow.defn
class Conversation:
    """Waits for people for minutes: what makes the number of running workflows move."""

    @workflow.run
    async def run(self, tenant: str, seconds: float) -> str:
        """Stay open for a while."""
        await workflow.sleep(timedelta(seconds=seconds))
        return "closed"


WORKFLOWS = (OnboardTenant, SyncInvoices, IndexDocuments, Conversation)


def pick(rng: random.Random) -> tuple[str, float | bool]:
    """A workflow type and its second argument."""
    kind = rng.choices(WORKFLOWS, (2, 4, 4, 3))[0]
    if kind is Conversation:
        return kind.__name__, rng.uniform(30, 270)
    return kind.__name__, rng.random() < {"SyncInvoices": 0.08}.get(kind.__name__, 0.02)
