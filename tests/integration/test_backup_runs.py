"""A backup whose run does not come to its end: its row says so, whatever ended the run."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.worker import Replayer, Worker

from adapters.core import utcnow
from operations import backups, maintenance, stopping, workflow_settings
from operations.access import SYSTEM
from operations.backups import BackupRow
from operations.platform import Platform
from operations.workflow_catalogue import BACKUP, MAINTENANCE, MaintenanceInput
from workflows import maintenance as own
from workflows.interceptor import SettingsInterceptor

pytestmark = pytest.mark.engines


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Counting, in ``make`` and in ``prove``, begins and does not end by itself."""
    event = threading.Event()

    def counted(_: Any) -> Any:
        event.set()
        while True:
            stopping.check()
            time.sleep(0.05)
            yield from ()

    monkeypatch.setattr(backups, "_counts", counted)
    return event


async def ended(
    platform: Platform, address: str, begun: threading.Event, end: Callable[[WorkflowHandle[Any, Any]], Any]
) -> str:
    """Why a backup's run ended that ``end`` was done to; its history replays."""
    client, queue = await Client.connect(address), f"backup-{uuid.uuid4().hex[:8]}"
    interceptor = SettingsInterceptor(platform)
    async with Worker(
        client, task_queue=queue, workflows=own.WORKFLOWS, interceptors=[interceptor],
        activities=[*own.activities(platform), *interceptor.activities],
    ):  # fmt: skip
        handle = await client.start_workflow(MAINTENANCE, MaintenanceInput(BACKUP), id=queue, task_queue=queue)
        assert await asyncio.to_thread(begun.wait, 30)
        await end(handle)
        with pytest.raises(WorkflowFailureError) as caught:
            await asyncio.wait_for(handle.result(), 60)
    await Replayer(workflows=own.WORKFLOWS, interceptors=[interceptor]).replay_workflow(await handle.fetch_history())
    return str(caught.value.cause)


def row(platform: Platform) -> BackupRow:
    return backups.listing(platform, SYSTEM)[0]


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancel reaches the activity with its next heartbeat: they are less rare here."""
    monkeypatch.setattr(own, "SILENT", timedelta(seconds=4))


@pytest.mark.usefixtures("soon")
def test_a_canceled_run_says_so_in_the_row(platform: Platform, temporal_address: str, begun: threading.Event) -> None:
    asyncio.run(ended(platform, temporal_address, begun, lambda handle: handle.cancel()))
    assert (row(platform).status, row(platform).error) == ("failed", "Its run was canceled, or out of time.")


@pytest.mark.usefixtures("soon")
def test_a_backup_that_takes_longer_than_its_run_may_says_so_in_the_row(
    platform: Platform, temporal_address: str, begun: threading.Event
) -> None:
    version = workflow_settings.get(platform, SYSTEM, MAINTENANCE).version
    edit = workflow_settings.Edit(MAINTENANCE, {"timeout_seconds": 3}, version)
    workflow_settings.save(platform, SYSTEM, [edit], reason="for the test")

    async def nothing(_: Any) -> None:
        return

    said = asyncio.run(ended(platform, temporal_address, begun, nothing))
    assert "timeout of 3 s" in said
    assert (row(platform).status, row(platform).error) == ("failed", "Its run was canceled, or out of time.")


def test_a_terminated_run_is_noticed_by_the_reconciliation(platform: Platform) -> None:
    limit = workflow_settings.effective(platform, MAINTENANCE).timeout
    assert limit >= timedelta(hours=4)
    late = utcnow() - limit - backups.ENDING
    for name, status, at in (
        ("a", "running", late), ("b", "stored", late), ("c", "proved", late), ("d", "running", late + backups.ENDING),
    ):  # fmt: skip
        backups._note(platform, name, status=status, started_at=at - timedelta(seconds=5))
    assert maintenance.reconcile(platform)["backups_abandoned"] == 2
    found = {one.id: one.status for one in backups.listing(platform, SYSTEM)}
    assert found == {"a": "failed", "b": "failed", "c": "proved", "d": "running"}
