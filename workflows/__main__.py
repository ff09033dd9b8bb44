"""``python -m workflows``: one worker, stopped by SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import sys

from operations import background, logs
from operations.platform import Platform
from operations.settings import SettingsError, load
from workflows import worker


async def _work(platform: Platform) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await worker.run(platform, stop)


def main() -> int:
    """Assemble a platform and work on it; the exit code."""
    logs.configure()
    try:
        settings = load()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 1
    platform = Platform(settings)
    running = background.start(platform)
    try:
        asyncio.run(_work(platform))
    finally:
        running.stop()
        platform.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
