"""A whole sandbox and a browser signed in to it, one of each for all browser tests of a file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from sandbox.processes import free_port
from tests.browser.browser import executable, launched
from tests.support import ROOT

READY = "Pilothouse is ready"
STOP_SECONDS = 20


@dataclass(frozen=True)
class Sandbox:
    """A running sandbox."""

    url: str
    folder: Path

    @property
    def people(self) -> dict[str, dict[str, Any]]:
        """The demo people by user name."""
        return {person["username"]: person for person in json.loads((self.folder / "people.json").read_text())}


@pytest.fixture(scope="module")  # its traffic would keep half a core busy beside all later tests
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """``make run`` on a folder and port of its own."""
    folder, port = tmp_path_factory.mktemp("browser") / "sandbox", free_port()
    environment = {**os.environ, "PORT": str(port), "SANDBOX_DIR": str(folder)}
    command = [sys.executable, "-m", "sandbox", "run"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        lines: list[str] = []
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if line.startswith(READY):
                break
        else:
            raise AssertionError("the sandbox did not start:\n" + "".join(lines))
        yield Sandbox(f"http://127.0.0.1:{port}", folder)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_SECONDS)


@pytest.fixture(scope="module")  # while it is open its event loop runs in this thread, in the way of other tests
def chromium() -> Iterator[Browser]:
    """A headless Chromium."""
    with launched(executable()) as browser:
        yield browser


@dataclass
class Visit:
    """A signed-in tab, and everything it asked for and complained about."""

    page: Page
    context: BrowserContext
    requests: list[str]
    complaints: list[str]

    def open(self, url: str) -> None:
        """Go to an address and wait until the page is drawn."""
        self.page.goto(url)
        self.page.wait_for_selector("#root .ph-crumb", timeout=20_000)
        self.settle()

    def settle(self) -> None:
        """Wait until the script has run and nothing is being replaced."""
        self.page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]', timeout=20_000)


def visit(browser: Browser, *, theme: str = "light", width: int = 1440) -> Visit:
    """A new tab in a context of its own."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, locale="en-GB")
    tab = Visit(context.new_page(), context, [], [])
    tab.page.set_default_timeout(15_000)
    tab.page.on("request", lambda request: tab.requests.append(request.url))
    tab.page.on("websocket", lambda socket: tab.requests.append(socket.url))
    # Streamlit asks for its own health below the page's path first; the 404 to that is no complaint.
    tab.page.on(
        "console",
        lambda message: (
            tab.complaints.append(message.text) if message.type == "error" and "404" not in message.text else None
        ),
    )
    tab.page.on("pageerror", lambda error: tab.complaints.append(str(error)))
    return tab


def sign_in(tab: Visit, sandbox: Sandbox, name: str, path: str = "/") -> None:
    """Open a page signed out, and come to it through Keycloak."""
    tab.page.goto(sandbox.url + path)
    tab.page.get_by_role("link", name="Sign in").click()
    tab.page.fill("#username", name)
    tab.page.fill("#password", sandbox.people[name]["password"])
    tab.page.click("#kc-login")
    tab.page.wait_for_selector("#root .ph-crumb", timeout=20_000)
    tab.settle()
