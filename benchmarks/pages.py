"""What pages cost the server, and how long people wait, beside plain Streamlit and an empty page."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import httpx

from benchmarks.console import ROOT, Console, free_port, settle
from benchmarks.table import Row, emit, milliseconds, quantile
from benchmarks.visitor import Visitor

RERUNS = 20
THINK_SECONDS = 3.0
PEOPLE = (1, 10, 50)


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds each person waited to open the console, and to switch to another page."""

    opens: list[float]
    switches: list[float]


def page_paths() -> list[str]:
    """URL paths of every page, the overview first."""
    from pages.widgets.page import all_pages
    from pages.widgets.shell import HOME

    return ["" if slug == HOME else page.url for slug, page in all_pages().items()]


async def rerun_cost(console: Console, cookie: str, paths: list[str]) -> list[Row]:
    """CPU of the server process and median time per rerun of each page, background work subtracted."""
    start_cpu, start = console.cpu_seconds(), time.monotonic()
    settle(6)
    idle = (console.cpu_seconds() - start_cpu) / (time.monotonic() - start)
    rows = []
    for path in paths:
        async with Visitor(console.url, cookie) as person:
            for _ in range(3):
                await person.run(path)
            cpu, begun = console.cpu_seconds(), time.monotonic()
            waits = [(await person.run(path)).seconds for _ in range(RERUNS)]
            spent = console.cpu_seconds() - cpu - idle * (time.monotonic() - begun)
        each = max(0.0, spent) / RERUNS
        figure = f"{each * 1000:5.1f} ms CPU   {quantile(waits, 0.5) * 1000:6.1f} ms"
        rows.append(Row(f"/{path}", figure, "CPU < 25 ms", each < 0.025))
    return rows


async def crowd(url: str, people: int, pages: tuple[str, str], *, cookie: str = "", sid: str = "") -> Waits:
    """``people`` open the first page within the think time, think, and switch to the second."""
    headers = {"x-pilothouse-session": sid} if sid else {}
    opens: list[float] = []
    switches: list[float] = []

    async def one(number: int) -> None:
        await asyncio.sleep(THINK_SECONDS * number / people)
        begun = time.perf_counter()
        async with Visitor(url, cookie, headers) as person:
            await person.run(pages[0])
            opens.append(time.perf_counter() - begun)
            for page in (pages[1], pages[0], pages[1]):
                await asyncio.sleep(THINK_SECONDS)
                switches.append((await person.run(page)).seconds)

    await asyncio.gather(*(one(number) for number in range(people)))
    return Waits(opens, switches)


@contextlib.contextmanager
def _served(command: list[str], port: int, environment: dict[str, str], *, tuned: bool) -> Iterator[str]:
    """A server of our script; ``tuned`` by our configuration, which Streamlit reads from the working directory."""
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as elsewhere:
        process = subprocess.Popen(
            command,
            cwd=ROOT if tuned else elsewhere,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            end = time.monotonic() + 60
            while time.monotonic() < end:
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(f"{url}/_stcore/health").status_code == 200:
                        break
                time.sleep(0.1)
            else:
                raise RuntimeError(f"{command} did not start")
            yield url
        finally:
            process.terminate()
            process.wait(15)


@contextlib.asynccontextmanager
async def plain_streamlit(console: Console) -> AsyncIterator[str]:
    """The same script on the same platform under ``streamlit run`` with its defaults."""
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "benchmarks" / "plain.py")]
    command += ["--server.port", str(port), "--server.address", "127.0.0.1", "--server.headless", "true"]
    environment = {
        "PILOTHOUSE_CONFIG": str(console.folder / "pilothouse.toml"),
        "STREAMLIT_SERVER_TRUSTED_USER_HEADERS": '{"x-pilothouse-session": "sid"}',
        "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
    }
    with _served(command, port, environment, tuned=False) as url:
        yield url


@contextlib.asynccontextmanager
async def empty_shell(console: Console) -> AsyncIterator[str]:
    """Our server, middleware and navigation around a page without content, on the same platform."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "benchmarks.empty_app:app", "--app-dir", str(ROOT)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--no-access-log", "--ws", "websockets-sansio"]
    environment = {
        "PILOTHOUSE_CONFIG": str(console.folder / "pilothouse.toml"),
        "PILOTHOUSE_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "WEBSOCKETS_MAX_LINE_LENGTH": "65536",
    }
    with _served(command, port, environment, tuned=True) as url:
        yield url


async def waiting(console: Console, cookie: str, paths: list[str]) -> None:
    """Print open and switch times for 1, 10 and 50 people: ours, an empty page in our shell, plain Streamlit."""
    sid = cookie.split("=", 1)[1]
    busy = (paths[0], paths[3])
    ours: dict[int, Waits] = {}
    for people in PEOPLE:
        ours[people] = await crowd(console.url, people, busy, cookie=cookie)
        _compare(people, "the console", ours[people], aim=people == 50)
    async with empty_shell(console) as url:
        await crowd(url, 1, ("empty", "empty"), cookie=cookie)
        for people in PEOPLE:
            _compare(people, "an empty page, our shell", await crowd(url, people, ("empty", "empty"), cookie=cookie))
    async with plain_streamlit(console) as url:
        await crowd(url, 1, busy, sid=sid)
        for people in PEOPLE:
            plain = await crowd(url, people, busy, sid=sid)
            _compare(people, "plain streamlit run", plain)
            if people == 50:
                ratio = quantile(plain.opens, 0.5) / quantile(ours[people].opens, 0.5)
                emit(Row("50 people open: plain / ours, median", f"{ratio:.1f}x", "≥ 20x", ratio >= 20))


def _compare(people: int, which: str, waits: Waits, *, aim: bool = False) -> None:
    for name, values in (("open", waits.opens), ("switch", waits.switches)):
        p95 = quantile(values, 0.95)
        figure = f"p50 {milliseconds(quantile(values, 0.5))}   p95 {milliseconds(p95)}"
        met = p95 < 0.15 if aim else None
        emit(Row(f"{people:>2} people {name:<6} {which}", figure, "p95 < 150 ms" if aim else "", met))
