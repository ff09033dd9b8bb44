"""The Temporal page with 100,000 executions of 30 types: first content when cold, CPU per rerun when warm."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from playwright.async_api import Page, async_playwright

from benchmarks import crowd
from benchmarks.console import ROOT, Console, free_port, settle
from benchmarks.table import Row, emit, heading, milliseconds, quantile
from benchmarks.visitor import Visitor
from tests.browser.browser import QUIET, executable

RERUNS = 15
WHOLE_SECONDS = 60.0
TABLE = "ph-types"
FIRST, LIVE = ".ph-banner", "#root .ph-banner"
"""The head as the server tells it at once, and the one the page's scripts draw in its place."""
OWN = ".st-key-wf_bar"
VISITS = 8
SPANS = ("1 h", "24 h", "All kept")


@dataclass(frozen=True, slots=True)
class Served:
    """A console process of its own."""

    url: str
    process: psutil.Process

    def cpu_seconds(self) -> float:
        """CPU time so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextlib.asynccontextmanager
async def _console(console: Console, address: str) -> AsyncIterator[Served]:
    """Another console on the same platform, looking at another Temporal; it has read nothing yet."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "uvicorn", "app:app", "--app-dir", str(ROOT), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--no-access-log", "--ws", "websockets-sansio"]
    environment = {
        **os.environ,
        "PILOTHOUSE_CONFIG": str(console.folder / "pilothouse.toml"),
        "PILOTHOUSE_PUBLIC_URL": url,
        "PILOTHOUSE_TEMPORAL_ADDRESS": address,
        "WEBSOCKETS_MAX_LINE_LENGTH": "65536",
    }
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        async with httpx.AsyncClient() as client:
            for _ in range(600):
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get(f"{url}/_stcore/health")).status_code == 200:
                        break
                await asyncio.sleep(0.1)
        yield Served(url, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(15)


async def measure(console: Console, cookie: str) -> None:
    """Fill a server, then print what its page costs."""
    from pages.widgets.page import all_pages

    page = all_pages()["temporal"].url
    heading(f"The Temporal page with {crowd.EXECUTIONS:,} executions of {crowd.TYPES} types")
    with tempfile.TemporaryDirectory(prefix="pilothouse-crowd-") as folder, crowd.server(Path(folder) / "t") as engine:
        begun = time.monotonic()
        made = await crowd.fill(engine.url)
        emit(Row("executions made", f"{made:,} in {time.monotonic() - begun:.0f} s"))
        settle(5)
        async with _console(console, engine.url) as served:
            await _cold(served, cookie, page)
            await _warm(served, cookie, page)


async def _cold(served: Served, cookie: str, page: str) -> None:
    """Seconds in a browser until the page says how Temporal is, until its scripts do, and until it has what is its own.

    One browser with a profile on disk, as a person's: the first visit finds console and browser cold, the second
    has the scripts, and from the third on the browser keeps them compiled.
    """
    name, value = cookie.split("=", 1)
    begun = 0.0

    async def visit(tab: Page, *selectors: str) -> list[float]:
        nonlocal begun
        begun = time.perf_counter()
        await tab.goto(f"{served.url}/{page}", wait_until="commit")
        waits = []
        for selector in selectors:
            await tab.locator(selector).first.wait_for(timeout=WHOLE_SECONDS * 1000)
            waits.append(time.perf_counter() - begun)
        return waits

    with tempfile.TemporaryDirectory(prefix="pilothouse-profile-") as profile:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch_persistent_context(
                profile, executable_path=executable(), args=["--no-sandbox", *QUIET],
                viewport={"width": 1440, "height": 900},
            )  # fmt: skip
            await browser.add_cookies([{"name": name, "value": value, "url": served.url}])
            tab = await browser.new_page()
            first, live, own, whole = await visit(tab, FIRST, LIVE, OWN, f".{TABLE}")
            later = []
            for _ in range(VISITS):
                await tab.close()
                tab = await browser.new_page()
                later.append(await visit(tab, FIRST, LIVE, OWN))
            await browser.close()
    emit(Row("first content, browser and console cold", milliseconds(first), "< 1 s", first < 1))
    emit(Row("the same: drawn by its scripts", milliseconds(live)))
    emit(Row("the same: its own first facts", milliseconds(own)))
    emit(Row("the same: the table of all types, nothing read before", milliseconds(whole)))
    emit(Row("first content, second visit", milliseconds(later[0][0]), "< 1 s", later[0][0] < 1))
    for at, what in enumerate(("first content", "drawn by its scripts", "its own first facts")):
        waits = [visit[at] for visit in later[1:]]
        median = quantile(waits, 0.5)
        figure = f"median {milliseconds(median)}, worst {milliseconds(max(waits))} of {len(waits)}"
        aim = ("< 1 s", median < 1) if not at else ("", None)
        emit(Row(f"{what}, from the third visit on", figure, *aim))


async def _warm(served: Served, cookie: str, page: str) -> None:
    """CPU and median time per rerun of the Status face, background work subtracted."""
    async with Visitor(served.url, cookie) as person:
        for span in SPANS:
            query = f"wf_span={span.replace(' ', '+')}"
            end = time.monotonic() + WHOLE_SECONDS
            while TABLE not in (await person.run(page, query)).text and time.monotonic() < end:
                await asyncio.sleep(0.2)
            await asyncio.sleep(3)
            start_cpu, start = served.cpu_seconds(), time.monotonic()
            await asyncio.sleep(8)
            idle = (served.cpu_seconds() - start_cpu) / (time.monotonic() - start)
            cpu, begun = served.cpu_seconds(), time.monotonic()
            waits = [(await person.run(page, query)).seconds for _ in range(RERUNS)]
            each = max(0.0, served.cpu_seconds() - cpu - idle * (time.monotonic() - begun)) / RERUNS
            figure = f"{each * 1000:5.1f} ms CPU   {quantile(waits, 0.5) * 1000:6.1f} ms"
            emit(Row(f"Status, started within: {span}", figure, "CPU < 25 ms", each < 0.025))
