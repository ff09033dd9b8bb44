"""What the proof of usage-sync needs: a Lago that fails one call in five, and workers that can be killed."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pkgutil
import random
import sys
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import adapters
from sandbox.standins import Host
from sandbox.standins import lago as standin
from sandbox.standins import lago_objects as make

KEY = "lago-key-for-tests"
METRICS = {"api_calls": "units", "llm_tokens": "over", "file_uploads": "units"}


def lago(folder: Path, customers: dict[str, str]) -> Any:
    """A stand-in with a billable metric for each of METRICS and one active subscription per customer."""
    app = standin.create(folder, None, [], host=Host(url="", secrets={"lago_api_key": KEY}))
    state = app.state.standin.state
    for code, field in METRICS.items():
        given = {"name": code, "code": code, "aggregation_type": "sum_agg", "field_name": field}
        state["billable_metrics"][code] = make.billable_metric(given)
    plan = {"name": "Team", "code": "team", "interval": "monthly", "amount_cents": 0, "amount_currency": "USD"}
    state["plans"]["team"] = make.plan(state, plan)
    for customer, subscription in customers.items():
        subscribe(app, customer, subscription)
    return app


def subscribe(app: Any, customer: str, subscription: str, days_ago: float = 30) -> None:
    """Give a customer a subscription that began so long ago."""
    state = app.state.standin.state
    owner = state["customers"].setdefault(customer, make.customer(state, {"external_id": customer}))
    started = make.now() - timedelta(days=days_ago)
    made = make.subscription(owner, state["plans"]["team"], {"external_id": subscription}, started=started)
    state["subscriptions"][made["lago_id"]] = made


class Unsteady:
    """An ASGI application in front of another that fails one call in five: before it took effect, or after."""

    def __init__(self, app: Any, seed: int = 7) -> None:
        self.app, self.state = app, app.state
        self.calls = self.failed = self.failed_after = self._fails = 0
        self._pick = random.Random(seed)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        place, self.calls = self.calls % 5, self.calls + 1
        if place == 0:
            self._fails = self._pick.randrange(5)
        if scope["type"] != "http" or place != self._fails:
            await self.app(scope, receive, send)
            return
        if (self.calls // 5) % 2:
            self.failed += 1
        else:
            # The work is done and the answer is lost: whoever asked has to ask again.
            self.failed_after += 1

            async def swallow(_: Any) -> None:
                return

            await self.app(scope, receive, swallow)
        await send({"type": "http.response.start", "status": 500, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"a gateway lost its temper"})


class Workers:
    """Worker processes of one task queue. Killed means SIGKILL."""

    def __init__(self, target: Callable[..., None], *args: Any) -> None:
        self._context = multiprocessing.get_context("forkserver")
        # Loaded once, so that a worker begins to work as soon as it is started.
        adapters_there = [f"adapters.{one.name}" for one in pkgutil.iter_modules(adapters.__path__)]
        own = ["tests.support_usage", "workflows.usage_sync", "operations.services", "temporalio.worker"]
        self._context.set_forkserver_preload([*own, *adapters_there])
        self._target, self._args = target, args
        self.running: list[BaseProcess] = []
        self.killed = 0

    def start(self) -> None:
        """One more."""
        process = self._context.Process(target=self._target, args=(dict(os.environ), *self._args), daemon=True)
        process.start()
        self.running.append(process)

    def kill(self, place: int = 0) -> None:
        """One less, at once."""
        process = self.running.pop(place)
        process.kill()
        process.join(5)
        self.killed += 1

    def tend(self) -> None:
        """One more for each that has ended by itself, as a supervisor would; says so on standard error."""
        for place, process in enumerate(self.running):
            if not process.is_alive():
                print(f"worker {process.pid} ended by itself with {process.exitcode}", file=sys.stderr)
                self.running.pop(place)
                self.start()
                return self.tend()
        return None

    def close(self) -> None:
        """End all."""
        for process in self.running:
            process.kill()
            process.join(5)


def work(environment: dict[str, str], address: str, queue: str) -> None:
    """A worker of usage-sync in a process of its own, whose death is noticed within a second or two."""
    os.environ.update(environment)
    asyncio.run(_work(address, queue))


async def _work(address: str, queue: str) -> None:
    from temporalio.client import Client
    from temporalio.worker import UnsandboxedWorkflowRunner, Worker

    from operations.platform import Platform
    from operations.settings import Settings
    from workflows import threads, usage_sync

    usage_sync.HEARTBEAT, threads.BEAT_SECONDS = timedelta(seconds=1), 0.2
    platform = Platform(Settings())
    client = await Client.connect(address)
    worker = Worker(
        client, task_queue=queue, workflows=usage_sync.WORKFLOWS, activities=usage_sync.activities(platform),
        workflow_runner=UnsandboxedWorkflowRunner(), max_cached_workflows=0,
    )  # fmt: skip
    await worker.run()
