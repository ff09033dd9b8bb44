"""The demo product's worker: it obeys the workflow settings, as every worker with the interceptor does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import redis
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from operations.database import Database
from operations.platform import Platform
from sandbox import product
from workflows.interceptor import SettingsInterceptor
from workflows.store import Store

IDENTITY = "product-worker-1"


class _Wires:
    """Of a platform what the interceptor needs: where settings are, and where places are counted."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.database = Database(plan["database"])
        self.redis = redis.Redis.from_url(plan["redis"], socket_timeout=1, decode_responses=True)

    def close(self) -> None:
        self.redis.close()
        self.database.close()


@asynccontextmanager
async def working(client: Client, plan: dict[str, Any]) -> AsyncIterator[None]:
    """Work on the product's task queue."""
    wires = _Wires(plan)
    platform = cast(Platform, wires)
    names = [kind.__name__ for kind in product.WORKFLOWS]
    store = Store(platform, IDENTITY, product.TASK_QUEUE, names)
    interceptor = SettingsInterceptor(platform, store)
    loop, wake = asyncio.get_running_loop(), asyncio.Event()
    store.changed = lambda: loop.call_soon_threadsafe(wake.set)
    store.start()
    watching = asyncio.create_task(interceptor.places.watch(client, wake))
    try:
        async with Worker(
            client, task_queue=product.TASK_QUEUE, workflows=list(product.WORKFLOWS),
            activities=[product.work, *interceptor.activities], interceptors=[interceptor],
            workflow_runner=UnsandboxedWorkflowRunner(), max_concurrent_activities=8, identity=IDENTITY,
        ):  # fmt: skip
            yield
    finally:
        watching.cancel()
        await asyncio.wait({watching})
        await asyncio.to_thread(store.stop)
        interceptor.places.close()
        wires.close()
