"""Pending: runs that no worker has begun and runs that wait for a place; number, list and batch tell of the same."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from adapters.core import utcnow
from adapters.temporal_client.counts import TypeCounts
from models import WorkflowSlot
from operations import workflow_batch, workflow_executions, workflow_types
from operations.access import SYSTEM
from operations.workflow_executions import PLACES_MOST, Filters
from operations.workflow_types import Row
from pages.temporal_parts import workflows
from sandbox.engines import Postgres
from tests import support_executions
from tests.support import poll

pytestmark = pytest.mark.engines

QUEUE = f"pending-{os.getpid()}"


@pytest.fixture(scope="module")
def console(postgres: Postgres, template_database: str, temporal_address: str) -> Iterator[Any]:
    with (
        support_executions.worker(temporal_address, QUEUE),
        support_executions.console(postgres, template_database, temporal_address) as made,
    ):
        yield made


def test_who_waits_for_a_place_is_pending_wherever_it_is_told(console: Any) -> None:
    adapter = console.adapters["temporal"]
    begun = {}
    for number, queue in enumerate([QUEUE, QUEUE, QUEUE, "nobody-polls"]):
        handle = adapter.call(
            lambda c, number=number, queue=queue: c.start_workflow("Gate", id=f"pending-{number}", task_queue=queue)
        )
        begun[handle.id] = handle.first_execution_run_id
    gates = Filters(type="Gate", status="Pending")

    def listed(filters: Filters) -> set[str]:
        console.readings.forget("temporal:")
        return {one.id for one in workflow_executions.page(console, SYSTEM, filters).rows}

    poll(lambda: listed(Filters(type="Gate")) == set(begun))
    poll(lambda: listed(gates) == {"pending-3"}, 15)
    waits = ["pending-0", "pending-2"]
    others = [(f"other-{number}", "run", "Other", timedelta(hours=1)) for number in range(PLACES_MOST + 20)]
    ours = [(name, begun[name], "Gate", timedelta()) for name in waits]
    with console.database.session() as session:
        session.execute(
            insert(WorkflowSlot),
            [
                {"workflow_id": name, "run_id": run, "type": kind, "state": "waiting", "asked_at": utcnow() - ago}
                for name, run, kind, ago in [*others, *ours]
            ],
        )
        session.execute(
            insert(WorkflowSlot).values(
                workflow_id="pending-1", run_id=begun["pending-1"], type="Gate", state="running", seen_at=utcnow()
            )
        )
    wanted = {*waits, "pending-3"}
    assert listed(gates) == wanted
    assert workflow_executions.count(console, SYSTEM, gates) == len(wanted)
    assert not workflow_executions.cut(console, gates)
    seen = workflow_batch.preview(console, SYSTEM, gates, "terminate")
    assert ({one.id for one in seen.rows}, seen.total, seen.cut) == (wanted, 3, False)

    counted = workflow_types.counted(console, None, wait=9).value
    assert counted is not None and counted.places_known
    row = next(one for one in workflow_types.rows(counted, None) if one.type == "Gate")
    assert (row.counts.total, row.counts.running, row.pending) == (4, 4, 3)

    # Of all types together more wait than a query can name: the list and the batch say so.
    everybody = Filters(status="Pending")
    assert "pending-3" in listed(everybody)
    assert workflow_executions.cut(console, everybody)
    assert workflow_batch.preview(console, SYSTEM, everybody, "terminate").cut
    assert not workflow_executions.cut(console, Filters(type="Gate"))


def test_the_columns_add_up() -> None:
    counts = TypeCounts(running=1, completed=2, failed=3, timed_out=4, canceled=5, terminated=6, continued=7)
    html = workflows._row(Row("A", False, counts, 0, None), 24, payloads=True)
    cells = [re.sub("<.*?>", "", cell) for cell in re.findall(r"<td.*?</td>", html)]
    named = dict(zip([name for name, _, _ in workflows.COLUMNS], cells, strict=True))
    parts = ("Running", "Completed", "Failed", "Timed out", "Canceled", "Terminated", "Continued")
    assert sum(int(named[part]) for part in parts) == int(named["Count"]) == 28
