"""The console and the worker as processes of their own, with everything they wrote."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from sandbox.processes import free_port
from tests.support import ROOT, poll


def get(url: str, **more: Any) -> httpx.Response:
    """GET of a server without TLS.

    httpx reads all certificates for each client it makes, for nothing: 40 ms of CPU, which a server that starts, and is
    asked every 20 ms whether it lives, needs itself.
    """
    return httpx.get(url, verify=False, **more)


class Process:
    """A process of ours and its log."""

    def __init__(self, log: Path, *command: str, **environment: str) -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=ROOT,
                env={**os.environ, "WEBSOCKETS_MAX_LINE_LENGTH": "65536", **environment},
                stdout=output,
                stderr=output,
            )

    @property
    def text(self) -> str:
        """What it wrote so far."""
        return self.log.read_text()

    def stop(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)


def refused(log: Path, *command: str, **environment: str) -> str:
    """What a process writes that must not start: one line, and exit code 1."""
    process = Process(log, *command, **environment)
    try:
        assert process.process.wait(30) == 1, process.text
    finally:
        if process.process.poll() is None:
            process.process.kill()
    assert process.text.count("\n") == 1, process.text
    return process.text


class Server(Process):
    """A console, cold: alive, and nobody has visited it."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        super().__init__(
            folder / "console.log", "uvicorn", "app:app", "--host", "127.0.0.1", "--port", str(self.port),
            "--timeout-graceful-shutdown", "1", "--ws", "websockets-sansio",
            **{"PILOTHOUSE_PUBLIC_URL": self.url, **environment},
        )  # fmt: skip
        try:
            poll(self._alive, 30, what="the console")
        except BaseException:
            self.stop()  # nobody else knows of it, and it would go on asking this process's stand-ins
            raise

    def _alive(self) -> bool:
        assert self.process.poll() is None, self.text
        try:
            return get(f"{self.url}/api/v2/health/live", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False
