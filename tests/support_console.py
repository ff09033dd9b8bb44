"""What changes rate limits while consoles are killed.

``python -m tests.support_console SEED`` is a console without pages, settings from the environment: it runs the
outbox relay as every console does and changes rate limits until it is ended. ``Caller`` does so over HTTP, at
whole consoles.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import httpx
import uvicorn

from operations import ratelimits
from operations.access import SYSTEM
from operations.change import Conflict, NotFound, StoreUnavailable
from operations.outbox import Relay
from operations.platform import Platform
from operations.ratelimits import Edit, Scope, Target
from operations.settings import Settings
from sandbox.processes import die_with_parent
from tests.support import ROOT

KEYS = ("api_calls", "file_uploads", "llm_tokens")
TENANTS = tuple(f"tenant-{number}" for number in range(6))
ACTION = "ratelimit.killed"


def wish(chance: random.Random) -> list[Edit]:
    """One to three edits of one key: its policy, a tier's, or a tenant's override set or cleared."""
    key, edits = chance.choice(KEYS), {}
    for _ in range(chance.choice((1, 1, 1, 3))):
        scope = chance.choice((Scope.GLOBAL, Scope.TIER, Scope.TENANT, Scope.TENANT))
        reference = {Scope.GLOBAL: "", Scope.TIER: "team"}.get(scope) or ""
        if scope is Scope.TENANT:
            reference = chance.choice(TENANTS)
        clears = scope is Scope.TENANT and chance.random() < 0.25
        target = Target(key, scope, reference)
        edits[target] = Edit(target, None if clears else {"limit": chance.randrange(1_000_000)})
    return list(edits.values())


_forks = multiprocessing.get_context("forkserver")
# What a console imports first and what takes it longest: imported once, so that a new one is up in half the time.
_forks.set_forkserver_preload(["streamlit", "pandas", "pyarrow", "plotly.graph_objects", "sqlalchemy.orm", "uvicorn"])


def _serve(environment: dict[str, str], port: int, log: Path) -> None:
    die_with_parent(signal.SIGKILL)
    os.environ.update(environment)
    os.chdir(ROOT)
    with log.open("wb") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    uvicorn.run("app:app", host="127.0.0.1", port=port, ws="websockets-sansio")


def serve(environment: dict[str, str], port: int, log: Path) -> BaseProcess:
    """The whole console, as it is served, in a process of its own."""
    process = _forks.Process(target=_serve, args=(environment, port, log), daemon=True)
    process.start()
    return process


class Caller:
    """A program that changes limits over HTTP at whichever console answers, for ever."""

    def __init__(self, seed: int, token: str, consoles: Callable[[], list[str]]) -> None:
        self.chance, self.consoles = random.Random(seed), consoles
        self.http = httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=10, trust_env=False)
        self.kept: list[tuple[str, int]] = []
        """Subject and version of every change a console said was saved."""
        self.waited = 0
        """How many of them were to be delivered later."""
        self.seen: dict[Target, str] = {}
        """The ETag of what this caller made or read last, "" for what is not there; forgotten once used."""
        self.odd: list[str] = []
        """Answers that should not have been."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Call no more."""
        self._stop.set()
        self._thread.join(15)
        self.http.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            with suppress(httpx.HTTPError, IndexError):
                (edit, *_) = wish(self.chance)
                self._change(f"{self.chance.choice(self.consoles())}/api/v2/infrastructure/ratelimits", edit)
                continue
            self._stop.wait(0.02)  # nobody there

    def _change(self, root: str, edit: Edit) -> None:
        target = edit.target
        scope = "" if target.scope is Scope.GLOBAL else f"/{target.scope.lower()}s/{target.reference}"
        address = f"{root}/{target.key}{scope}"
        if target not in self.seen:
            self.seen[target] = self.http.get(address).headers.get("etag", "")
        tag = self.seen.pop(target)
        known = {"If-Match": tag} if tag else {}
        if edit.values is not None:
            answer = self.http.put(address, json={**edit.values, "reason": "a change"}, headers=known)
        elif known:
            answer = self.http.delete(address, headers=known)
        else:
            return
        if answer.status_code in (200, 201):
            body = answer.json()
            self.waited += not body["delivered"]
            if "version" in body:
                self.seen[target] = answer.headers["etag"]
                self.kept.append((target.subject, body["version"]))
        elif answer.status_code not in (404, 412, 428, 503):  # somebody was faster, or PostgreSQL was busy
            self.odd.append(f"{answer.status_code} {answer.text[:200]}")


def main(seed: int) -> None:
    """Change limits for ever."""
    platform, chance = Platform(Settings()), random.Random(seed)
    Relay(platform, every=0.2).start()
    while True:
        try:
            ratelimits.save(platform, SYSTEM, wish(chance), reason="a change", action=ACTION)
        except (Conflict, NotFound, StoreUnavailable):
            continue


if __name__ == "__main__":
    main(int(sys.argv[1]))
