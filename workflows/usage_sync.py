"""Handing counted usage to billing: bring it home, turn it into events, send them until nothing waits.

Each of the three may be killed and repeated at any point; that no unit is billed twice or lost is the business of
``operations.usage_plan`` and ``operations.usage_sync``, not of this run. What it leaves, the next one does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from operations import ratelimit_usage, usage_plan, usage_sync
    from operations import workflow_progress as progress
    from operations.platform import Platform
    from operations.usage_plan import Planned
    from operations.usage_sync import Sent
    from operations.workflow_catalogue import USAGE_SYNC, UsageSynced, UsageSyncInput
    from operations.workflow_progress import QUERY, Progress, Step
    from workflows.errors import translated
    from workflows.inputs import check
    from workflows.planned import Planned as Schedule
    from workflows.steps import said
    from workflows.threads import in_thread

MOST_PLANS = 50
MOST_BATCHES = 300
"""Of one run: 30,000 events. The rest is for the next, five minutes later."""
TIMEOUT = timedelta(minutes=5)
SEND_TIMEOUT = timedelta(seconds=60)
HEARTBEAT = timedelta(seconds=10)
"""How long after a worker has died its step is tried again elsewhere."""


class Activities:
    """The three steps on the worker's platform."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    @activity.defn(name="usage.collect")
    async def collect(self) -> int:
        """Bring usage from Redis to PostgreSQL; rows written."""
        with translated("Usage could not be brought home"):
            return await in_thread(lambda: ratelimit_usage.collect(self._platform))

    @activity.defn(name="usage.plan")
    async def plan(self) -> Planned:
        """Turn what is not billed yet into events."""
        with translated("Events could not be made"):
            done = Planned()
            return await in_thread(lambda: self._plan(done), lambda: done.events)

    def _plan(self, done: Planned) -> Planned:
        book = usage_plan.read_book(self._platform)
        if book is None:
            return done
        for _ in range(MOST_PLANS):
            some = usage_plan.plan(self._platform, book)
            done.events += some.events
            done.unbillable, done.more = some.unbillable, some.more
            for key, units in some.units.items():
                done.units[key] = done.units.get(key, 0) + units
            if not some.more:
                break
        return done

    @activity.defn(name="usage.send")
    async def send(self, size: int) -> Sent:
        """Send one batch."""
        with translated("Events could not be sent"):
            return await in_thread(lambda: usage_sync.send(self._platform, size))

    @activity.defn(name="usage.waiting")
    async def waiting(self) -> int:
        """How many events Lago has not taken yet."""
        with translated():
            return await in_thread(lambda: usage_sync.waiting(self._platform))


@workflow.defn(name=USAGE_SYNC)
class UsageSync:
    """See the module."""

    def __init__(self) -> None:
        self._collect = Step("collect", "Bring usage home from Redis")
        self._plan = Step("plan", "Turn it into billing events", needs=["collect"])
        self._send = Step("send", "Send them to Lago", needs=["plan"])
        self._progress = Progress([self._collect, self._plan, self._send])
        self._result = UsageSynced()

    @workflow.run
    async def run(self, given: UsageSyncInput | None = None) -> UsageSynced:
        """What was sent, what waits and what nobody can be billed for.

        Fails with "Invalid" for a wrong ``batch``, and with the error of the step that failed after all steps that
        could still be done were.
        """
        given = given or UsageSyncInput()
        check(USAGE_SYNC, given, self._progress)
        problems = [await self._step(self._collect, self._bring_home())]
        problems.append(await self._step(self._plan, self._make_events()))
        problems.append(await self._step(self._send, self._send_all(given.batch)))
        for problem in problems:
            if problem is not None:
                raise problem
        self._progress.sentence = f"{self._result.events:,} events sent, {self._result.waiting:,} wait."
        return self._result

    @workflow.query(name=QUERY)
    def progress(self) -> Progress:
        """The three steps and how far they are."""
        return self._progress

    async def _step(self, step: Step, work: Any) -> ActivityError | None:
        """Do a step; its error where it failed: what waits already is sent also while nothing new comes home."""
        step.state, step.started_at = progress.RUNNING, workflow.now().isoformat()
        self._progress.sentence = f"{step.title}."
        try:
            await work
        except ActivityError as error:
            canceled = is_cancelled_exception(error)
            step.state, step.detail = progress.FAILED, "Canceled." if canceled else said(error)
            if canceled:
                raise
            return error
        finally:
            step.ended_at = workflow.now().isoformat()
        step.state = progress.DONE
        return None

    async def _bring_home(self) -> None:
        rows: int = await workflow.execute_activity(
            "usage.collect",
            result_type=int,
            start_to_close_timeout=TIMEOUT,
            heartbeat_timeout=HEARTBEAT,
            summary=self._collect.title,
        )
        self._collect.detail = f"{rows:,} rows read."

    async def _make_events(self) -> None:
        made: Planned = await workflow.execute_activity(
            "usage.plan",
            result_type=Planned,
            start_to_close_timeout=TIMEOUT,
            heartbeat_timeout=HEARTBEAT,
            summary=self._plan.title,
        )
        self._result.unbillable = made.unbillable
        units = sum(made.unbillable.values())
        self._plan.detail = f"{made.events:,} events" + (
            f"; {units:,} units nobody can be billed for." if units else "."
        )

    async def _send_all(self, size: int) -> None:
        refused = 0
        for _ in range(MOST_BATCHES):
            some: Sent = await workflow.execute_activity(
                "usage.send",
                size,
                result_type=Sent,
                start_to_close_timeout=SEND_TIMEOUT,
                heartbeat_timeout=HEARTBEAT,
                summary=self._send.title,
            )
            refused += some.refused
            self._result.events += some.events
            for key, units in some.units.items():
                self._result.units[key] = self._result.units.get(key, 0) + units
            self._send.detail = f"{self._result.events:,} sent" + (f", {refused:,} refused." if refused else ".")
            if not some.left or not some.events + some.refused:
                break
        self._result.waiting = await workflow.execute_activity(
            "usage.waiting",
            result_type=int,
            start_to_close_timeout=SEND_TIMEOUT,
            heartbeat_timeout=HEARTBEAT,
            summary="Count what waits",
        )


WORKFLOWS: tuple[type, ...] = (UsageSync,)
SCHEDULES = (
    Schedule(
        USAGE_SYNC, USAGE_SYNC, UsageSyncInput(), timedelta(minutes=5),
        "Hands the usage counted since the last run to Lago.",
    ),
)  # fmt: skip


def activities(platform: Platform) -> Sequence[Callable[..., Any]]:
    """The activities on one platform."""
    own = Activities(platform)
    return [own.collect, own.plan, own.send, own.waiting]
