"""A tenant is made in every system, or nothing of it is left; made twice it is made once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import CancelledError

from operations.platform import Platform
from operations.tenant_systems import SYSTEMS
from operations.workflow_catalogue import PROVISIONING, Provisioned, ProvisioningInput
from operations.workflow_progress import DONE, QUERY, Progress
from tests.support_tenants import TIER, mails, make_tier, row, run, where, working

pytestmark = pytest.mark.engines
ACME = ProvisioningInput("acme-9", "Acme 9", TIER, "boss@acme.example")


@pytest.fixture
def here(platform: Platform) -> Iterator[Platform]:
    make_tier(platform)
    yield platform


async def start(client: Client, queue: str, given: ProvisioningInput = ACME) -> WorkflowHandle:
    return await client.start_workflow(
        PROVISIONING, given, id=f"{PROVISIONING}/{given.tenant}/{queue}", task_queue=queue, result_type=Provisioned
    )


def test_made_in_every_system_and_a_second_run_changes_nothing(here: Platform, temporal_address: str) -> None:
    async def both() -> tuple[Provisioned, Progress, Provisioned]:
        async with working(here, temporal_address) as (client, queue):
            handle = await start(client, queue)
            first = await handle.result()
            told = await handle.query(QUERY, result_type=Progress)
            return first, told, await (await start(client, queue)).result()

    first, told, second = run(both)
    assert where(here, "acme-9") == list(SYSTEMS)
    assert [(step.name, step.state) for step in told.steps] == [(step.name, DONE) for step in told.steps]
    assert told.percent == 100
    made = row(here, "acme-9")
    assert made is not None
    assert made["status"] == "active"
    assert first.keycloak_group == made["keycloak_group"] == "tenant-acme-9"
    assert first.lago_subscription_id == made["lago_subscription_id"] == "tenant-acme-9"
    assert all((first.lago_customer_id, first.qdrant_collection, first.s3_prefix, first.somabrain_tenant))
    assert second == first
    assert mails(here, "acme-9") == ["queued"]
