"""The Temporal adapter on a real server."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from adapters.core import State
from adapters.core.probe import probe
from adapters.temporal import Temporal, TemporalConfig
from sandbox.inprocess import Services
from tests.support import poll


@pytest.fixture
def adapter(temporal_address: str) -> Iterator[Temporal]:
    made = Temporal(TemporalConfig(address=temporal_address, task_queue=f"contract-{uuid.uuid4()}"))
    yield made
    made.close()


@workflow.defn(name="contract-waits")
class Waits:
    @workflow.run
    async def run(self) -> None:
        await workflow.sleep(timedelta(hours=1))


def test_a_well_server_is_healthy_with_one_headline(adapter: Temporal) -> None:
    sample = probe(adapter)
    assert sample.health.state is State.HEALTHY, sample.health
    assert (sample.health.version or "").startswith("Temporal 1.")
    assert sample.metrics_error == ""
    assert [m.name for m in sample.metrics if m.headline] == ["running"]


def test_a_running_workflow_and_its_worker_are_counted(adapter: Temporal, temporal_address: str) -> None:
    def value(name: str) -> float:
        return next(m.value for m in adapter.metrics() if m.name == name)

    async def play() -> None:
        client = await Client.connect(temporal_address)
        queue = adapter.config.task_queue
        before = await asyncio.to_thread(value, "running")
        async with Worker(client, task_queue=queue, workflows=[Waits], workflow_runner=UnsandboxedWorkflowRunner()):
            handle = await client.start_workflow("contract-waits", id=f"contract-{uuid.uuid4()}", task_queue=queue)
            await asyncio.to_thread(poll, lambda: value("running") >= before + 1, 20)
            await asyncio.to_thread(poll, lambda: value("workers") >= 1, 20)
            await handle.terminate()

    asyncio.run(play())


def test_settings_tell_the_namespace_and_retention(adapter: Temporal) -> None:
    settings = {s.name: s.value for s in adapter.settings()}
    assert settings["namespace"] == "default"
    assert str(settings["retention"]).endswith(("day", "days"))


def test_a_missing_namespace_is_rejected_with_its_name(temporal_address: str) -> None:
    made = Temporal(TemporalConfig(address=temporal_address, namespace="nowhere"))
    health = probe(made).health
    assert (health.state, health.kind) == (State.DOWN, "Rejected")
    assert "nowhere" in health.message
    made.close()


def test_the_client_is_made_anew_after_a_failure(temporal_address: str, tmp_path: object) -> None:
    from pathlib import Path

    services = Services(Path(str(tmp_path)))
    try:
        port = services.front("temporal", int(temporal_address.rsplit(":", 1)[1]), "grpc")
        made = Temporal(TemporalConfig(address=f"127.0.0.1:{port}"))
        assert probe(made).health.state is State.HEALTHY
        services.fault("temporal", "hang")
        start = time.monotonic()
        assert probe(made).health.state is State.NO_ANSWER
        assert time.monotonic() - start < 3.4
        services.fault("temporal", None)
        assert poll(lambda: probe(made, force=True).health.state is State.HEALTHY, 15)
        made.close()
    finally:
        services.close()
