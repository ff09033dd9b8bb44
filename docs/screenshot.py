"""Makes the README's picture: ``python -m docs.screenshot [url user password]``.

Without arguments it starts a sandbox of its own, breaks one service so that there is something to see, and stops it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import httpx
from playwright.sync_api import Page

from benchmarks.console import Console
from tests.browser.browser import executable, launched

TARGET = Path(__file__).parent / "overview.png"
BROKEN, FAULT = "qdrant", "refuse"
SETTLE_MS = 15_000


def take(page: Page, url: str, name: str, password: str) -> None:
    """Sign in and take the picture of the overview."""
    page.goto(url)
    page.get_by_role("link", name="Sign in").click()
    page.fill("#username", name)
    page.fill("#password", password)
    page.click("#kc-login")
    page.wait_for_selector(".ph-card")
    page.get_by_text("Down", exact=True).first.wait_for(timeout=60_000)
    page.wait_for_timeout(SETTLE_MS)
    page.screenshot(path=TARGET)


def main(arguments: list[str]) -> None:
    """Take the picture."""
    with launched(executable()) as browser:
        page = browser.new_page(viewport={"width": 1440, "height": 900}, color_scheme="light", locale="en-GB")
        if arguments:
            take(page, *arguments)
            return
        with Console() as console:
            control = json.loads((console.folder / "endpoints.json").read_text())["control"]
            token = json.loads((console.folder / "plan.faults.json").read_text())["token"]
            httpx.put(
                f"{control}/faults/{BROKEN}", json={"fault": FAULT}, headers={"Authorization": f"Bearer {token}"}
            ).raise_for_status()
            ada = json.loads((console.folder / "people.json").read_text())[0]
            take(page, console.url, ada["username"], ada["password"])


if __name__ == "__main__":
    main(sys.argv[1:])
