"""The worker process: runs the platform's workflows, and stands ready as the next sampler and relay."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import cache
from types import ModuleType
from typing import Any, cast

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleState,
)
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.service import RPCError
from temporalio.worker import Worker

from adapters.temporal import Temporal, TemporalConfig
from operations import workflow_catalogue
from operations.platform import Platform
from workflows.inputs import CONVERTER
from workflows.interceptor import SettingsInterceptor
from workflows.places import CALL
from workflows.planned import Planned
from workflows.store import Store, identity

__all__ = ["MODULES", "TASK_QUEUE", "Planned", "ensure_schedules", "modules", "run", "schedules"]

log = logging.getLogger(__name__)

MODULES = (
    "maintenance", "tenant_provisioning", "tenant_offboarding", "usage_sync", "sleep_cycle", "memory_consolidation",
)  # fmt: skip
"""Modules of this package that have ``WORKFLOWS``, ``activities(platform)`` and maybe ``SCHEDULES``."""
TASK_QUEUE = workflow_catalogue.TASK_QUEUE
RETRY_SECONDS = 5.0
MOVED_SECONDS = 2.0
"""How soon a worker follows a change of how Temporal is reached."""
HEARTBEAT = timedelta(seconds=10)
"""How often the server is told that the worker lives, what it has room for, and on which host."""
GRACE = timedelta(seconds=5)
"""What a stopping worker gives activities under way; after it they are canceled, and another worker tries again."""
THREADS = 32
ACTIVITIES = 50
"""Of them at once; what only waits for its place is none (workflows/places.py)."""


def modules() -> list[ModuleType]:
    """The workflows' modules."""
    return [importlib.import_module(f"workflows.{name}") for name in MODULES]


def schedules() -> Sequence[Planned]:
    """Every schedule the modules plan."""
    return [planned for module in modules() for planned in getattr(module, "SCHEDULES", ())]


async def ensure_schedules(client: Client, wanted: Sequence[Planned], task_queue: str) -> None:
    """Make the schedules that are not there; what people changed about others stays, pauses and all."""
    for planned in wanted:
        often = isinstance(planned.every, str)
        schedule = Schedule(
            action=ScheduleActionStartWorkflow(planned.workflow, planned.input, id=planned.id, task_queue=task_queue),
            spec=ScheduleSpec(
                cron_expressions=[str(planned.every)] if often else [],
                intervals=[] if isinstance(planned.every, str) else [ScheduleIntervalSpec(every=planned.every)],
            ),
            policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP),
            state=ScheduleState(note=planned.note, paused=planned.paused),
        )
        with contextlib.suppress(ScheduleAlreadyRunningError):
            await client.create_schedule(planned.id, schedule, trigger_immediately=planned.at_once, rpc_timeout=CALL)


async def run(platform: Platform, stop: asyncio.Event) -> None:
    """Work until ``stop`` is set. Temporal away, or restarted: keep trying, everything else goes on."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="activity"))
    found = modules()
    kinds = [kind for module in found for kind in module.WORKFLOWS]
    names = [kind.__temporal_workflow_definition.name for kind in kinds]
    store = Store(platform, identity(), TASK_QUEUE, names)
    interceptor = SettingsInterceptor(platform, store)
    loop, wake = asyncio.get_running_loop(), asyncio.Event()
    store.changed = lambda: loop.call_soon_threadsafe(wake.set)
    activities = [one for module in found for one in module.activities(platform)]
    store.start()
    try:
        while not stop.is_set():
            try:
                config = await asyncio.to_thread(_configured, platform)
                client = await _connect(config)
                await ensure_schedules(client, schedules(), TASK_QUEUE)
                worker = Worker(
                    client,
                    task_queue=TASK_QUEUE,
                    workflows=kinds,
                    activities=[*activities, *interceptor.activities],
                    interceptors=[interceptor],
                    identity=identity(),
                    max_concurrent_activities=ACTIVITIES,
                    graceful_shutdown_timeout=GRACE,
                )
                log.info("working on task queue %s as %s", TASK_QUEUE, identity())
                await _work(worker, interceptor, client, wake, stop, _moved(platform, config))
            except (RPCError, RuntimeError, OSError) as error:
                log.warning(
                    "Temporal at %s is away: %s", (await asyncio.to_thread(_configured, platform)).address, error
                )
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), RETRY_SECONDS)
    finally:
        await asyncio.to_thread(store.stop)
        interceptor.places.close()


async def _work(
    worker: Worker, interceptor: SettingsInterceptor, client: Client, wake: asyncio.Event, stop: asyncio.Event,
    moved: Coroutine[Any, Any, None],
) -> None:  # fmt: skip
    """Until ``stop``, until ``moved``, or until the worker gives up. Raises what it gave up on."""
    working = asyncio.create_task(worker.run())
    watching = asyncio.create_task(interceptor.places.watch(client, wake))
    ends = {asyncio.create_task(stop.wait()), asyncio.create_task(moved)}
    try:
        await asyncio.wait({working, *ends}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for end in ends:
            end.cancel()
        if not working.done():
            await worker.shutdown()
        watching.cancel()
        await asyncio.wait({watching})
    await working


async def _connect(config: TemporalConfig) -> Client:
    """As the console reaches Temporal, so that what it starts is what this worker works on."""
    return await Client.connect(
        config.address or "",
        namespace=config.namespace,
        tls=config.tls,
        api_key=config.api_key.get_secret_value() if config.api_key else None,
        identity=identity(),
        runtime=_runtime(),
        data_converter=CONVERTER,
    )


def _configured(platform: Platform) -> TemporalConfig:
    return cast(Temporal, platform.adapters["temporal"]).config


async def _moved(platform: Platform, config: TemporalConfig) -> None:
    """Until Temporal is configured otherwise than ``config``: the worker then goes there, too."""
    while await asyncio.to_thread(_configured, platform) == config:
        await asyncio.sleep(MOVED_SECONDS)


@cache
def _runtime() -> Runtime:
    """One for the process: it has threads of its own. Made when a worker first works, not on import."""
    return Runtime(telemetry=TelemetryConfig(), worker_heartbeat_interval=HEARTBEAT)
