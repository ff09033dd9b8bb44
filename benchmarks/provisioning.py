"""Making 100 tenants with one worker and with two: the product's own workers, on engines and stand-ins."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

from temporalio.client import Client

from benchmarks.table import Row
from operations import database
from operations.platform import Platform
from operations.settings import Settings
from operations.tenant_systems import SYSTEMS
from operations.workflow_catalogue import PROVISIONING, TASK_QUEUE, ProvisioningInput
from sandbox.assembled import assembled
from sandbox.processes import kill, spawn

TENANTS = 100
ROOT = Path(__file__).resolve().parent.parent
SECONDS = 300


def run() -> list[Row]:
    """Wall time of each, and how much faster two are."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        os.environ["PILOTHOUSE_CONFIG"] = str(stack.enter_context(assembled(folder)))
        platform = Platform(Settings())
        stack.callback(platform.close)
        database.migrate(platform.settings.database_url.get_secret_value())
        one, used_one = _measure(platform, folder, workers=1)
        two, used_two = _measure(platform, folder, workers=2)
        whole = sum(SYSTEMS["lago"].present(platform, f"with-{n}-{i}") for n in (1, 2) for i in range(TENANTS))
    return [
        Row(f"{TENANTS} tenants with 1 worker", f"{one:.1f} s, {TENANTS / one:.1f} a second"),
        Row(f"{TENANTS} tenants with 2 workers", f"{two:.1f} s, {TENANTS / two:.1f} a second"),
        Row("Two workers against one", f"{one / two:.2f} times as fast"),
        Row("CPU of the workers, one and two", f"{used_one:.1f} s and {used_two:.1f} s of {os.cpu_count()} cores"),
        Row("Made whole", f"{whole} of {2 * TENANTS}", "all", whole == 2 * TENANTS),
    ]


def _measure(platform: Platform, folder: Path, *, workers: int) -> tuple[float, float]:
    """Wall time, and CPU time of all workers, of the tenants."""
    with _at_work(folder, workers) as running:
        return asyncio.run(_make(platform, workers, running))


def _cpu(running: list[int]) -> float:
    """CPU seconds the processes have used."""
    ticks = 0
    for one in running:
        fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def _at_work(folder: Path, workers: int) -> Iterator[list[int]]:
    command = [sys.executable, "-m", "workflows"]
    running = [spawn(command, log=folder / f"worker-{workers}-{n}.log", cwd=ROOT) for n in range(workers)]
    try:
        yield [one.pid for one in running]
    finally:
        for one in running:
            kill(one)


async def _make(platform: Platform, workers: int, running: list[int]) -> tuple[float, float]:
    client = await Client.connect(platform.settings.temporal_address)

    async def make(number: int | str) -> None:
        name = f"with-{workers}-{number}"
        given = ProvisioningInput(name, name, "team", f"boss@{name}.example")
        handle = await client.start_workflow(
            PROVISIONING, given, id=f"{PROVISIONING}/{name}", task_queue=TASK_QUEUE, task_timeout=timedelta(seconds=10)
        )
        await asyncio.wait_for(handle.result(), SECONDS)

    # The workers are warm, all of them, before the clock starts.
    await asyncio.gather(*(make(f"warm-{n}") for n in range(4 * workers)))
    used, start = _cpu(running), time.perf_counter()
    await asyncio.gather(*(make(number) for number in range(TENANTS)))
    return time.perf_counter() - start, _cpu(running) - used
