"""Temporal: the workflows of the platform, asked over gRPC."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from pydantic import Field, SecretStr
from temporalio.api.workflowservice.v1 import (
    CountWorkflowExecutionsRequest,
    DescribeNamespaceRequest,
    DescribeNamespaceResponse,
    GetClusterInfoRequest,
    GetSystemInfoRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from adapters.core import aio
from adapters.core.adapter import Adapter, ServiceConfig
from adapters.core.deadline import DEFAULT_SECONDS, deadline, remaining
from adapters.core.errors import AdapterError, Denied, Rejected, TimedOut, Unexpected, Unreachable
from adapters.core.model import Category, Health, Metric, Service, Setting, State, Unit, utcnow
from adapters.core.redact import redact
from adapters.temporal_client import connection, counts, outcomes, workers
from adapters.temporal_client.control import IDENTITY
from adapters.temporal_client.executions import left

T = TypeVar("T")
MANY_SECONDS = 9.0
"""For what takes a question for every workflow type."""


class TemporalConfig(ServiceConfig):
    """How to reach a Temporal frontend."""

    address: str | None = Field(
        None, title="Address", description="host:port of the gRPC frontend.", json_schema_extra={"required": True}
    )
    namespace: str = Field("default", title="Namespace")
    task_queue: str = Field(
        "pilothouse",
        title="Task queue",
        description="Whose pollers are counted where the server cannot list workers.",
    )
    tls: bool = Field(False, title="TLS")
    api_key: SecretStr | None = Field(None, title="API key")


class Temporal(Adapter[TemporalConfig]):
    """One namespace of a Temporal cluster."""

    service = Service(
        slug="temporal",
        title="Temporal",
        category=Category.ORCHESTRATION,
        path="/platform/infrastructure/temporal",
        purpose="Runs the platform's workflows: tenants, usage, backups, all that must not be forgotten half-way.",
        affects="workflows, schedules and history sampling",
        depends_on=("postgresql",),
        order=30,
    )

    def __init__(self, config: TemporalConfig) -> None:
        super().__init__(config)
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._types: tuple[str, ...] = ()
        self._tallies = counts.Memory()
        self._memory = outcomes.Memory()

    def health(self) -> Health:
        """GetSystemInfo, and that the namespace exists."""

        async def ask(client: Client) -> tuple[str, DescribeNamespaceResponse]:
            info = await client.workflow_service.get_system_info(GetSystemInfoRequest(), timeout=left())
            return info.server_version, await self._namespace(client)

        version, _ = self.call(ask)
        sentence = f"Takes work in the namespace {self.config.namespace}."
        return Health(State.HEALTHY, sentence, f"Temporal {version}".strip())

    def metrics(self) -> Sequence[Metric]:
        """Running workflows (headline), failed and completed in the last day, workers polling."""
        since = (utcnow() - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")

        async def ask(client: Client) -> tuple[int, int, int, int]:
            return await asyncio.gather(
                self._count(client, "ExecutionStatus='Running'"),
                self._count(client, f"ExecutionStatus='Failed' AND CloseTime > '{since}'"),
                self._count(client, f"ExecutionStatus='Completed' AND CloseTime > '{since}'"),
                self._workers(client),
            )

        running, failed, completed, polling = self.call(ask)
        ended = failed + completed
        return [
            Metric("running", "Running workflows", running, headline=True),
            Metric("failed", "Failed", failed, note="in the last day"),
            Metric("completed", "Completed", completed, note="in the last day"),
            Metric("failure_rate", "Failing", round(100 * failed / ended, 2) if ended else 0.0, Unit.PERCENT,
                   note="of those ended in the last day"),
            Metric("workers", "Workers polling", polling),
        ]  # fmt: skip

    def settings(self) -> Sequence[Setting]:
        """The namespace's configuration and the server's version and storage."""

        async def ask(client: Client) -> tuple[DescribeNamespaceResponse, Any]:
            service = client.workflow_service
            return await asyncio.gather(
                self._namespace(client), service.get_cluster_info(GetClusterInfoRequest(), timeout=left())
            )

        space, cluster = self.call(ask)
        return [
            Setting("server_version", cluster.server_version, group="Cluster"),
            Setting("cluster_name", cluster.cluster_name, group="Cluster"),
            Setting("persistence_store", cluster.persistence_store, group="Cluster"),
            Setting("visibility_store", cluster.visibility_store, group="Cluster"),
            Setting("history_shards", str(cluster.history_shard_count), group="Cluster"),
            Setting("namespace", space.namespace_info.name, group="Namespace"),
            Setting("description", redact(space.namespace_info.description), group="Namespace"),
            Setting("retention", _days(connection.retention_days(space)), group="Namespace",
                    description="How long closed workflows are kept."),
            Setting("global", "yes" if space.is_global_namespace else "no", group="Namespace"),
            Setting("history_archival", "on" if space.config.history_archival_state == 2 else "off", group="Namespace"),
        ]  # fmt: skip

    def connection(self) -> connection.Connection:
        """Who answers, how fast, how many workers poll, what the namespace keeps. Raises AdapterError."""

        async def ask(client: Client) -> connection.Connection:
            space = await self._namespace(client)
            (version, took), polling = await asyncio.gather(connection.ping(client), self._workers(client))
            address, days = self.config.address or "", connection.retention_days(space)
            return connection.Connection(address, self.config.namespace, version, took, polling, days)

        return self.call(ask)

    def workflow_types(self) -> counts.Types:
        """Types of the executions the namespace keeps, at most 200. Cheap from the second time on.

        Raises AdapterError.
        """
        found = self.call(lambda client: counts.discover(client, self.config.namespace, self._types), MANY_SECONDS)
        self._types = found.names
        return found

    def type_counts(self, names: Sequence[str], span: str, since: datetime | None = None) -> counts.Tally:
        """Executions of each type by status, of those started at ``since`` or later; ``span`` names the time.

        Raises AdapterError.
        """
        space, memory = self.config.namespace, self._tallies
        return self.call(lambda client: counts.by_type(client, space, names, span, since, memory), MANY_SECONDS)

    def type_outcomes(
        self, marks: Mapping[str, outcomes.Mark], span: str, since: datetime | None = None
    ) -> dict[str, outcomes.TypeOutcome]:
        """Durations and the last failure of each type, of runs started at ``since`` or later; ``span`` names the time.

        Asks only for types of which more has ended than was known; leaves out those not reached in time.
        Raises AdapterError.
        """
        space, memory = self.config.namespace, self._memory
        return self.call(lambda c: outcomes.by_type(c, space, marks, span, since, memory), MANY_SECONDS)

    def forget_types(self, names: Sequence[str]) -> None:
        """Types of which the namespace keeps nothing any more: they are not asked for again until they return."""
        self._types = tuple(name for name in self._types if name not in set(names))

    def call(self, work: Callable[[Client], Awaitable[T]], seconds: float = DEFAULT_SECONDS) -> T:
        """Do ``work`` with the client on the shared loop, in at most ``seconds`` of the present deadline.

        Raises AdapterError.
        """
        self.require_config()
        with deadline(seconds):
            try:
                return aio.run(self._with_client(work))
            except Rejected:
                raise
            except TimedOut as error:
                self.close()  # a client that failed may hold a broken connection: the next call makes a new one
                raise TimedOut("Temporal did not answer in time.", detail=error.detail) from error
            except Unreachable:
                self.close()
                # What comes back may be another server, or have forgotten.
                self._tallies, self._memory = counts.Memory(), outcomes.Memory()
                raise
            except AdapterError:
                self.close()
                raise

    def close(self) -> None:
        """Drop the client; its connection closes with it."""
        with self._lock:
            self._client = None

    async def _with_client(self, work: Callable[[Client], Awaitable[T]]) -> T:
        try:
            client = self._client
            if client is None:
                client = await Client.connect(
                    self.config.address or "",
                    namespace=self.config.namespace,
                    tls=self.config.tls,
                    api_key=self.config.api_key.get_secret_value() if self.config.api_key else None,
                    identity=IDENTITY,
                    connect_timeout=left(),
                    lazy=True,
                )
                with self._lock:
                    self._client = client
            return await work(client)
        except AdapterError:
            raise
        except RPCError as error:
            raise self._translate(error) from error
        except (RuntimeError, ValueError, TypeError, OSError) as error:
            # The core reports a connection that could not be made as a RuntimeError with a text.
            detail = self._redact(error)
            remaining()
            text = detail.lower()
            if "unauthenticated" in text or "permission" in text:
                raise Denied("Temporal refused the console's credentials.", detail=detail) from error
            if any(word in text for word in ("invalid", "uri", "protocol", "h2", "frame", "unimplemented")):
                raise Unexpected("What answers at this address does not speak like Temporal.", detail=detail) from error
            if "timeout" in text or "timed out" in text or "deadline" in text:
                raise TimedOut("Temporal did not answer in time.", detail=detail) from error
            raise Unreachable("No connection to Temporal.", detail=detail) from error

    async def _namespace(self, client: Client) -> DescribeNamespaceResponse:
        request = DescribeNamespaceRequest(namespace=self.config.namespace)
        return await client.workflow_service.describe_namespace(request, timeout=left())

    async def _count(self, client: Client, query: str) -> int:
        request = CountWorkflowExecutionsRequest(namespace=self.config.namespace, query=query)
        return int((await client.workflow_service.count_workflow_executions(request, timeout=left())).count)

    async def _workers(self, client: Client) -> int:
        """Workers that work; on servers that cannot list workers, pollers of the configured queue."""
        return await workers.reachable(client, self.config.namespace, self.config.task_queue)

    def _translate(self, error: RPCError) -> AdapterError:
        detail = self._redact(f"{error.status.name}: {error.message}")
        match error.status:
            case RPCStatusCode.NOT_FOUND if "namespace" in error.message.lower():
                sentence = f"Temporal has no namespace {self.config.namespace}."
                return Rejected(sentence, detail=detail, advice="Create the namespace, or configure the one you use.")
            case RPCStatusCode.DEADLINE_EXCEEDED | RPCStatusCode.CANCELLED:
                return TimedOut("Temporal did not answer in time.", detail=detail)
            case RPCStatusCode.PERMISSION_DENIED | RPCStatusCode.UNAUTHENTICATED:
                return Denied("Temporal refused the console's credentials.", detail=detail)
            case RPCStatusCode.UNAVAILABLE:
                return Unreachable("No connection to Temporal.", detail=detail)
            case RPCStatusCode.RESOURCE_EXHAUSTED:
                return Rejected("Temporal is over its own request limit.", detail=detail)
            case RPCStatusCode.NOT_FOUND | RPCStatusCode.INVALID_ARGUMENT | RPCStatusCode.FAILED_PRECONDITION:
                return Rejected("Temporal refused the request.", detail=detail)
        return Unexpected("Temporal answered something unexpected.", detail=detail)

    def _redact(self, error: object) -> str:
        return redact(error, self.config.api_key)


def _days(count: float) -> str:
    return f"{count:g} day{'' if count == 1 else 's'}"
