"""What the interceptor asks of the worker: a run's settings and its place; and keeping places honest.

All of it happens outside the workflow, in local activities: one entry in the history each, no task queue in between.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from temporalio import activity
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from adapters.core import AdapterError
from operations import workflow_slots
from operations.platform import Platform
from operations.workflow_slots import Place
from workflows.store import Store

log = logging.getLogger(__name__)
T = TypeVar("T")

BEGIN = "pilothouse.begin"
LEAVE = "pilothouse.leave"
ADMITTED = "pilothouse_admitted"
"""The signal that tells a waiting run that it has its place; its argument is the run's original id."""
THREADS = 8
LOOK_SECONDS = 1.0
CALL = timedelta(seconds=10)
"""Of one question to Temporal: a server that hangs must not keep other types' runs from their places."""
TELLING = 20
"""Runs told at once."""


@dataclass
class Asking:
    """A run that begins. ``place`` false: it only wants its settings."""

    type: str
    workflow_id: str
    run_id: str
    asked_at: datetime
    continued: bool = False
    place: bool = True


@dataclass
class Begun:
    """What the run works under, as its history keeps it."""

    timeout_seconds: int
    retry_attempts: int
    backoff_multiplier: float
    max_concurrent: int
    version: int
    default_version: int
    source: str
    admitted: bool


@dataclass
class Leaving:
    """A run that ends."""

    type: str
    workflow_id: str
    run_id: str


class Places:
    """The local activities, bound to one platform."""

    def __init__(self, platform: Platform, store: Store) -> None:
        self._platform, self._store = platform, store
        # Of their own: activities that hang on a slow service must not keep runs from beginning.
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="places")

    @property
    def activities(self) -> list[Callable[..., Any]]:
        """To be registered with every worker that has the interceptor."""
        return [self.begin, self.leave]

    @activity.defn(name=BEGIN)
    async def begin(self, asking: Asking) -> Begun:
        """The settings in force, and a place if one is free."""
        place = Place(asking.type, asking.workflow_id, asking.run_id)

        def work() -> tuple[Begun, tuple[Place, ...]]:
            settings, source = self._store.effective(asking.type)
            answer = workflow_slots.Answer(True)
            if asking.place:
                answer = workflow_slots.ask(self._platform, place, asking.asked_at, continued=asking.continued)
            begun = Begun(
                **settings.values(), version=settings.version, default_version=settings.default_version,
                source=source, admitted=answer.admitted,
            )  # fmt: skip
            return begun, answer.others

        begun, others = await self._whole(work)
        await self.tell(activity.client(), others)
        return begun

    @activity.defn(name=LEAVE)
    async def leave(self, leaving: Leaving) -> None:
        """Give the place back, to the next in the queue."""
        place = Place(leaving.type, leaving.workflow_id, leaving.run_id)
        others = await self._whole(lambda: workflow_slots.leave(self._platform, place))
        await self.tell(activity.client(), others)

    async def tell(self, client: Client, places: Iterable[Place]) -> None:
        """Tell runs that they have their place. One that cannot be told now is told by the next look."""
        room = asyncio.Semaphore(TELLING)

        async def one(place: Place) -> Place | None:
            async with room:
                try:
                    await client.get_workflow_handle(place.workflow_id).signal(ADMITTED, place.run_id, rpc_timeout=CALL)
                except RPCError as error:
                    if error.status is not RPCStatusCode.NOT_FOUND:
                        log.warning("%s could not be told that it has its place: %s", place.workflow_id, error)
                        return None
                    # It ended while it waited. Its place goes to the next.
                    others = await self._whole(lambda: workflow_slots.leave(self._platform, place))
                    await self.tell(client, others)
                    return None
                return place

        done = [place for place in await asyncio.gather(*map(one, places)) if place is not None]
        if done:
            await self._whole(lambda: workflow_slots.told(self._platform, done))

    async def look(self, client: Client) -> None:
        """Give what is free, and look after runs that may have ended without a word. Raises StoreUnavailable."""
        await self.tell(client, await self._whole(lambda: workflow_slots.admit(self._platform)))
        for place in await self._whole(lambda: workflow_slots.due(self._platform)):
            if await self._ended(client, place):
                log.info("the place of %s is free: its run has ended", place.workflow_id)
                others = await self._whole(lambda place=place: workflow_slots.leave(self._platform, place))  # type: ignore[misc]
                await self.tell(client, others)

    async def _ended(self, client: Client, place: Place) -> bool:
        try:
            now = await client.get_workflow_handle(place.workflow_id).describe(rpc_timeout=CALL)
            if now.close_time is not None:
                return True
            if now.run_id == place.run_id:
                return False
            # Another run of the same workflow: the same one after a reset, its continuation, or a stranger.
            handle = client.get_workflow_handle(place.workflow_id, run_id=now.run_id)
            first = handle.fetch_history_events(page_size=1, rpc_timeout=CALL)
            async for event in first:
                begun = event.workflow_execution_started_event_attributes
                return place.run_id != begun.original_execution_run_id and not begun.continued_execution_run_id
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return True
            log.warning("whether %s still runs is not known: %s", place.workflow_id, error)
        return False

    async def watch(self, client: Client, wake: asyncio.Event) -> None:
        """Look every second, and at once when ``wake`` is set, until canceled."""
        while True:
            try:
                await self.look(client)
            except AdapterError as error:
                log.warning("places wait: %s", error)
            except Exception:
                log.exception("looking after places failed; it goes on")
            try:
                await asyncio.wait_for(wake.wait(), LOOK_SECONDS)
            except TimeoutError:
                continue
            wake.clear()

    async def _whole(self, work: Callable[[], T]) -> T:
        """Do ``work`` in a thread, to its end even when canceled meanwhile: a row half asked for would be nobody's."""
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait({running})
            raise

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False)
