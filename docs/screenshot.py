"""Makes the README's picture: ``python -m docs.screenshot [SANDBOX_DIR]``.

Takes it of the sandbox that runs on that folder; without one it starts a sandbox of its own and stops it. One
service is made to hang meanwhile, so that there is something to see.
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
BROKEN, TITLE, FAULT = "somabrain", "SomaBrain", "hang"
WIDTH, HEIGHT = 1440, 1020
NOTICED_MS = 60_000
SETTLED_MS = 12_000
"""Until the latency of a busy start has left the numbers: two visits of the sampler."""
MOST_BYTES = 400_000


def sign_in(page: Page, url: str, name: str, password: str) -> None:
    """Sign in and wait for the overview."""
    page.goto(url)
    page.get_by_role("link", name="Sign in").click()
    page.fill("#username", name)
    page.fill("#password", password)
    page.click("#kc-login")
    page.wait_for_selector("#root .ph-card")


def take(page: Page, folder: Path) -> None:
    """Break the service of the sandbox in ``folder``, take the picture once it stands first, and mend it."""
    endpoints = json.loads((folder / "endpoints.json").read_text(encoding="utf-8"))
    token = json.loads((folder / "plan.faults.json").read_text(encoding="utf-8"))["token"]
    ada = json.loads((folder / "people.json").read_text(encoding="utf-8"))[0]
    sign_in(page, endpoints["console"], ada["username"], ada["password"])
    page.wait_for_timeout(SETTLED_MS)
    with httpx.Client(base_url=endpoints["control"], headers={"Authorization": f"Bearer {token}"}) as control:
        control.put(f"/faults/{BROKEN}", json={"fault": FAULT}).raise_for_status()
        try:
            first = page.locator("#root .ph-card").first.filter(has_text=TITLE)
            first.get_by_text("No answer", exact=True).wait_for(timeout=NOTICED_MS)
            page.mouse.move(WIDTH - 4, HEIGHT - 4)
            page.wait_for_timeout(SETTLED_MS)
            page.screenshot(path=TARGET)
        finally:
            control.put(f"/faults/{BROKEN}", json={"fault": None}).raise_for_status()


def main(arguments: list[str]) -> None:
    """Take the picture."""
    with launched(executable()) as browser:
        context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="dark", locale="en-GB")
        page = context.new_page()
        if arguments:
            take(page, Path(arguments[0]))
        else:
            with Console() as console:
                take(page, console.folder)
    size = TARGET.stat().st_size
    if size > MOST_BYTES:
        raise SystemExit(f"{TARGET} has {size:,} bytes, more than {MOST_BYTES:,}.")


if __name__ == "__main__":
    main(sys.argv[1:])
