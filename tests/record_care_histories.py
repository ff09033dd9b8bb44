"""Record the rounds over tenants that tests replay: ``python -m tests.record_care_histories``.

Writes tests/histories/sleep-cycle-pages.json; see record_tenant_histories for when to do so.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

from sqlalchemy import text
from temporalio.client import Client
from temporalio.worker import Worker

from operations import database
from operations.platform import Platform
from operations.settings import Settings
from operations.workflow_catalogue import SLEEP_CYCLE, SleepInput
from sandbox.assembled import assembled
from tests.record_tenant_histories import QUEUE, keep
from workflows import sleep_cycle
from workflows.interceptor import SettingsInterceptor


async def record(platform: Platform) -> None:
    """One round over four tenants, looked up in pages."""
    with platform.database.session() as session:
        session.execute(
            text("INSERT INTO tenants (id, name, tier_code, somabrain_tenant) VALUES (:id, :id, 'free', :id)"),
            [{"id": f"t{number}"} for number in range(1, 5)],
        )
    client = await Client.connect(platform.settings.temporal_address, identity="console")
    interceptor = SettingsInterceptor(platform)
    activities = [*sleep_cycle.activities(platform), *interceptor.activities]
    async with Worker(
        client, task_queue=QUEUE, workflows=sleep_cycle.WORKFLOWS, activities=activities, interceptors=[interceptor],
        identity="worker",
    ):  # fmt: skip
        name = "sleep-cycle-pages"
        handle = await client.start_workflow(SLEEP_CYCLE, SleepInput(), id=name, task_queue=QUEUE)
        await keep(handle, name)


def main() -> None:
    """Assemble, record, take everything down."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        with assembled(folder) as path:
            os.environ["PILOTHOUSE_CONFIG"] = str(path)
            platform = Platform(Settings())
            database.migrate(platform.settings.database_url.get_secret_value())
            asyncio.run(record(platform))
            platform.close()


if __name__ == "__main__":
    main()
