"""Sleep and consolidation, tenant by tenant, on a SomaBrain that supports it, an old one, and one that fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.worker import (
    Interceptor,
    StartActivityInput,
    Worker,
    WorkflowInboundInterceptor,
    WorkflowOutboundInterceptor,
)

from operations import somabrain_care
from operations.access import SYSTEM, Actor, Forbidden
from operations.change import Invalid
from operations.platform import Platform
from operations.workflow_catalogue import CONSOLIDATION, SLEEP_CYCLE, ConsolidationInput, PerTenant, SleepInput
from operations.workflow_progress import QUERY, Progress
from sandbox.standins import Host, somabrain
from tests.contract.openapi import serve
from tests.support_operations import make
from workflows import memory_consolidation, sleep_cycle, tenant_round

pytestmark = pytest.mark.engines
TENANTS = tuple(f"t{number}" for number in range(1, 7))


class Front:
    """In front of the stand-in: what this version lacks, and whom it fails."""

    def __init__(self, app: Any) -> None:
        self.app, self.brain = app, app.state.standin
        self.lacks: tuple[str, ...] = ()
        self.failing: dict[str, int] = {}
        """How many more calls of a tenant fail."""
        self.at_once = self.most = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        who = dict(scope["headers"]).get(b"x-tenant-id", b"").decode()
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            if who in self.failing and self.failing[who] > 0:
                self.failing[who] -= 1
                return await _answer(send, 500)
            if scope["path"].startswith(self.lacks or ("-",)):
                return await _answer(send, 404)
            return await self.app(scope, receive, send)
        finally:
            self.at_once -= 1


async def _answer(send: Any, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def brain(tmp_path: Path) -> Iterator[Any]:
    front = Front(somabrain.create(tmp_path / "brain", None, [], host=Host(url="")))
    front.brain.state["tenants"] = {
        one: {"tier": "team", "agents": 1, "max_agents": 9, "items": 100, "wm": 30, "rpm": 60, "requests": 0}
        for one in TENANTS
    }
    with serve(front) as front.url:
        yield front


@pytest.fixture
def console(
    brain: Any, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Platform]:
    monkeypatch.setenv("PILOTHOUSE_SOMABRAIN_URL", brain.url)
    platform = make(database_url, redis_url, monkeypatch, tmp_path)
    with platform.database.session() as session:
        session.execute(
            text("INSERT INTO tenants (id, name, tier_code, somabrain_tenant) VALUES (:id, :id, 'team', :id)"),
            [{"id": one} for one in TENANTS],
        )
        session.execute(text("INSERT INTO tenants (id, name, tier_code) VALUES ('new', 'New', 'team')"))
    yield platform
    platform.close()


class _Twice(Interceptor):
    """Ordinary activities are tried twice, at once: as the settings would have it."""

    def workflow_interceptor_class(self, _: Any) -> type[WorkflowInboundInterceptor]:
        class Inbound(WorkflowInboundInterceptor):
            def init(self, outbound: WorkflowOutboundInterceptor) -> None:
                class Outbound(WorkflowOutboundInterceptor):
                    def start_activity(self, input: StartActivityInput) -> Any:  # noqa: A002  the SDK's name
                        input.retry_policy = RetryPolicy(
                            maximum_attempts=2, initial_interval=timedelta(milliseconds=10)
                        )
                        return self.next.start_activity(input)

                super().init(Outbound(outbound))

        return Inbound


async def _run(platform: Platform, address: str, kind: str, given: Any) -> tuple[PerTenant, Progress]:
    client = await Client.connect(address)
    queue = f"brain-{time.monotonic_ns()}"
    worker = Worker(
        client, task_queue=queue, workflows=[*sleep_cycle.WORKFLOWS, *memory_consolidation.WORKFLOWS],
        activities=[*sleep_cycle.activities(platform), *memory_consolidation.activities(platform)],
        interceptors=[_Twice()],
    )  # fmt: skip
    async with worker:
        handle = await client.start_workflow(kind, given, id=queue, task_queue=queue, result_type=PerTenant)
        result = await handle.result()
        return result, await handle.query(QUERY, result_type=Progress)


def run(platform: Platform, address: str, kind: str, given: Any) -> tuple[PerTenant, Progress]:
    return asyncio.run(_run(platform, address, kind, given))


def test_everybody_sleeps_few_at_a_time_and_one_that_fails_stops_nobody(
    console: Platform, brain: Any, temporal_address: str
) -> None:
    brain.failing = {"t2": 99, "t4": 1}
    result, told = run(console, temporal_address, SLEEP_CYCLE, SleepInput("deep", 600, concurrency=2))
    assert (result.done, result.unsupported, set(result.failed)) == (5, [], {"t2"})
    assert "HTTP 500" in result.failed["t2"]
    assert brain.most <= 2
    assert {one: brain.brain.sleep(one)["state"] for one in TENANTS} == {
        **dict.fromkeys(TENANTS, "deep"), "t2": "active",
    }  # fmt: skip
    assert brain.brain.sleep("t1")["until"] is not None
    steps = {step.title: step for step in told.steps}
    assert [steps[one].state for one in TENANTS] == ["done", "failed", "done", "done", "done", "done"]
    assert "HTTP 500" in steps["t2"].detail and told.sentence == "5 of 6 tenants done, 1 failed."


def test_what_this_version_lacks_is_reported_and_not_failed(
    console: Platform, brain: Any, temporal_address: str
) -> None:
    brain.lacks = ("/api/sleep",)
    result, told = run(console, temporal_address, SLEEP_CYCLE, SleepInput("light", tenants=["t1", "t3"]))
    assert (result.done, result.unsupported, result.failed) == (2, [], {})
    assert brain.brain.state["runs"] == {"nrem": 2, "rem": 0}  # the older way: a consolidation at once
    result, told = run(console, temporal_address, SLEEP_CYCLE, SleepInput("freeze"))
    assert (result.done, result.unsupported, result.failed) == (0, ["This SomaBrain has no mode freeze."], {})
    assert {step.state for step in told.steps} == {"skipped"} and told.percent == 100
    brain.lacks = ("/api/sleep", "/sleep", "/api/memory/admin")
    result, _ = run(console, temporal_address, SLEEP_CYCLE, SleepInput("light"))
    assert result.unsupported == ["This SomaBrain can neither be put to sleep nor consolidated from outside."]
    result, _ = run(console, temporal_address, CONSOLIDATION, ConsolidationInput())
    assert (result.done, result.unsupported, result.failed) == (0, [somabrain_care.NO_OUTBOX], {})


def outbox(brain: Any, *events: tuple[int, str, str, float]) -> None:
    brain.brain.state["outbox"] = [
        {
            "id": number, "tenant_id": tenant, "topic": "memory.store", "status": status, "retries": 5,
            "created_at": time.time() - age, "dedupe_key": str(number), "last_error": "x", "payload": {}, "due": None,
        }
        for number, tenant, status, age in events
    ]  # fmt: skip


def test_what_failed_or_is_stuck_is_replayed_for_whom_it_is(
    console: Platform, brain: Any, temporal_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(somabrain_care, "PAGE", 2)
    outbox(
        brain,
        *((number, "t1", "failed", 60.0) for number in range(1, 6)),
        (6, "t1", "pending", 3600.0), (7, "t1", "pending", 5.0), (8, "t1", "sent", 3600.0),
        (9, "t2", "failed", 60.0), (10, "new", "failed", 60.0),
    )  # fmt: skip
    result, told = run(console, temporal_address, CONSOLIDATION, ConsolidationInput(["t1", "t3"]))
    assert (result.done, result.items, result.failed) == (2, 6, {})
    replayed = {one["id"] for one in brain.brain.state["outbox"] if one["retries"] == 0}
    assert replayed == {1, 2, 3, 4, 5, 6}
    assert [step.detail for step in told.steps] == ["6 replayed.", "Nothing to replay."]


def test_many_tenants_share_steps_and_another_attempt_goes_on(
    console: Platform, brain: Any, temporal_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenant_round, "MOST_STEPS", 2)
    brain.failing = {"t2": 1, "t5": 99}
    result, told = run(console, temporal_address, SLEEP_CYCLE, SleepInput("light", concurrency=1))
    assert (result.done, result.items, set(result.failed)) == (5, 5, {"t5"})
    assert [(step.title, step.state) for step in told.steps] == [("t1 to t3", "done"), ("t4 to t6", "failed")]
    assert told.steps[1].detail.startswith("1 of 3 failed: ")
    # Whoever slept at the first attempt was not put to sleep again at the second.
    assert brain.brain.state["runs"]["nrem"] == 5


def test_tenants_come_in_pages_and_what_is_left_out_is_said(
    console: Platform, brain: Any, temporal_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(somabrain_care, "TENANTS_AT_ONCE", 2)
    result, told = run(console, temporal_address, SLEEP_CYCLE, SleepInput("light"))
    assert (result.done, result.left_out, len(told.steps)) == (6, 0, 6)
    # Named ones too, each once.
    named = ["t5", "t1", "t3", "t1", "t2"]
    result, told = run(console, temporal_address, SLEEP_CYCLE, SleepInput("light", tenants=named))
    assert (result.done, [step.title for step in told.steps]) == (4, ["t1", "t5", "t2", "t3"])
    with pytest.raises(WorkflowFailureError):
        run(console, temporal_address, SLEEP_CYCLE, SleepInput(tenants=["t1", "t2", "t3", "nobody"]))
    monkeypatch.setattr(somabrain_care, "MOST_TENANTS", 4)
    result, told = run(console, temporal_address, SLEEP_CYCLE, SleepInput("light"))
    assert (result.done, result.left_out, told.sentence) == (4, 2, "4 of 4 tenants done, 2 more left out.")


def test_of_many_that_fail_some_are_named_and_all_are_counted(
    console: Platform, brain: Any, temporal_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenant_round, "MOST_FAILED", 2)
    brain.failing = {"t1": 99, "t2": 99, "t4": 99, "t5": 99}
    result, told = run(console, temporal_address, SLEEP_CYCLE, SleepInput("light", concurrency=1))
    assert (result.done, set(result.failed), result.failed_more) == (2, {"t1", "t2"}, 2)
    assert told.sentence == "2 of 6 tenants done, 4 failed."
    brain.failing = dict.fromkeys(TENANTS, 99)
    with pytest.raises(WorkflowFailureError) as caught:
        run(console, temporal_address, SLEEP_CYCLE, SleepInput())
    assert isinstance(caught.value.cause, ApplicationError) and caught.value.cause.type == tenant_round.ALL_FAILED
    assert PerTenant(**caught.value.cause.details[0]).failed_more == 4


@pytest.mark.parametrize(
    ("kind", "given", "field"),
    [
        (SLEEP_CYCLE, SleepInput("coma"), "target"),
        (SLEEP_CYCLE, SleepInput(ttl_seconds=3601), "ttl_seconds"),
        (SLEEP_CYCLE, SleepInput(concurrency=0), "concurrency"),
        (SLEEP_CYCLE, SleepInput(tenants=["t1", "nobody"]), "tenants"),
        (CONSOLIDATION, ConsolidationInput(concurrency=1000), "concurrency"),
    ],
)
def test_bad_input_names_the_field(console: Platform, temporal_address: str, kind: str, given: Any, field: str) -> None:
    with pytest.raises(WorkflowFailureError) as caught:
        run(console, temporal_address, kind, given)
    cause: Any = caught.value.cause
    while not isinstance(cause, ApplicationError):
        cause = cause.cause
    assert cause.type == "Invalid" and field in cause.message


def test_nobody_cared_for_is_a_failure(console: Platform, brain: Any, temporal_address: str) -> None:
    brain.failing = dict.fromkeys(TENANTS, 99)
    with pytest.raises(WorkflowFailureError) as caught:
        run(console, temporal_address, SLEEP_CYCLE, SleepInput())
    assert isinstance(caught.value.cause, ApplicationError) and caught.value.cause.type == tenant_round.ALL_FAILED
    assert PerTenant(**caught.value.cause.details[0]).failed.keys() == set(TENANTS)


def test_replaying_what_a_person_saw_is_on_record(console: Platform, brain: Any) -> None:
    outbox(brain, (1, "t1", "failed", 60.0), (2, "t2", "failed", 60.0))
    assert somabrain_care.replay_failed(console, SYSTEM, [1, 2], reason="they were lost") == 2
    with console.database.session() as session:
        assert session.execute(text("SELECT action, reason, after FROM audit ORDER BY id DESC LIMIT 1")).one() == (
            "somabrain.replay", "they were lost", {"events": [1, 2], "replayed": 2},
        )  # fmt: skip
    with pytest.raises(Forbidden):
        somabrain_care.replay_failed(console, Actor("v", "V", frozenset({"ai_viewer"})), [1])
    with pytest.raises(Invalid):
        somabrain_care.replay_failed(console, SYSTEM, [])
