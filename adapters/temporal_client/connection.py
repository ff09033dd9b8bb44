"""The connection to Temporal: who answers, how fast, and what the namespace keeps."""

from __future__ import annotations

import time
from dataclasses import dataclass

from temporalio.api.workflowservice.v1 import DescribeNamespaceResponse, GetSystemInfoRequest
from temporalio.client import Client

from adapters.temporal_client.executions import left


@dataclass(frozen=True, slots=True)
class Connection:
    """What the server said of itself a moment ago."""

    address: str
    namespace: str
    version: str
    latency_ms: float
    """One call to the frontend and back, the connection being open."""
    workers: int
    """Workers that poll now."""
    retention_days: float
    """How long ended executions are kept."""


async def ping(client: Client) -> tuple[str, float]:
    """The server's version, and milliseconds one call took. Raises RPCError."""
    service = client.workflow_service
    begun = time.perf_counter()
    info = await service.get_system_info(GetSystemInfoRequest(), timeout=left())
    return info.server_version, (time.perf_counter() - begun) * 1000


def retention_days(space: DescribeNamespaceResponse) -> float:
    """How long the namespace keeps ended executions."""
    seconds: float = space.config.workflow_execution_retention_ttl.ToTimedelta().total_seconds()
    return seconds / 86400
