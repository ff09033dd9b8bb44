"""Status: the connection, as last seen."""

from __future__ import annotations

from adapters.core import State
from operations import workflow_types
from pages.widgets import cached, listing, table
from pages.widgets.template import View

SLOW_MS = 500.0


def draw(view: View) -> None:
    """Address, namespace, version, latency, workers and retention; said to be old where they are."""
    if view.now.health.state is State.UNCONFIGURED:
        return
    found = workflow_types.connection(view.platform)
    known = found.value
    if known is None:
        if found.error is None:
            table.empty("Connecting…", "Temporal is being asked.")
        return
    failed = found.error is not None
    slow = known.latency_ms >= SLOW_MS
    workers = f"{known.workers:,} reachable" if known.workers else "none reachable"
    facts = (
        (
            "Connection",
            f"Not connected ({known.address})" if failed else f"Connected ({known.address})",
            "gRPC frontend",
        ),
        ("Namespace", known.namespace, "whose workflows are shown here"),
        ("Server version", known.version or "–", "as the server reports it"),
        (
            "Latency",
            f"{known.latency_ms:.1f} ms" + (", slow" if slow else ""),
            "one call to the frontend and back over the open connection",
        ),
        ("Workers", workers, "workers that poll for work at this moment; the Workers face names each"),
        (
            "Retention",
            f"{known.retention_days:g} day" + "s" * (known.retention_days != 1),
            "how long executions are kept after they ended",
        ),
    )
    cached.failed(found, "the connection")
    listing.facts(facts)
