"""One event loop in a daemon thread, for the clients that are asyncio only (Temporal, MCP)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import TimeoutError as FutureTimeout
from functools import cache
from typing import Any, TypeVar

from adapters.core.deadline import remaining
from adapters.core.errors import TimedOut

T = TypeVar("T")


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="adapter-loop", daemon=True).start()
    return loop


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` on the shared loop and wait for it, within the present deadline.

    Raises TimedOut, with the work cancelled, when the deadline passes.
    """
    seconds = remaining()
    future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, seconds), _loop())
    try:
        return future.result(seconds + 0.25)
    except (TimeoutError, FutureTimeout) as error:
        future.cancel()
        raise TimedOut("The service did not answer in time.", detail=repr(error)) from error
