"""How workflow settings take effect: around every workflow of a worker that has the interceptor.

A run begins by taking its settings and a place (workflows/places.py), which its history keeps: what it works under
never changes while it works, on whichever worker. Past its timeout its body is canceled, so that it can take back
what it did, and the run fails saying so. An activity without a retry policy of its own gets one from the settings.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, FailureError
from temporalio.worker import (
    ExecuteWorkflowInput,
    Interceptor,
    StartActivityInput,
    StartLocalActivityInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)
from temporalio.workflow import ActivityCancellationType, ContinueAsNewError

from operations.platform import Platform
from operations.workflow_rules import FALLBACK, NO_PLACE
from workflows import inputs
from workflows.places import ADMITTED, BEGIN, LEAVE, Asking, Begun, Leaving, Places
from workflows.store import Store

PATCH = "workflow-settings"
ASK_AGAIN = timedelta(minutes=15)
"""A waiting run asks again after this, in case its number in the queue was lost."""
LONGEST_INTERVAL = timedelta(seconds=60)
_PERSIST = RetryPolicy(initial_interval=timedelta(milliseconds=500), maximum_interval=timedelta(seconds=15))


class SettingsInterceptor(Interceptor):
    """Put the settings into effect. Needs a platform's Redis and database, nothing else of it.

    The worker must be given ``activities`` beside its own.
    """

    def __init__(self, platform: Platform, store: Store | None = None) -> None:
        self.store = store or Store(platform)
        self.places = Places(platform, self.store)
        self.activities = self.places.activities

    def workflow_interceptor_class(
        self, given: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        """The part inside each workflow."""
        return _Inbound


class _Inbound(WorkflowInboundInterceptor):
    """One run. Everything here is replayed: it asks the world through activities alone."""

    begun: Begun | None = None
    _told = False

    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(_Outbound(outbound, self))

    async def execute_workflow(self, given: ExecuteWorkflowInput) -> Any:
        if not workflow.patched(PATCH):
            return await super().execute_workflow(given)  # it began before there were settings
        info = workflow.info()
        kept = info.workflow_type in NO_PLACE
        own = info.original_execution_run_id

        def admitted(run_id: str) -> None:
            self._told = self._told or run_id == own

        workflow.set_signal_handler(ADMITTED, admitted)
        try:
            self.begun = await _begin(not kept)
            while not (self.begun.admitted or self._told):
                try:
                    await workflow.wait_condition(lambda: self._told, timeout=ASK_AGAIN)
                except TimeoutError:
                    self.begun = await _begin(not kept)
            return await self._within(self.begun.timeout_seconds, given)
        except ContinueAsNewError:
            kept = True  # the run that goes on takes the place over
            raise
        except BaseException as error:
            # A fault in the workflow's code does not end the run: it is tried again, and still has its place.
            kept = kept or not (
                isinstance(error, asyncio.CancelledError | FailureError) or workflow.is_failure_exception(error)
            )
            raise
        finally:
            if not kept:
                await _leave()

    async def _within(self, seconds: int, given: ExecuteWorkflowInput) -> Any:
        limit = asyncio.timeout(seconds)
        inputs.TIMEOUT.set(timedelta(seconds=seconds))
        try:
            async with limit:
                return await super().execute_workflow(given)
        except (TimeoutError, asyncio.CancelledError, FailureError) as error:
            if not limit.expired():
                raise
            raise ApplicationError(
                f"The run took longer than its timeout of {seconds:,} s and was stopped.", type="Timeout",
                non_retryable=True,
            ) from error  # fmt: skip


class _Outbound(WorkflowOutboundInterceptor):
    """Activities started without a retry policy get the type's."""

    def __init__(self, following: WorkflowOutboundInterceptor, run: _Inbound) -> None:
        super().__init__(following)
        self._run = run

    def start_activity(self, given: StartActivityInput) -> workflow.ActivityHandle[Any]:
        if given.retry_policy is None:
            given.retry_policy = self._policy()
        return super().start_activity(given)

    def start_local_activity(self, given: StartLocalActivityInput) -> workflow.ActivityHandle[Any]:
        if given.retry_policy is None:
            given.retry_policy = self._policy()
        return super().start_local_activity(given)

    def _policy(self) -> RetryPolicy:
        values = self._run.begun or FALLBACK  # a handler that runs before the workflow's own code has none yet
        return RetryPolicy(
            initial_interval=timedelta(seconds=1),
            backoff_coefficient=float(values.backoff_multiplier),
            maximum_interval=LONGEST_INTERVAL,
            maximum_attempts=values.retry_attempts,
        )


async def _begin(place: bool) -> Begun:
    info = workflow.info()
    asking = Asking(
        info.workflow_type, info.workflow_id, info.original_execution_run_id, info.workflow_start_time,
        continued=info.continued_run_id is not None, place=place,
    )  # fmt: skip
    begun: Begun = await workflow.execute_local_activity(
        BEGIN,
        asking,
        result_type=Begun,
        start_to_close_timeout=timedelta(seconds=10),
        retry_policy=_PERSIST,
        summary="Settings and a place" if place else "Settings",
        local_retry_threshold=timedelta(seconds=2),
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )
    return begun


async def _leave() -> None:
    info = workflow.info()
    try:
        await workflow.execute_local_activity(
            LEAVE,
            Leaving(info.workflow_type, info.workflow_id, info.original_execution_run_id),
            schedule_to_close_timeout=timedelta(seconds=8),
            retry_policy=_PERSIST,
            summary="Place given back",
        )
    except ActivityError:
        # PostgreSQL is away. The run must not wait for it: whoever looks after places frees this one.
        workflow.logger.warning("the place is left to be freed later")
