"""Executions on a real Temporal server, made without a worker: an eager start hands the first task out at once."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration
from temporalio.api.command.v1 import (
    Command,
    CompleteWorkflowExecutionCommandAttributes,
    FailWorkflowExecutionCommandAttributes,
)
from temporalio.api.common.v1 import ActivityType, WorkflowType
from temporalio.api.enums.v1 import CommandType
from temporalio.api.failure.v1 import ActivityFailureInfo, ApplicationFailureInfo, Failure
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import RespondWorkflowTaskCompletedRequest, StartWorkflowExecutionRequest
from temporalio.client import Client

REFUSED = Failure(
    message="Activity task failed",
    activity_failure_info=ActivityFailureInfo(activity_type=ActivityType(name="charge_card")),
    cause=Failure(message="card 4711 was refused", application_failure_info=ApplicationFailureInfo(type="Refused")),
)


def made(address: str, kind: str, ends: Sequence[str]) -> list[str]:
    """Executions of one type, each "running", "completed", "failed" or "timed out" soon; their ids."""
    return asyncio.run(_made(address, kind, ends))


async def _made(address: str, kind: str, ends: Sequence[str]) -> list[str]:
    client = await Client.connect(address)
    return [await _execute(client, kind, end) for end in ends]


async def _execute(client: Client, kind: str, end: str) -> str:
    ends = end in ("completed", "failed")
    name = f"{kind}-{uuid.uuid4()}"
    started = await client.workflow_service.start_workflow_execution(
        StartWorkflowExecutionRequest(
            namespace=client.namespace, workflow_id=name, workflow_type=WorkflowType(name=kind),
            task_queue=TaskQueue(name=f"queue-{kind}"), request_id=str(uuid.uuid4()), request_eager_execution=ends,
            identity="tests", workflow_run_timeout=Duration(seconds=1) if end == "timed out" else None,
        )
    )  # fmt: skip
    if ends:
        command = Command(
            command_type=CommandType.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION,
            complete_workflow_execution_command_attributes=CompleteWorkflowExecutionCommandAttributes(),
        )
        if end == "failed":
            command = Command(
                command_type=CommandType.COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION,
                fail_workflow_execution_command_attributes=FailWorkflowExecutionCommandAttributes(failure=REFUSED),
            )
        await client.workflow_service.respond_workflow_task_completed(
            RespondWorkflowTaskCompletedRequest(
                namespace=client.namespace, task_token=started.eager_workflow_task.task_token, commands=[command],
                identity="tests",
            )
        )  # fmt: skip
    return name
