"""Chromium for the tests: the one named, the one installed, or one we install."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from playwright.sync_api import Browser, Error, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
    "--disable-gpu",
    "--disable-default-apps",
)
INSTALL_SECONDS = 300


@cache
def executable() -> str | None:
    """Path of a Chromium, installed if there is none; None means Playwright's own.

    Raises RuntimeError with what was tried when there is no way to get one.
    """
    named = os.environ.get("CHROMIUM")
    if named:
        return named
    for name in NAMES:
        found = shutil.which(name)
        if found:
            return found
    if _run(sys.executable, "-m", "playwright", "install", "chromium") and _starts(None):
        return None
    if os.geteuid() == 0 and shutil.which("apt-get"):
        _run("apt-get", "update")
        _run("apt-get", "install", "--yes", "--no-install-recommends", "chromium")
        found = shutil.which("chromium")
        if found:
            return found
    raise RuntimeError(
        "The browser tests need Chromium: none is installed, Playwright could not download one and the "
        "distribution's package could not be installed. Install one and name it in CHROMIUM."
    )


def _run(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=INSTALL_SECONDS, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _starts(path: str | None) -> bool:
    try:
        with launched(path):
            return True
    except Error:
        return False


@contextmanager
def launched(path: str | None) -> Iterator[Browser]:
    """A headless browser that calls nobody by itself."""
    arguments = [*QUIET, *(("--no-sandbox",) if os.geteuid() == 0 else ())]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


SHOTS = Path(__file__).parent / "shots"
