"""How long a person at a real browser waits: the cold overview, and every page switch; also with a service hanging."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page

from benchmarks.console import Console, settle
from benchmarks.table import Row, milliseconds, quantile
from tests.browser.browser import executable, launched

COLD_OPENS = 5
SWITCHES = 2
FIRST, LIVE = ".ph-card", "#root .ph-card"
"""A card as the server tells it at once, and the one the page's scripts draw in its place."""


@contextmanager
def _signed_in(browser: Browser, console: Console, cookie: str) -> Iterator[Page]:
    """A fresh context: nothing cached, one cookie."""
    name, value = cookie.split("=", 1)
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.add_cookies([{"name": name, "value": value, "url": console.url}])
    try:
        yield context.new_page()
    finally:
        context.close()


def _cold(browser: Browser, console: Console, cookie: str) -> tuple[list[float], list[float]]:
    """Seconds to the first card, and until the page's scripts have drawn it."""
    first, live = [], []
    for _ in range(COLD_OPENS):
        with _signed_in(browser, console, cookie) as page:
            start = time.perf_counter()
            page.goto(f"{console.url}/", wait_until="commit")
            page.locator(FIRST).first.wait_for()
            first.append(time.perf_counter() - start)
            page.locator(LIVE).first.wait_for()
            live.append(time.perf_counter() - start)
    return first, live


def _switch(browser: Browser, console: Console, cookie: str) -> list[float]:
    """Clicks on every page in the navigation, each timed until that page's own title stands there."""
    waits: list[float] = []
    with _signed_in(browser, console, cookie) as page:
        page.goto(f"{console.url}/")
        page.locator(LIVE).first.wait_for()
        links = page.locator('[data-testid="stSidebarNavLink"]')
        for turn in range(SWITCHES + 1):
            for index in range(links.count()):
                link = links.nth(index)
                name = link.inner_text().strip().splitlines()[-1]
                start = time.perf_counter()
                link.click()
                page.locator("#root .ph-crumb b", has_text=name).wait_for()
                page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
                if turn:  # the first turn downloads what each page needs, once per browser
                    waits.append(time.perf_counter() - start)
    return waits


def rows(console: Console) -> list[Row]:
    """Cold overview and page switches, with all services well and with one hanging."""
    cookie = console.sign_in()
    found: list[Row] = []
    with launched(executable()) as browser:
        _cold(browser, console, cookie)
        for situation, broken in (("all well", None), ("SomaBrain hanging", "hang")):
            console.fault("somabrain", broken)
            settle(12 if broken else 0)
            cold, live = _cold(browser, console, cookie)
            worst = max(cold)
            found.append(
                Row(
                    f"cold overview to the first card, {situation}",
                    f"median {milliseconds(quantile(cold, 0.5))}, worst {milliseconds(worst)}",
                    "< 1.5 s",
                    worst < 1.5,
                )
            )
            figure = f"median {milliseconds(quantile(live, 0.5))}, worst {milliseconds(max(live))}"
            found.append(Row("the same: until it redraws itself", figure))
            switches = _switch(browser, console, cookie)
            p95 = quantile(switches, 0.95)
            found.append(
                Row(
                    f"page switch, {situation}",
                    f"p50 {milliseconds(quantile(switches, 0.5))}, p95 {milliseconds(p95)} of {len(switches)}",
                    "p95 < 300 ms",
                    p95 < 0.3,
                )
            )
        console.fault("somabrain", None)
    return found
