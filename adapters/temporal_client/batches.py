"""Batch operations: the same done to many executions by the server."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from temporalio.api.batch.v1 import (
    BatchOperationCancellation,
    BatchOperationReset,
    BatchOperationSignal,
    BatchOperationTermination,
)
from temporalio.api.common.v1 import Payload, Payloads, ResetOptions, WorkflowExecution
from temporalio.api.enums.v1 import BatchOperationState
from temporalio.api.workflowservice.v1 import DescribeBatchOperationRequest, StartBatchOperationRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from adapters.core.errors import Rejected
from adapters.core.redact import redact
from adapters.temporal_client.control import IDENTITY
from adapters.temporal_client.executions import left, when


@dataclass(frozen=True, slots=True)
class Batch:
    """How far a batch operation is."""

    id: str
    state: str
    """running, completed or failed."""
    total: int
    done: int
    failed: int
    started_at: datetime | None
    ended_at: datetime | None
    reason: str


async def start(
    client: Client, namespace: str, *, action: str, reason: str, query: str = "",
    executions: Sequence[tuple[str, str]] = (), signal_name: str = "", given: Sequence[Payload] = (),
    to_first: bool = False,
) -> str:  # fmt: skip
    """Start a batch operation on the executions listed (id, run id) or, without a list, on all that match.

    ``action`` is terminate, cancel, signal or reset; the last goes to the first decision or else to the last one.
    Returns the job's id. Raises RPCError.
    """
    job = str(uuid.uuid4())
    request = StartBatchOperationRequest(namespace=namespace, job_id=job, reason=reason)
    if executions:
        request.executions.extend(WorkflowExecution(workflow_id=one, run_id=run) for one, run in executions)
    else:
        request.visibility_query = query
    match action:
        case "terminate":
            request.termination_operation.CopyFrom(BatchOperationTermination(identity=IDENTITY))
        case "cancel":
            request.cancellation_operation.CopyFrom(BatchOperationCancellation(identity=IDENTITY))
        case "signal":
            request.signal_operation.CopyFrom(
                BatchOperationSignal(signal=signal_name, input=Payloads(payloads=given), identity=IDENTITY)
            )
        case "reset":
            options = ResetOptions()
            (options.first_workflow_task if to_first else options.last_workflow_task).SetInParent()
            request.reset_operation.CopyFrom(BatchOperationReset(identity=IDENTITY, options=options))
        case _:
            raise ValueError(action)
    await client.workflow_service.start_batch_operation(request, timeout=left())
    return job


async def progress(client: Client, namespace: str, job: str) -> Batch:
    """How far a batch operation is. Raises Rejected (none of that id), RPCError."""
    try:
        told = await client.workflow_service.describe_batch_operation(
            DescribeBatchOperationRequest(namespace=namespace, job_id=job), timeout=left()
        )
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND and not error.message.lower().startswith("namespace"):
            raise Rejected(f"There is no batch operation {job}.", detail=redact(error.message)) from error
        raise
    state = BatchOperationState.Name(told.state).removeprefix("BATCH_OPERATION_STATE_").lower()
    return Batch(
        told.job_id, state, int(told.total_operation_count), int(told.complete_operation_count),
        int(told.failure_operation_count), when(told.start_time), when(told.close_time), redact(told.reason),
    )  # fmt: skip
