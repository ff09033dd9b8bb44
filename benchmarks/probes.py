"""How long one round of probes takes: all well, one hanging, all hanging."""

from __future__ import annotations

import os
import time

from adapters.core.probe import probe_all
from benchmarks.console import Console
from benchmarks.table import Row, milliseconds, quantile
from operations.platform import Platform
from operations.settings import Settings

DEADLINE_SECONDS = 3.0
ROUNDS = 5


def rounds(console: Console) -> list[Row]:
    """Median duration of a round in each situation; never beyond the deadline."""
    os.environ["PILOTHOUSE_CONFIG"] = str(console.folder / "pilothouse.toml")
    platform = Platform(Settings())  # type: ignore[call-arg]
    try:
        adapters = list(platform.adapters.values())
        slugs = [adapter.service.slug for adapter in adapters]
        probe_all(adapters, DEADLINE_SECONDS)
        rows = [_measure("all healthy", adapters, ROUNDS)]
        console.fault("somabrain", "hang")
        rows.append(_measure("one hanging", adapters, 2))
        for slug in slugs:
            console.fault(slug, "hang")
        rows.append(_measure("all hanging", adapters, 2))
        return rows
    finally:
        for slug in console.control("GET", "/faults").json():
            console.fault(slug, None)
        platform.close()


def _measure(name: str, adapters: list, count: int) -> Row:  # type: ignore[type-arg]
    took = []
    for _ in range(count):
        start = time.perf_counter()
        found = probe_all(adapters, DEADLINE_SECONDS)
        took.append(time.perf_counter() - start)
    states: dict[str, int] = {}
    for health in found.values():
        states[health.state] = states.get(health.state, 0) + 1
    said = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    worst = max(took)
    figure = f"median {milliseconds(quantile(took, 0.5))}, worst {milliseconds(worst)} ({said})"
    return Row(f"probe_all, {name}", figure, "≤ the 3 s deadline", worst <= DEADLINE_SECONDS + 0.2)
