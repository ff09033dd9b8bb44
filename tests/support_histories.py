"""Recording runs that tests replay: a platform of its own, a worker with the settings' interceptor, and the files."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType

from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.worker import Worker

from operations import database
from operations.platform import Platform
from operations.settings import Settings
from sandbox.assembled import assembled
from tests.support import ROOT
from workflows.interceptor import SettingsInterceptor

FOLDER = ROOT / "tests" / "histories"
QUEUE = "pilothouse"


@asynccontextmanager
async def at_work(platform: Platform, module: ModuleType) -> AsyncIterator[Client]:
    """A client, while a worker of one module's workflows works."""
    client = await Client.connect(platform.settings.temporal_address, identity="console")
    interceptor = SettingsInterceptor(platform)
    async with Worker(
        client, task_queue=QUEUE, workflows=module.WORKFLOWS,
        activities=[*module.activities(platform), *interceptor.activities], interceptors=[interceptor],
        identity="worker",
    ):  # fmt: skip
        yield client


async def keep(handle: WorkflowHandle, name: str) -> None:
    """Wait for the end of a run, and write its history."""
    try:
        await handle.result()
    except WorkflowFailureError as error:
        print(f"{name}: {error.cause}", file=sys.stderr)
    document = (await handle.fetch_history()).to_json()
    document = re.sub(r'"stackTrace": "(?:[^"\\]|\\.)*"', '"stackTrace": ""', document)  # it names this machine's paths
    (FOLDER / f"{name}.json").write_text(document + "\n", encoding="utf-8")


def recorded(record: Callable[[Platform], Awaitable[None]], prepare: Callable[[Platform], None] | None = None) -> None:
    """Assemble a platform, record, take everything down."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        with assembled(folder) as path:
            os.environ["PILOTHOUSE_CONFIG"] = str(path)
            platform = Platform(Settings())
            database.migrate(platform.settings.database_url.get_secret_value())
            if prepare is not None:
                prepare(platform)

            async def run() -> None:
                await record(platform)

            asyncio.run(run())
            platform.close()
