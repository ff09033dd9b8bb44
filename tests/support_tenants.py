"""What the tests of tenants coming and going share: a worker of their own, and what is left of a tenant anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import text
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.worker import (
    Interceptor,
    StartActivityInput,
    Worker,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

from limiter import keys
from operations import tenant_records
from operations.platform import Platform
from operations.tenant_systems import SYSTEMS, TenantSpec, s3
from workflows import tenant_offboarding, tenant_provisioning

MODULES = (tenant_provisioning, tenant_offboarding)
TIER = "team"


class Retries(Interceptor):
    """Gives activities that say nothing of their own a retry policy, quick and bounded, as the worker's settings do."""

    def __init__(self, attempts: int = 3) -> None:
        _Outbound.policy = RetryPolicy(maximum_attempts=attempts, initial_interval=timedelta(milliseconds=50))

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[_Inbound]:  # noqa: A002
        return _Inbound


class _Inbound(WorkflowInboundInterceptor):
    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(_Outbound(outbound))


class _Outbound(WorkflowOutboundInterceptor):
    policy = RetryPolicy()

    def start_activity(self, input: StartActivityInput) -> Any:  # noqa: A002
        input.retry_policy = input.retry_policy or self.policy
        return super().start_activity(input)


def worker(
    client: Client, platform: Platform, queue: str, *, attempts: int = 3,
    interceptors: Sequence[Interceptor] = (), more_activities: Sequence[Callable[..., Any]] = (), **more: Any,
) -> Worker:  # fmt: skip
    """A worker for tenants' workflows alone; without interceptors of the caller's, steps are tried so many times."""
    return Worker(
        client,
        task_queue=queue,
        workflows=[kind for module in MODULES for kind in module.WORKFLOWS],
        activities=[*more_activities, *(one for module in MODULES for one in module.activities(platform))],
        interceptors=interceptors or [Retries(attempts)],
        **more,
    )


@contextlib.asynccontextmanager
async def working(platform: Platform, address: str, **more: Any) -> AsyncIterator[tuple[Client, str]]:
    """A client, and a task queue that a worker works on."""
    client, queue = await Client.connect(address), f"tenants-{uuid.uuid4()}"
    async with worker(client, platform, queue, **more):
        yield client, queue


def make_tier(platform: Platform, code: str = TIER) -> None:
    """A tier, unless there is one of this code."""
    with platform.database.session() as session:
        session.execute(
            text("INSERT INTO tiers (code, name, rank) VALUES (:c, :c, 20) ON CONFLICT DO NOTHING"), {"c": code}
        )


def make_whole(platform: Platform, spec: TenantSpec) -> None:
    """An active tenant, whole in every system, without a workflow."""
    made: dict[str, str] = {}
    for name, system in SYSTEMS.items():
        part = system.make(platform, spec)
        made |= {name: part.identifier, "subscription": part.also or made.get("subscription", "")}
    with platform.database.session() as session:
        session.execute(text("UPDATE tenants SET status = 'active' WHERE id = :id"), {"id": spec.tenant})
        for name, column in tenant_records.NAMES.items():
            session.execute(
                text(f"UPDATE tenants SET {column} = :name WHERE id = :id"), {"id": spec.tenant, "name": made.get(name)}
            )


@contextlib.contextmanager
def configured(platform: Platform, slug: str, **values: Any) -> Iterator[None]:
    """An adapter with other settings for the length of a block."""
    adapter = platform.adapters[slug]
    before = adapter.config
    adapter.config = before.model_copy(update=values)
    try:
        yield
    finally:
        adapter.config = before


@contextlib.contextmanager
def unconfigured(platform: Platform, slug: str) -> Iterator[None]:
    """An adapter without any settings for the length of a block."""
    empty = type(platform.adapters[slug]).config_class()()
    with configured(platform, slug, **{field: getattr(empty, field) for field in type(empty).model_fields}):
        yield


def where(platform: Platform, tenant: str) -> list[str]:
    """The systems in which the whole of the tenant is."""
    return [name for name, system in SYSTEMS.items() if system.present(platform, tenant)]


def traces(platform: Platform, tenant: str) -> list[str]:
    """Whatever there is of a tenant in any system, whole or not."""
    found = [] if row(platform, tenant) is None else ["row"]
    adapters: dict[str, Any] = platform.adapters
    if adapters["keycloak"].group(f"tenant-{tenant}") is not None:
        found.append("group")
    if adapters["lago"].customers().get(tenant) is not None:
        found.append("customer")
    if adapters["lago"].subscriptions(("active", "pending"), customer=tenant, limit=5).items:
        found.append("subscription")
    if adapters["qdrant"].has_collection(f"tenant_{tenant}"):
        found.append("collection")
    if adapters["s3"].prefixes().has(f"tenants/{tenant}/.tenant"):
        found.append("prefix")
    if adapters["s3"].prefixes().statement(s3.sid(tenant)) is not None:
        found.append("statement")
    if adapters["somabrain"].tenant(tenant) is not None:
        found.append("namespace")
    tier = platform.redis.hget(keys.overrides(keys.TENANTS), tenant)
    if tier is not None and not json.loads(str(tier)).get("deleted"):
        found.append("tier")
    return found


def row(platform: Platform, tenant: str) -> dict[str, Any] | None:
    """The tenant's row."""
    with platform.database.session() as session:
        found = session.execute(text("SELECT * FROM tenants WHERE id = :id"), {"id": tenant}).mappings().one_or_none()
        return dict(found) if found else None


def mails(platform: Platform, tenant: str) -> Sequence[str]:
    """Status of each welcome mail."""
    with platform.database.session() as session:
        query = text("SELECT status FROM mails WHERE dedup LIKE :like ORDER BY id")
        return list(session.scalars(query, {"like": f"welcome/{tenant}/%"}))


def run(work: Any) -> Any:
    """Run a coroutine function, for at most a minute and a half: only a machine that is overloaded needs that."""
    return asyncio.run(asyncio.wait_for(work(), 90))


@contextlib.contextmanager
def at_work(platform: Platform, address: str, queue: str) -> Iterator[None]:
    """A worker in a thread of its own, for tests that are not coroutines."""
    loop, stop, ready = asyncio.new_event_loop(), asyncio.Event(), threading.Event()

    async def work() -> None:
        async with worker(await Client.connect(address), platform, queue):
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(work()), name="tenants-worker")
    thread.start()
    try:
        assert ready.wait(10)
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()
