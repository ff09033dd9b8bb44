"""A worker told to stop in the middle of a backup ends within seconds, and the next one makes the backup whole."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from temporalio.client import Client, WorkflowHandle

from operations import backups
from operations.access import SYSTEM
from operations.platform import Platform
from operations.workflow_catalogue import BACKUP, MAINTENANCE, TASK_QUEUE, Maintained, MaintenanceInput
from sandbox.engines import postgres_tools
from tests.support import ROOT, poll

pytestmark = pytest.mark.engines

SLOW = """#!/bin/sh
# The first dump begins and never ends; every other one is as always.
case "$*" in *--version*) exec {real} "$@";; esac
if mkdir {mark} 2>/dev/null; then printf PGDMP; echo $$ > {mark}/pid; exec sleep 600; fi
exec {real} "$@"
"""


@contextmanager
def worker() -> Iterator[subprocess.Popen[bytes]]:
    """The product's own, in a process of its own."""
    process = subprocess.Popen([sys.executable, "-m", "workflows"], cwd=ROOT, env=dict(os.environ))
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_worker_told_to_stop_during_a_dump_ends_and_the_next_makes_the_backup_whole(
    platform: Platform, temporal_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools, mark = tmp_path / "tools", tmp_path / "begun"
    tools.mkdir()
    (tools / "pg_restore").symlink_to(postgres_tools() / "pg_restore")
    (tools / "pg_dump").write_text(SLOW.format(real=postgres_tools() / "pg_dump", mark=mark))
    (tools / "pg_dump").chmod(0o755)
    monkeypatch.setenv("PILOTHOUSE_POSTGRESQL_TOOLS", str(tools))

    async def begin() -> None:
        client = await Client.connect(temporal_address)
        await client.start_workflow(MAINTENANCE, MaintenanceInput(BACKUP), id=name, task_queue=TASK_QUEUE)

    async def end() -> Maintained:
        client = await Client.connect(temporal_address)
        handle: WorkflowHandle[object, Maintained] = client.get_workflow_handle(name, result_type=Maintained)
        return await asyncio.wait_for(handle.result(), 90)

    name = f"stopped-{uuid.uuid4().hex[:8]}"
    asyncio.run(begin())
    with worker() as first:
        pid = int(poll(lambda: (mark / "pid").exists() and (mark / "pid").read_text().strip(), 60))
        began = time.monotonic()
        first.send_signal(signal.SIGTERM)
        assert first.wait(20) == 0
        assert time.monotonic() - began < 15
        assert not alive(pid)
    row = backups.listing(platform, SYSTEM)[0]
    assert (row.status, row.error) == ("running", None)
    with worker():
        done = asyncio.run(end())
    rows = backups.listing(platform, SYSTEM)
    assert [(row.status, row.size_bytes) for row in rows] == [("proved", done.counts["bytes"])]
