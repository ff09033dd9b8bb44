"""Blocking work inside an activity: bounded so that none of it happens after the server has given the attempt up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from temporalio import activity

from adapters.core import deadline
from adapters.core.deadline import remaining
from operations.stopping import Stop, check, heeding

T = TypeVar("T")
MARGIN_SECONDS = 2.0
"""How long before its start-to-close timeout an attempt gives up by itself."""
BEAT_SECONDS = 2.0


async def in_thread(work: Callable[[], T], done: Callable[[], object] | None = None) -> T:
    """Do ``work`` in a thread and return its result, within the attempt's own time.

    Its calls to services end before the attempt's timeout, so that a later attempt, or an undo, never meets an
    earlier one still at work. When the activity is canceled or the worker stops, the work is told so
    (``operations.stopping``) and ends at its next look. A thread cannot be stopped otherwise: what is under way ends
    first, for the same reason. Where the activity has a heartbeat timeout it beats, telling ``done()``.
    """
    info = activity.info()
    timeout = info.start_to_close_timeout
    seconds = timeout.total_seconds() - MARGIN_SECONDS if timeout else 60.0
    beat = BEAT_SECONDS if info.heartbeat_timeout else None
    canceled: asyncio.CancelledError | None = None
    stop = Stop()
    with deadline(max(0.5, seconds)), heeding(stop):
        running = asyncio.ensure_future(asyncio.to_thread(_in_time, work))
        while not running.done():
            try:
                await asyncio.wait({running}, timeout=beat)
            except asyncio.CancelledError as error:
                canceled = error
                stop.set()
            if beat is not None:
                activity.heartbeat(done() if done else None)
    if canceled is not None and running.exception() is not None:
        raise canceled
    return running.result()


def _in_time(work: Callable[[], T]) -> T:
    remaining()  # threads may be scarce: what got one too late is not begun
    check()
    return work()
