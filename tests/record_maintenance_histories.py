"""Record the runs of maintenance that tests replay: ``python -m tests.record_maintenance_histories``.

Writes tests/histories/maintenance-*.json; see record_tenant_histories for when to do so.
"""

from __future__ import annotations

import asyncio

from operations.platform import Platform
from operations.workflow_catalogue import BACKUP, CLEAN_UP, MAINTENANCE, RECONCILE, MaintenanceInput
from tests.support_histories import QUEUE, at_work, keep, recorded
from workflows import maintenance


async def record(platform: Platform) -> None:
    """One run of each job, one that fails, one canceled, and one without an input as of the first schedules."""
    async with at_work(platform, maintenance) as client:
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


if __name__ == "__main__":
    recorded(record)
