"""Calls that reach each service in a minute, with one and with fifty people looking: they must be equal."""

from __future__ import annotations

import asyncio
import time

from benchmarks.console import Console
from benchmarks.table import Row
from benchmarks.visitor import Visitor

LOOK_SECONDS = 60.0
EVERY_SECONDS = 5.0


async def _look(console: Console, cookie: str, people: int, pages: list[str]) -> dict[str, int]:
    """Requests per service through the fault proxy while ``people`` keep looking for a minute."""
    end = time.monotonic() + LOOK_SECONDS

    async def one(number: int) -> None:
        await asyncio.sleep(EVERY_SECONDS * number / people)
        async with Visitor(console.url, cookie) as person:
            while time.monotonic() < end:
                await person.run(pages[0])
                await asyncio.sleep(EVERY_SECONDS)

    before = console.control("GET", "/traffic").json()
    await asyncio.gather(*(one(number) for number in range(people)))
    after = console.control("GET", "/traffic").json()
    return {slug: after[slug]["requests"] - before[slug]["requests"] for slug in after}


async def compare(console: Console, cookie: str, pages: list[str]) -> list[Row]:
    """One row per service: requests in a minute with 1 and with 50 people on the overview."""
    alone = await _look(console, cookie, 1, pages)
    crowd = await _look(console, cookie, 50, pages)
    rows = []
    for slug, one in alone.items():
        fifty = crowd[slug]
        # A tick of the sampler more or less falls into either minute.
        equal = abs(fifty - one) <= max(2, round(one / 5))
        rows.append(Row(slug, f"{one:>6} with 1   {fifty:>6} with 50", "equal", equal))
    return rows
