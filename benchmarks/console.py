"""A whole sandbox for measuring: started on its own folder and port, signed in to, and stopped."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from html import unescape
from pathlib import Path
from types import TracebackType
from urllib.parse import urljoin

import httpx
import psutil

ROOT = Path(__file__).parent.parent


def free_port() -> int:
    """A TCP port nobody uses on 127.0.0.1 at this moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Console:
    """A running sandbox. Use as a context manager."""

    def __init__(self, **environment: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="pilothouse-bench-")
        self.folder = Path(self._folder.name) / "sandbox"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Console:
        environment = {**os.environ, "PORT": str(self.port), "SANDBOX_DIR": str(self.folder), **self._environment}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sandbox", "run"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("Pilothouse is ready"):
                return self
        raise RuntimeError(f"the sandbox did not start (exit code {self._process.wait()})")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(20)
        self._folder.cleanup()

    @property
    def endpoints(self) -> dict[str, str]:
        """What the sandbox started, by service."""
        return dict(json.loads((self.folder / "endpoints.json").read_text(encoding="utf-8")))

    @property
    def server(self) -> psutil.Process:
        """The process that serves the console."""
        assert self._process is not None
        for child in psutil.Process(self._process.pid).children(recursive=True):
            if any("uvicorn" in part for part in child.cmdline()) and "app:app" in child.cmdline():
                return child
        raise RuntimeError("no console process found")

    def control(self, method: str, path: str, **kw: object) -> httpx.Response:
        """Ask the sandbox's control API."""
        import tomllib

        settings = tomllib.loads((self.folder / "pilothouse.toml").read_text(encoding="utf-8"))
        headers = {"authorization": f"Bearer {settings['sandbox_control_token']}"}
        response = httpx.request(method, settings["sandbox_control_url"] + path, headers=headers, timeout=10, **kw)  # type: ignore[arg-type]
        response.raise_for_status()
        return response

    def fault(self, service: str, kind: str | None) -> None:
        """Break a service, or mend it with None."""
        self.control("PUT", f"/faults/{service}", json={"fault": kind})

    def token(self, username: str = "ada") -> str:
        """A demo person's API token."""
        people = json.loads((self.folder / "people.json").read_text(encoding="utf-8"))
        return next(str(person["api_token"]) for person in people if person["username"] == username)

    def sign_in(self, username: str = "ada") -> str:
        """Go through the real sign-in as a demo person; the session cookie as a header value."""
        people = json.loads((self.folder / "people.json").read_text(encoding="utf-8"))
        person = next(person for person in people if person["username"] == username)
        with httpx.Client(base_url=self.url, follow_redirects=True, timeout=10) as browser:
            page = browser.get("/auth/login", params={"next": "/"})
            form = re.search(r'<form[^>]*action="([^"]+)"', page.text)
            if form is None:
                raise RuntimeError(f"no sign-in form at {page.url}")
            action = urljoin(str(page.url), unescape(form.group(1)))
            answer = browser.post(
                action, data={"username": username, "password": person["password"]}, follow_redirects=False
            )
            for _ in range(5):
                if not answer.is_redirect or "pilothouse_session" in browser.cookies:
                    break
                answer = browser.get(urljoin(str(answer.url), answer.headers["location"]), follow_redirects=False)
            session = browser.cookies.get("pilothouse_session")
        if session is None:
            raise RuntimeError(f"sign-in failed: {answer.status_code} at {answer.url}")
        return f"pilothouse_session={session}"

    def cpu_seconds(self) -> float:
        """CPU time of the console process so far."""
        times = self.server.cpu_times()
        return float(times.user + times.system)


def settle(seconds: float) -> None:
    """Let background work come to its usual rhythm before a measurement."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.1)
