"""What tests share besides fixtures."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sandbox.engines import Engine
from sandbox.processes import SandboxError, free_port

T = TypeVar("T")
E = TypeVar("E", bound=Engine)

ROOT = Path(__file__).resolve().parent.parent


def poll(predicate: Callable[[], T], seconds: float = 10, *, every: float = 0.02, what: str = "") -> T:
    """Call ``predicate`` until it returns something true and return that; fail the test after ``seconds``."""
    end = time.monotonic() + seconds
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what or 'the condition'} did not come true within {seconds} s (last: {value!r})")
        time.sleep(every)


def start_engine(make: Callable[[int], E]) -> E:
    """Start an engine on a free port; try again elsewhere when another process was faster to take the port."""
    for attempt in range(4):
        engine = make(free_port())
        try:
            engine.start()
            return engine
        except SandboxError:
            engine.kill()
            if attempt == 3:
                raise
    raise AssertionError("unreachable")
