"""The worker process: runs the platform's workflows, and stands ready as the next sampler and relay."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import timedelta

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
)
from temporalio.service import RPCError
from temporalio.worker import Worker

from operations.platform import Platform
from workflows import maintenance

log = logging.getLogger(__name__)

TASK_QUEUE = "pilothouse"
SCHEDULE_ID = "pilothouse-maintenance"
EVERY = timedelta(hours=6)
RETRY_SECONDS = 5.0


async def ensure_schedule(client: Client) -> None:
    """Make the maintenance schedule unless it is there; what people changed about it stays."""
    schedule = Schedule(
        action=ScheduleActionStartWorkflow(maintenance.WORKFLOW, id=SCHEDULE_ID, task_queue=TASK_QUEUE),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=EVERY)]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP),
    )
    with contextlib.suppress(ScheduleAlreadyRunningError):
        await client.create_schedule(SCHEDULE_ID, schedule, trigger_immediately=True)


async def run(platform: Platform, stop: asyncio.Event) -> None:
    """Work until ``stop`` is set. Temporal away: keep trying, everything else goes on."""
    settings = platform.settings
    while not stop.is_set():
        try:
            client = await Client.connect(settings.temporal_address, namespace=settings.temporal_namespace)
            worker = Worker(
                client,
                task_queue=TASK_QUEUE,
                workflows=maintenance.WORKFLOWS,
                activities=maintenance.activities(platform),
                graceful_shutdown_timeout=timedelta(seconds=1),
            )
            await ensure_schedule(client)
            async with worker:
                log.info("working on task queue %s", TASK_QUEUE)
                await stop.wait()
        except (RPCError, RuntimeError, OSError) as error:
            log.warning("Temporal at %s is away: %s", settings.temporal_address, error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), RETRY_SECONDS)
