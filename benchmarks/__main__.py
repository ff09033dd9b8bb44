"""``make bench``: the whole benchmark table, from one run on this machine."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys

from benchmarks import browser, calls, crowded, limiter, pages, probes, provisioning, temporal
from benchmarks.console import Console, settle
from benchmarks.table import heading, show

SECTIONS = ("cost", "waiting", "calls", "probes", "browser", "crowded", "temporal", "limits", "provisioning")


def main() -> int:
    """Print the sections asked for, all by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], default=[], help="default: all")
    wanted = parser.parse_args().sections or list(SECTIONS)
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}, {sys.platform}")
    if set(wanted) - {"limits", "provisioning"}:
        # Live traffic would compete for the same two cores.
        with Console(TRAFFIC="none") as console:
            settle(5)
            cookie = console.sign_in()
            paths = pages.page_paths()
            if "cost" in wanted:
                show("Server cost of a rerun", asyncio.run(pages.rerun_cost(console, cookie, paths)))
            if "waiting" in wanted:
                heading("Opening and switching pages, on the server")
                asyncio.run(pages.waiting(console, cookie, paths))
            if "calls" in wanted:
                show("Calls reaching each service in a minute", asyncio.run(calls.compare(console, cookie, paths)))
            if "probes" in wanted:
                show("One round of probes", probes.rounds(console))
            if "browser" in wanted:
                show("In a real browser", browser.rows(console))
            if "crowded" in wanted:
                show("The rate limits page, crowded", asyncio.run(crowded.cost(console, cookie)))
            if "temporal" in wanted:
                asyncio.run(temporal.measure(console, cookie))
    if "limits" in wanted:
        show("Rate limits", limiter.run())
    if "provisioning" in wanted:
        show("Tenants made by workflows", provisioning.run())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
