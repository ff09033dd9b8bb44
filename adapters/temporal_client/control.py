"""What is done to executions: started, signaled, canceled, terminated, reset, asked."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from temporalio.api.common.v1 import Payload, Payloads, WorkflowExecution, WorkflowType
from temporalio.api.enums.v1 import EventType, WorkflowIdConflictPolicy, WorkflowIdReusePolicy
from temporalio.api.history.v1 import WorkflowExecutionStartedEventAttributes
from temporalio.api.query.v1 import WorkflowQuery
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    GetWorkflowExecutionHistoryRequest,
    QueryWorkflowRequest,
    RequestCancelWorkflowExecutionRequest,
    ResetWorkflowExecutionRequest,
    SignalWorkflowExecutionRequest,
    StartWorkflowExecutionRequest,
    TerminateWorkflowExecutionRequest,
)
from temporalio.client import Client
from temporalio.converter import default as default_converter
from temporalio.service import RPCError, RPCStatusCode

from adapters.core.deadline import remaining
from adapters.core.errors import Rejected, Unexpected
from adapters.core.redact import redact
from adapters.temporal_client.executions import left, named

IDENTITY = "pilothouse"
ASK_SECONDS = 1.5
"""How long a worker has to answer a query."""


class AlreadyThere(Rejected):
    """An execution with this id runs, or has completed and may not be run again under it."""

    advice = "Open that execution, or choose another id."


class NoAnswer(Rejected):
    """No worker answered the query, or it does not know the query."""

    advice = "Start a worker for the task queue; the history tells what it did so far."


def payloads(values: Sequence[Any]) -> list[Payload]:
    """Python values as the SDKs write them: dataclasses and the like as JSON."""
    return list(default_converter().payload_converter.to_payloads(values))


async def start(
    client: Client, namespace: str, *, kind: str, workflow_id: str, task_queue: str, given: Sequence[Payload],
    timeout: timedelta | None = None, again: WorkflowExecutionStartedEventAttributes | None = None,
) -> str:  # fmt: skip
    """Start one and return its run id.

    ``again`` is how an earlier run was started: what it was given besides the input is given once more, and it is
    refused unless that id's last run ended badly. Raises AlreadyThere, RPCError.
    """
    policy = WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE
    if again is not None:
        policy = WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY
    request = StartWorkflowExecutionRequest(
        namespace=namespace,
        workflow_id=workflow_id,
        workflow_type=WorkflowType(name=kind),
        task_queue=TaskQueue(name=task_queue),
        input=Payloads(payloads=given),
        identity=IDENTITY,
        request_id=str(uuid.uuid4()),
        workflow_id_reuse_policy=policy,
        workflow_id_conflict_policy=WorkflowIdConflictPolicy.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
    )
    if timeout is not None:
        length = Duration()
        length.FromTimedelta(timeout)
        request.workflow_execution_timeout.CopyFrom(length)
    if again is not None:
        for name in ("workflow_execution_timeout", "workflow_run_timeout", "workflow_task_timeout", "retry_policy",
                     "memo", "search_attributes", "priority"):  # fmt: skip
            if again.HasField(name):
                getattr(request, name).CopyFrom(getattr(again, name))
    try:
        return (await client.workflow_service.start_workflow_execution(request, timeout=left())).run_id
    except RPCError as error:
        if error.status is not RPCStatusCode.ALREADY_EXISTS:
            raise
        sentence = f"The id {workflow_id} is taken: an execution with it runs already."
        if again is not None:
            sentence = f"The id {workflow_id} runs already, or its last run completed."
        raise AlreadyThere(sentence, detail=redact(error.message)) from error


async def started(
    client: Client, namespace: str, workflow_id: str, run_id: str
) -> WorkflowExecutionStartedEventAttributes:
    """How a run was started: the first event of its history. Raises NoExecution, Unexpected, RPCError."""
    with named(workflow_id, run_id):
        page = await client.workflow_service.get_workflow_execution_history(
            GetWorkflowExecutionHistoryRequest(
                namespace=namespace, execution=_execution(workflow_id, run_id), maximum_page_size=1
            ),
            timeout=left(),
        )
    if not page.history.events or page.history.events[0].event_type != EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
        raise Unexpected("The history does not begin with a start.")
    return page.history.events[0].workflow_execution_started_event_attributes


async def signal(
    client: Client, namespace: str, workflow_id: str, run_id: str, name: str, given: Sequence[Payload]
) -> None:
    """Send a signal to a running execution. Raises NoExecution, RPCError."""
    with named(workflow_id, run_id):
        await client.workflow_service.signal_workflow_execution(
            SignalWorkflowExecutionRequest(
                namespace=namespace, workflow_execution=_execution(workflow_id, run_id), signal_name=name,
                input=Payloads(payloads=given), identity=IDENTITY, request_id=str(uuid.uuid4()),
            ),
            timeout=left(),
        )  # fmt: skip


async def cancel(client: Client, namespace: str, workflow_id: str, run_id: str, reason: str) -> None:
    """Ask a running execution to end in its own way. Raises NoExecution, RPCError."""
    with named(workflow_id, run_id):
        await client.workflow_service.request_cancel_workflow_execution(
            RequestCancelWorkflowExecutionRequest(
                namespace=namespace, workflow_execution=_execution(workflow_id, run_id), identity=IDENTITY,
                request_id=str(uuid.uuid4()), reason=reason,
            ),
            timeout=left(),
        )  # fmt: skip


async def terminate(client: Client, namespace: str, workflow_id: str, run_id: str, reason: str) -> None:
    """End a running execution at once; its code is not asked. Raises NoExecution, RPCError."""
    with named(workflow_id, run_id):
        await client.workflow_service.terminate_workflow_execution(
            TerminateWorkflowExecutionRequest(
                namespace=namespace, workflow_execution=_execution(workflow_id, run_id), reason=reason,
                identity=IDENTITY,
            ),
            timeout=left(),
        )  # fmt: skip


async def reset(client: Client, namespace: str, workflow_id: str, run_id: str, event: int, reason: str) -> str:
    """Begin a new run that repeats the history up to the decision with that event's number; its run id.

    The old run is ended where it still runs. Signals that came later are delivered again. Raises NoExecution,
    RPCError.
    """
    with named(workflow_id, run_id):
        done = await client.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=namespace, workflow_execution=_execution(workflow_id, run_id), reason=reason,
                workflow_task_finish_event_id=event, request_id=str(uuid.uuid4()), identity=IDENTITY,
            ),
            timeout=left(),
        )  # fmt: skip
    return done.run_id


async def ask(client: Client, namespace: str, workflow_id: str, run_id: str, query: str) -> Any:
    """What the execution answers to a query, from JSON. Raises NoAnswer, NoExecution, RPCError."""
    try:
        with named(workflow_id, run_id):
            answer = await client.workflow_service.query_workflow(
                QueryWorkflowRequest(
                    namespace=namespace, execution=_execution(workflow_id, run_id),
                    query=WorkflowQuery(query_type=query),
                ),
                timeout=timedelta(seconds=max(0.05, min(ASK_SECONDS, remaining() - 0.1))),
            )  # fmt: skip
    except RPCError as error:
        # A query is answered by a worker: the server says in several ways that none was there in time.
        nobody = (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED, RPCStatusCode.FAILED_PRECONDITION)
        if error.status in nobody:
            raise NoAnswer("No worker answers for this execution now.", detail=redact(error.message)) from error
        if error.status is RPCStatusCode.INVALID_ARGUMENT:
            raise NoAnswer("The workflow does not tell its progress yet.", detail=redact(error.message)) from error
        raise
    if not answer.query_result.payloads:
        return None
    return default_converter().payload_converter.from_payload(answer.query_result.payloads[0])


def _execution(workflow_id: str, run_id: str) -> WorkflowExecution:
    return WorkflowExecution(workflow_id=workflow_id, run_id=run_id)
