"""Record the runs that tests replay: ``python -m tests.record_tenant_histories`` writes tests/histories/tenant-*.json.

Needs nothing but what tests need. A recorded history is never made anew because a workflow no longer replays it: it
stands for runs under way at customers. Record under a new name when a workflow has learned something new.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from temporalio.client import Client, WorkflowHandle

from operations.platform import Platform
from operations.tenant_systems import TenantSpec
from operations.workflow_catalogue import (
    END_WAIT,
    KEEP_TENANT,
    OFFBOARDING,
    PROVISIONING,
    OffboardingInput,
    ProvisioningInput,
)
from tests.support_histories import QUEUE, keep, recorded
from tests.support_tenants import TIER, make_tier, make_whole, worker
from workflows.interceptor import SettingsInterceptor


@asynccontextmanager
async def at_work(platform: Platform) -> AsyncIterator[Client]:
    """A client, while a worker with the settings' interceptor works."""
    client = await Client.connect(platform.settings.temporal_address, identity="console")
    interceptor = SettingsInterceptor(platform)
    async with worker(client, platform, QUEUE, interceptors=[interceptor], more_activities=interceptor.activities,
                      identity="worker"):  # fmt: skip
        yield client


async def provision(client: Client, tenant: str, tier: str = TIER) -> WorkflowHandle:
    """Begin to make a tenant."""
    given = ProvisioningInput(tenant, tenant.title(), tier, f"boss@{tenant}.example")
    return await client.start_workflow(PROVISIONING, given, id=f"{PROVISIONING}/{tenant}", task_queue=QUEUE)


async def offboard(client: Client, tenant: str) -> WorkflowHandle:
    """Begin to remove one, and wait until it waits."""
    given = OffboardingInput(tenant, 24, "contract ended")
    handle = await client.start_workflow(OFFBOARDING, given, id=f"{OFFBOARDING}/{tenant}", task_queue=QUEUE)
    while "Waits until" not in (await handle.query("progress"))["sentence"]:
        await asyncio.sleep(0.05)
    return handle


async def record(platform: Platform) -> None:
    """One run of each way a run can go."""
    async with at_work(platform) as client:
        await keep(await provision(client, "acme"), "tenant-provisioning")
        await keep(await provision(client, "acme"), "tenant-provisioning-twice")
        await keep(await provision(client, "broke", "unsold"), "tenant-provisioning-taken-back")
        make_whole(platform, TenantSpec("globex", "Globex", TIER, "boss@globex.example"))
        handle = await offboard(client, "globex")
        await handle.signal(KEEP_TENANT)
        await keep(handle, "tenant-offboarding-kept")
        handle = await offboard(client, "globex")
        await handle.cancel()
        await keep(handle, "tenant-offboarding-canceled")
        handle = await offboard(client, "globex")
        await handle.signal(END_WAIT)
        await keep(handle, "tenant-offboarding")
        await wrong(client)


async def wrong(client: Client) -> None:
    """Runs that end at once, for what they are given."""
    for kind, given in (
        (PROVISIONING, ProvisioningInput("initech", "", TIER, "nobody")),
        (OFFBOARDING, OffboardingInput("initech", 10_000, "contract ended")),
    ):
        handle = await client.start_workflow(kind, given, id=f"{kind}/initech", task_queue=QUEUE)
        await keep(handle, f"{kind}-wrong")


def prepare(platform: Platform) -> None:
    """A tier to be on, and one that Lago does not sell."""
    make_tier(platform)
    make_tier(platform, "unsold")


if __name__ == "__main__":
    recorded(record, prepare)
