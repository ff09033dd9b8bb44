"""A Temporal server with very many executions, made by its own API as fast as one machine can."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from google.protobuf.duration_pb2 import Duration
from temporalio.api.command.v1 import (
    Command,
    CompleteWorkflowExecutionCommandAttributes,
    FailWorkflowExecutionCommandAttributes,
)
from temporalio.api.common.v1 import WorkflowType
from temporalio.api.enums.v1 import CommandType
from temporalio.api.failure.v1 import ApplicationFailureInfo, Failure
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    CountWorkflowExecutionsRequest,
    RespondWorkflowTaskCompletedRequest,
    StartWorkflowExecutionRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError

from benchmarks.console import free_port
from sandbox.engines import Temporal

EXECUTIONS, TYPES, AT_ONCE = 100_000, 30, 32
SHARES = {"running": 0.66, "timed out": 0.14, "completed": 0.17, "failed": 0.03}
SEED = 4
QUEUE = "crowd"
# Nobody needs this server after the measurement: it does not wait for the disk, and caches little.
ARGUMENTS = (
    "--sqlite-pragma", "synchronous=off", "--sqlite-pragma", "journal_mode=off",
    "--dynamic-config-value", "history.hostLevelCacheMaxSize=2000",
)  # fmt: skip
_COMPLETE = Command(
    command_type=CommandType.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION,
    complete_workflow_execution_command_attributes=CompleteWorkflowExecutionCommandAttributes(),
)
_FAIL = Command(
    command_type=CommandType.COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION,
    fail_workflow_execution_command_attributes=FailWorkflowExecutionCommandAttributes(
        failure=Failure(
            message="The other side refused.",
            application_failure_info=ApplicationFailureInfo(type="Refused", non_retryable=True),
        )
    ),
)


@contextmanager
def server(folder: Path) -> Iterator[Temporal]:
    """An empty Temporal server of its own."""
    engine = Temporal(folder, free_port(), more=ARGUMENTS)
    engine.start()
    try:
        yield engine
    finally:
        engine.kill()


async def fill(address: str, executions: int = EXECUTIONS) -> int:
    """Start that many executions of thirty types; returns how many the server then counts.

    One call starts an execution. Where it is to end, the server hands its first task out with the answer (an eager
    start), and a second call ends it: no worker is needed, and the server does all it does for real ones.
    """
    client = await Client.connect(address, identity="crowd")
    chosen = random.Random(SEED).choices(list(SHARES), list(SHARES.values()), k=executions)
    numbers = iter(range(executions))

    async def work() -> None:
        for number in numbers:
            try:
                await _execute(client, f"Crowd{number % TYPES:02}", chosen[number])
            except RPCError:
                continue  # the busy server gave one up; the count at the end tells how many there are

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    request = CountWorkflowExecutionsRequest(namespace=client.namespace)
    return int((await client.workflow_service.count_workflow_executions(request)).count)


async def _execute(client: Client, kind: str, end: str) -> None:
    service = client.workflow_service
    ends = end in ("completed", "failed")
    started = await service.start_workflow_execution(
        StartWorkflowExecutionRequest(
            namespace=client.namespace, workflow_id=f"{kind}-{uuid.uuid4()}", workflow_type=WorkflowType(name=kind),
            task_queue=TaskQueue(name=QUEUE), identity="crowd", request_id=str(uuid.uuid4()),
            request_eager_execution=ends,
            workflow_run_timeout=Duration(seconds=2) if end == "timed out" else None,
            workflow_start_delay=Duration(seconds=86_400) if end == "running" else None,
        )
    )  # fmt: skip
    if ends:
        await service.respond_workflow_task_completed(
            RespondWorkflowTaskCompletedRequest(
                namespace=client.namespace, task_token=started.eager_workflow_task.task_token, identity="crowd",
                commands=[_FAIL if end == "failed" else _COMPLETE],
            )
        )  # fmt: skip
