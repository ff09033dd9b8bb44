"""Record the runs of maintenance that tests replay: ``python -m tests.record_maintenance_histories``.

Writes tests/histories/maintenance-*.json; see record_tenant_histories for when to do so.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

from temporalio.client import Client
from temporalio.worker import Worker

from operations import database
from operations.platform import Platform
from operations.settings import Settings
from operations.workflow_catalogue import BACKUP, CLEAN_UP, MAINTENANCE, RECONCILE, MaintenanceInput
from sandbox.assembled import assembled
from tests.record_tenant_histories import QUEUE, keep
from workflows import maintenance
from workflows.interceptor import SettingsInterceptor


async def record(platform: Platform) -> None:
    """One run of each job, one that fails, one canceled, and one without an input as of the first schedules."""
    client = await Client.connect(platform.settings.temporal_address, identity="console")
    interceptor = SettingsInterceptor(platform)
    activities = [*maintenance.activities(platform), *interceptor.activities]
    async with Worker(
        client, task_queue=QUEUE, workflows=maintenance.WORKFLOWS, activities=activities, interceptors=[interceptor],
        identity="worker",
    ):  # fmt: skip
        for name, args in (
            ("maintenance-clean-up", [MaintenanceInput(CLEAN_UP)]),
            ("maintenance-reconcile", [MaintenanceInput(RECONCILE)]),
            ("maintenance-backup", [MaintenanceInput(BACKUP)]),
            ("maintenance-plain", []),
            ("maintenance-unknown", [MaintenanceInput("sweep")]),
        ):
            handle = await client.start_workflow(MAINTENANCE, args=args, id=name, task_queue=QUEUE)
            await keep(handle, name)
        name = "maintenance-backup-canceled"
        handle = await client.start_workflow(MAINTENANCE, MaintenanceInput(BACKUP), id=name, task_queue=QUEUE)
        while not (await handle.query(maintenance.Maintenance.progress)).steps:
            await asyncio.sleep(0.02)
        await handle.cancel()
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
