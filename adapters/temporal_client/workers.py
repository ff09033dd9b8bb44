"""Workers: what they say of themselves by heartbeat, and who polls where they say nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from temporalio.api.enums.v1 import WorkerStatus
from temporalio.api.worker.v1 import WorkerHeartbeat, WorkerListInfo, WorkerSlotsInfo
from temporalio.api.workflowservice.v1 import DescribeWorkerRequest, ListWorkersRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from adapters.temporal_client import queues
from adapters.temporal_client.executions import left, when
from adapters.temporal_client.schedules import AT_ONCE

MOST = 500
PAGE = 100
DESCRIBED = 50
"""Workers asked one by one where the list does not carry their slots."""
QUEUES_BESIDE = 30
"""Queues asked for pollers besides, where workers send heartbeats."""
POLLED = timedelta(seconds=90)
"""A poll waits a minute for work; the server still names those that left minutes ago."""
SILENT_INTERVALS = 3.0
LEAST_SILENCE_SECONDS = 30.0
UNKNOWN_INTERVAL_SECONDS = 60.0
"""Until a worker's second heartbeat: what its SDK takes where nobody sets it."""
_CANNOT = (RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.INVALID_ARGUMENT)


@dataclass(frozen=True, slots=True)
class Slots:
    """Places of one kind: taken, free (None without a fixed bound), and tasks done since the worker's start."""

    kind: str
    used: int
    free: int | None
    done: int
    failed: int


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker. From a heartbeat all of it; from a poller identity, queue, build and when it was seen."""

    identity: str
    task_queue: str
    key: str = ""
    host: str = ""
    process: str = ""
    sdk: str = ""
    build: str = ""
    status: str = ""
    """RUNNING, SHUTTING_DOWN, SHUTDOWN or empty."""
    started_at: datetime | None = None
    seen_at: datetime | None = None
    interval_seconds: float = 0.0
    """Between its last two heartbeats."""
    cpu: float | None = None
    """Share of the host's processors in use, 0–1."""
    memory: float | None = None
    """Share of the host's memory in use, 0–1."""
    slots: tuple[Slots, ...] = ()
    polls: tuple[str, ...] = ()
    """Of a poller: which tasks it asks for."""

    def silent(self, now: datetime) -> bool:
        """Whether it has missed three heartbeats, without having said that it has stopped."""
        if self.seen_at is None or self.polls or self.status == "SHUTDOWN":
            return False
        patience = max(LEAST_SILENCE_SECONDS, SILENT_INTERVALS * (self.interval_seconds or UNKNOWN_INTERVAL_SECONDS))
        return (now - self.seen_at).total_seconds() > patience


@dataclass(frozen=True, slots=True)
class Workers:
    """Those alive. ``heartbeats`` is false where the server cannot list workers, or none sends heartbeats."""

    rows: tuple[Worker, ...]
    heartbeats: bool
    why: str = ""
    cut: bool = False


async def alive(client: Client, namespace: str, names: Sequence[str]) -> Workers:
    """Workers by heartbeat, then those that poll one of the queues named and send none; at most 500.

    Raises RPCError.
    """
    why = "No worker sends heartbeats to this server."
    try:
        listed = await _listed(client, namespace)
    except RPCError as error:
        if error.status not in _CANNOT:
            raise
        listed, why = None, "This Temporal server cannot list workers."
    if listed is None or not listed.rows:
        return Workers(await _pollers(client, namespace, names), False, why)
    beating = {one.identity for one in listed.rows}
    since = datetime.now(UTC) - POLLED
    others = [
        one
        for one in await _pollers(client, namespace, names[:QUEUES_BESIDE])
        if one.identity not in beating and one.seen_at is not None and one.seen_at > since
    ]
    return replace(listed, rows=(*listed.rows, *others)[:MOST])


async def reachable(client: Client, namespace: str, queue: str) -> int:
    """How many work: those that say they run, by a heartbeat that is not overdue.

    Where there are none, those that polled ``queue`` a moment ago and send no heartbeats. The server goes on listing
    a worker long after it was stopped or killed. Raises RPCError.
    """
    now = datetime.now(UTC)
    try:
        rows = (await _listed(client, namespace)).rows
    except RPCError as error:
        if error.status not in _CANNOT:
            raise
        rows = ()
    beating = sum(1 for one in rows if one.status == "RUNNING" and not one.silent(now))
    if beating:
        return beating
    known = {one.identity for one in rows}
    polling = {
        one.identity
        for one in await _pollers(client, namespace, [queue])
        if one.seen_at is not None and one.seen_at > now - POLLED
    }
    return len(polling - known)


async def named(client: Client, namespace: str) -> tuple[str, ...]:
    """Queues that workers say they poll; none where the server cannot list workers. Raises RPCError."""
    try:
        return tuple(dict.fromkeys(one.task_queue for one in (await _listed(client, namespace)).rows))
    except RPCError as error:
        if error.status in _CANNOT:
            return ()
        raise


async def _listed(client: Client, namespace: str) -> Workers:
    beats: list[WorkerHeartbeat] = []
    plain: list[WorkerListInfo] = []
    token = b""
    while True:
        request = ListWorkersRequest(namespace=namespace, page_size=PAGE, next_page_token=token)
        found = await client.workflow_service.list_workers(request, timeout=left())
        beats += [info.worker_heartbeat for info in found.workers_info]
        plain += found.workers
        token = found.next_page_token
        if not token or max(len(beats), len(plain)) >= MOST:
            break
    if not beats and plain:
        beats = await _described(client, namespace, [one.worker_instance_key for one in plain[:DESCRIBED]])
    known = {one.worker_instance_key for one in beats}
    rows = [_worker(one) for one in beats] + [_short(one) for one in plain if one.worker_instance_key not in known]
    return Workers(tuple(sorted(rows, key=lambda one: (one.task_queue, one.identity))[:MOST]), True, cut=bool(token))


async def _described(client: Client, namespace: str, keys: Sequence[str]) -> list[WorkerHeartbeat]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(key: str) -> WorkerHeartbeat | None:
        async with gate:
            request = DescribeWorkerRequest(namespace=namespace, worker_instance_key=key)
            try:
                answer = await client.workflow_service.describe_worker(request, timeout=left())
            except RPCError as error:
                if error.status in (*_CANNOT, RPCStatusCode.NOT_FOUND):
                    return None
                raise
            return answer.worker_info.worker_heartbeat

    return [beat for beat in await asyncio.gather(*map(one, keys)) if beat is not None]


async def _pollers(client: Client, namespace: str, names: Sequence[str]) -> tuple[Worker, ...]:
    found: dict[tuple[str, str], Worker] = {}
    for queue in await queues.describe(client, namespace, names):
        for half in (queue.workflow, queue.activity):
            for poller in half.pollers:
                key = (queue.name, poller.identity)
                before = found.get(key)
                moments = [at for at in (poller.seen_at, before.seen_at if before else None) if at is not None]
                found[key] = Worker(
                    poller.identity,
                    queue.name,
                    build=poller.build,
                    seen_at=max(moments, default=None),
                    polls=((*before.polls, half.kind) if before else (half.kind,)),
                )
    return tuple(list(found.values())[:MOST])


def _worker(beat: WorkerHeartbeat) -> Worker:
    host = beat.host_info
    kinds = (
        ("Workflow tasks", beat.workflow_task_slots_info),
        ("Activities", beat.activity_task_slots_info),
        ("Local activities", beat.local_activity_slots_info),
        ("Nexus", beat.nexus_task_slots_info),
    )
    return Worker(
        beat.worker_identity[:255],
        beat.task_queue[:255],
        beat.worker_instance_key,
        host.host_name[:255],
        host.process_id,
        f"{beat.sdk_name} {beat.sdk_version}".strip(),
        beat.deployment_version.build_id,
        _status(beat.status),
        when(beat.start_time),
        when(beat.heartbeat_time),
        beat.elapsed_since_last_heartbeat.ToTimedelta().total_seconds(),
        float(host.current_host_cpu_usage),
        float(host.current_host_mem_usage),
        tuple(_slots(kind, info) for kind, info in kinds if info.current_used_slots or info.current_available_slots),
    )


def _slots(kind: str, info: WorkerSlotsInfo) -> Slots:
    # A supplier that follows the host's resources tells no bound: its free places are a guess of the moment.
    free = info.current_available_slots if info.slot_supplier_kind == "Fixed" else None
    return Slots(kind, info.current_used_slots, free, info.total_processed_tasks, info.total_failed_tasks)


def _short(one: WorkerListInfo) -> Worker:
    return Worker(
        one.worker_identity[:255],
        one.task_queue[:255],
        one.worker_instance_key,
        one.host_name[:255],
        one.process_id,
        f"{one.sdk_name} {one.sdk_version}".strip(),
        one.deployment_version.build_id,
        _status(one.status),
        when(one.start_time),
    )


def _status(number: int) -> str:
    try:
        name = WorkerStatus.Name(WorkerStatus.ValueType(number)).removeprefix("WORKER_STATUS_")
    except ValueError:
        return ""
    return "" if name == "UNSPECIFIED" else name
