"""Workflow types on a real Temporal server: found, counted by status, with durations and why the last one failed."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from temporalio import workflow
from temporalio.api.failure.v1 import ApplicationFailureInfo, Failure, TimeoutFailureInfo
from temporalio.api.workflowservice.v1 import CountWorkflowExecutionsResponse, ListWorkflowExecutionsResponse
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from adapters.core import utcnow
from adapters.core.deadline import deadline
from adapters.core.errors import Denied, TimedOut
from adapters.temporal import Temporal, TemporalConfig
from adapters.temporal_client import counts, outcomes
from adapters.temporal_client.counts import TypeCounts
from tests.support import poll
from tests.support_temporal import REFUSED, made


@pytest.fixture
def adapter(temporal_address: str) -> Iterator[Temporal]:
    one = Temporal(TemporalConfig(address=temporal_address))
    yield one
    one.close()


@pytest.fixture
def kind() -> str:
    """A type of this test alone."""
    return f"Type{uuid.uuid4().hex[:8]}"


@workflow.defn(name="types-waits")
class Waits:
    @workflow.run
    async def run(self) -> None:
        await workflow.sleep(timedelta(hours=1))


def test_the_connection_tells_who_answers_and_how_fast(adapter: Temporal, temporal_address: str) -> None:
    seen = adapter.connection()
    assert (seen.address, seen.namespace) == (temporal_address, "default")
    assert seen.version.startswith("1.")
    assert 0 < seen.latency_ms < 2000
    assert seen.retention_days == 1


def test_types_are_found_and_remembered(adapter: Temporal, temporal_address: str) -> None:
    first, second = f"Found{uuid.uuid4().hex[:8]}", f"it's {uuid.uuid4().hex[:8]}"
    made(temporal_address, first, ["completed"])
    poll(lambda: first in adapter.workflow_types().names)
    made(temporal_address, second, ["completed"])
    poll(lambda: second in adapter.workflow_types().names)
    assert first in adapter.workflow_types().names
    adapter.forget_types([first])
    assert first in adapter.workflow_types().names, "it still has executions"


def test_no_more_types_than_asked_for(adapter: Temporal, temporal_address: str) -> None:
    for number in range(3):
        made(temporal_address, f"Many{number}", ["completed"])

    def found() -> counts.Types:
        return adapter.call(lambda client: counts.discover(client, "default", most=2))

    poll(lambda: found().more)
    assert len(found().names) == 2


def test_types_found_on_a_slow_server_are_kept_and_the_rest_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    there, seconds = [f"Slow{number}" for number in range(10)], {"each": 0.06}
    monkeypatch.setattr(counts, "FIRST_LOOK", 1)

    class Service:
        async def list_workflow_executions(
            self, request: Any, timeout: timedelta, **_: object
        ) -> ListWorkflowExecutionsResponse:
            if timeout.total_seconds() < seconds["each"]:
                await asyncio.sleep(timeout.total_seconds())
                raise RPCError("deadline exceeded", RPCStatusCode.DEADLINE_EXCEEDED, b"")
            await asyncio.sleep(seconds["each"])
            answer = ListWorkflowExecutionsResponse()
            for name in there:
                if f"'{name}'" not in request.query:
                    answer.executions.add().type.name = name
                    break
            return answer

    client: Any = SimpleNamespace(workflow_service=Service())

    def found(known: tuple[str, ...]) -> counts.Types:
        with deadline(counts.SPARE_SECONDS + 0.3):
            return asyncio.run(counts.discover(client, "default", known))

    first = found(())
    assert 0 < len(first.names) < len(there)
    assert first.more
    looks, known = 1, first
    while known.more:
        known, looks = found(known.names), looks + 1
        assert looks < 10
    assert known.names == tuple(there)
    seconds["each"] = 60
    assert found(first.names) == counts.Types(first.names, more=True)
    with pytest.raises(TimedOut):
        found(())


def test_executions_are_counted_by_status(adapter: Temporal, temporal_address: str, kind: str) -> None:
    made(temporal_address, kind, ["running", "running", "completed", "failed", "failed", "timed out"])
    wanted = TypeCounts(running=2, untaken=2, completed=1, failed=2, timed_out=1)
    poll(lambda: adapter.type_counts([kind], "all").types[kind] == wanted, 15)
    assert wanted.total == 6
    assert adapter.type_counts([kind], "1", utcnow() - timedelta(hours=1)).types[kind] == wanted
    assert adapter.type_counts([kind], "-1", utcnow() + timedelta(hours=1)).types[kind] == TypeCounts()


def test_a_run_is_pending_until_a_worker_has_done_its_first_step(adapter: Temporal, temporal_address: str) -> None:
    queue = f"types-{uuid.uuid4().hex}"

    async def play() -> None:
        client = await Client.connect(temporal_address)
        handle = await client.start_workflow("types-waits", id=queue, task_queue=queue)

        def of_run(query: str) -> int:
            return adapter.call(lambda c: c.count_workflows(f"WorkflowId = '{queue}' AND {query}")).count

        await asyncio.to_thread(poll, lambda: of_run(counts.UNTAKEN) == 1)
        async with Worker(client, task_queue=queue, workflows=[Waits], workflow_runner=UnsandboxedWorkflowRunner()):
            await asyncio.to_thread(poll, lambda: of_run(counts.UNTAKEN) == 0)
            assert await asyncio.to_thread(of_run, "ExecutionStatus = 'Running'") == 1
        await handle.terminate()

    asyncio.run(play())


def test_a_type_that_cannot_be_searched_for_is_left_uncounted(adapter: Temporal) -> None:
    odd = 'a"b\\c'
    assert adapter.type_counts([odd], "all").types == {odd: TypeCounts(untaken=None)}
    assert adapter.type_outcomes({odd: (1, 0, 0)}, "all") == {odd: outcomes.TypeOutcome()}


def test_durations_and_the_last_failure(adapter: Temporal, temporal_address: str, kind: str) -> None:
    ids = made(temporal_address, kind, ["completed", "completed", "running", "failed"])
    numbers = itertools.count()

    def now() -> outcomes.TypeOutcome:
        return adapter.type_outcomes({kind: (next(numbers), 0, 0)}, "all")[kind]

    poll(lambda: now().sample == 3)
    found = now()
    assert found.p50 is not None and found.p95 is not None
    assert 0 <= found.p50 <= found.p95 < 30
    assert found.last is not None
    assert found.last.workflow_id == ids[-1]
    assert found.last.said == outcomes.Said("Refused", "card 4711 was refused", "charge_card")


def test_a_run_that_took_too_long_says_so(adapter: Temporal, temporal_address: str, kind: str) -> None:
    made(temporal_address, kind, ["timed out"])
    numbers = itertools.count()
    last = poll(lambda: adapter.type_outcomes({kind: (0, 0, next(numbers))}, "all")[kind].last, 15)
    assert last.said.kind == "Timeout"


def test_nothing_is_asked_twice_and_what_is_not_reached_in_time_comes_later() -> None:
    memory, asked, hangs = outcomes.Memory(), [], {"b"}

    class Service:
        async def list_workflow_executions(self, request: Any, **_: object) -> ListWorkflowExecutionsResponse:
            name = request.query.split("'")[1]
            asked.append(name)
            if name in hangs:
                await asyncio.Event().wait()
            return ListWorkflowExecutionsResponse()

    def known(marks: dict[str, outcomes.Mark]) -> set[str]:
        client = SimpleNamespace(workflow_service=Service())
        with deadline(counts.SPARE_SECONDS + 0.2):
            return set(asyncio.run(outcomes.by_type(client, "default", marks, "24", None, memory)))  # type: ignore[arg-type]

    assert known({"a": (1, 0, 0), "b": (1, 0, 0)}) == {"a"}
    hangs.clear()
    asked.clear()
    assert known({"a": (1, 0, 0), "b": (1, 0, 0)}) == {"a", "b"}
    assert set(asked) == {"b"}
    asked.clear()
    assert known({"a": (1, 0, 0), "b": (2, 0, 0)}) == {"a", "b"}
    assert set(asked) == {"b"}, "only of b has more ended"


def test_steps_are_looked_through_and_errors_speak_for_their_causes() -> None:
    late = Failure(message="It ran longer than 5 min.", application_failure_info=ApplicationFailureInfo(type="Timeout"))
    late.cause.message = "the body was canceled"
    late.cause.application_failure_info.type = "CancelledError"
    assert outcomes.said_of(late) == outcomes.Said("Timeout", "It ran longer than 5 min.")
    child = Failure(message="Child Workflow execution failed", cause=late)
    child.child_workflow_execution_failure_info.workflow_type.name = "inner"
    assert outcomes.said_of(child) == outcomes.Said("Timeout", "It ran longer than 5 min.", "inner")
    assert outcomes.said_of(REFUSED).kind == "Refused"
    assert outcomes.said_of(Failure(message="late", timeout_failure_info=TimeoutFailureInfo())).kind == "Timeout"
    assert outcomes.said_of(Failure(message="bare")) == outcomes.Said("Error", "bare")
    secret = Failure(message="password=hunter2 was wrong")
    assert "hunter2" not in outcomes.said_of(secret).message


@pytest.mark.parametrize(("q", "wanted"), [(0.5, 3.0), (0.95, 5.0), (0.0, 1.0)])
def test_quantiles_by_nearest_rank(q: float, wanted: float) -> None:
    assert outcomes.quantile([1.0, 2.0, 3.0, 4.0, 5.0], q) == wanted
    assert outcomes.quantile([], q) is None


def test_the_first_failure_ends_all_the_questions() -> None:
    asked: list[str] = []

    async def one(name: str) -> None:
        asked.append(name)
        if name != "0":
            await asyncio.Event().wait()
        raise RPCError("no", RPCStatusCode.UNAVAILABLE, b"")

    async def play() -> None:
        with pytest.raises(RPCError):
            await counts.each([str(number) for number in range(100)], one, 5)

    asyncio.run(play())
    assert len(asked) <= 2 * counts.AT_ONCE


def test_a_slow_server_is_counted_bit_by_bit() -> None:
    memory, hangs = counts.Memory(), {"b", "c"}

    class Service:
        async def count_workflow_executions(self, request: Any, **_: object) -> CountWorkflowExecutionsResponse:
            if "GROUP BY" not in request.query:
                return CountWorkflowExecutionsResponse()
            if request.query.split("'")[1] in hangs:
                await asyncio.Event().wait()
            group = CountWorkflowExecutionsResponse.AggregationGroup(count=3)
            group.group_values.add(data=b'"Completed"')
            return CountWorkflowExecutionsResponse(groups=[group])

    def counted() -> counts.Tally:
        client = SimpleNamespace(workflow_service=Service())
        with deadline(counts.SPARE_SECONDS + 0.2):
            return asyncio.run(counts.by_type(client, "default", ["a", "b", "c"], "24", None, memory))  # type: ignore[arg-type]

    three = TypeCounts(completed=3)
    assert counted() == counts.Tally({"a": three}, frozenset({"b", "c"}))
    hangs.discard("b")
    assert counted() == counts.Tally({"a": three, "b": three}, frozenset({"c"}))
    hangs |= {"a", "b"}
    with pytest.raises(TimedOut):
        counted()


@pytest.mark.parametrize("status", [RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED])
def test_a_refused_permission_is_told_apart(adapter: Temporal, status: RPCStatusCode) -> None:
    async def refused(_: Client) -> None:
        raise RPCError("Request unauthorized.", status, b"")

    with pytest.raises(Denied):
        adapter.call(refused)
