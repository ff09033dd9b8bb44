"""Record the rounds over tenants that tests replay: ``python -m tests.record_care_histories``.

Writes tests/histories/sleep-cycle-pages.json; see record_tenant_histories for when to do so.
"""

from __future__ import annotations

from sqlalchemy import text

from operations.platform import Platform
from operations.workflow_catalogue import SLEEP_CYCLE, SleepInput
from tests.support_histories import QUEUE, at_work, keep, recorded
from workflows import sleep_cycle


async def record(platform: Platform) -> None:
    """One round over four tenants, looked up in pages."""
    with platform.database.session() as session:
        session.execute(
            text("INSERT INTO tenants (id, name, tier_code, somabrain_tenant) VALUES (:id, :id, 'free', :id)"),
            [{"id": f"t{number}"} for number in range(1, 5)],
        )
    async with at_work(platform, sleep_cycle) as client:
        name = "sleep-cycle-pages"
        handle = await client.start_workflow(SLEEP_CYCLE, SleepInput(), id=name, task_queue=QUEUE)
        await keep(handle, name)


if __name__ == "__main__":
    recorded(record)
