"""The readings of the PostgreSQL page: under which key, how often, and how a failure is shown."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from adapters.postgresql import PostgreSQL
from pages.widgets import cached

if TYPE_CHECKING:
    from operations.readings import Reading
    from pages.widgets.template import View

EVERY_S = {
    "server": 5.0,
    "counters": 5.0,
    "sessions_by_state": 5.0,
    "transactions": 5.0,
    "locks": 5.0,
    "statements": 30.0,
    "replication": 10.0,
    "wraparound": 60.0,
    "largest_tables": 60.0,
    "unindexed_tables": 60.0,
    "dead_rows": 60.0,
    "unused_indexes": 60.0,
    "bloat": 120.0,
    "databases": 300.0,
    "settings": 60.0,
}
"""How often each method of the adapter is asked while somebody looks, in seconds: dear questions rarely."""


def adapter(view: View) -> PostgreSQL:
    """The adapter with the configuration in force."""
    return cast(PostgreSQL, view.adapter)


def ahead(view: View, *names: str, seconds: float = 0.25) -> None:
    """Ask for several readings at once and wait for all of them together, ``seconds`` at most.

    Asked one after the other, ten readings of a server that hangs would hold the page up ten times.
    """
    for name in names:
        _reading(view, name, 0.0)
    end = time.monotonic() + seconds
    for name in names:
        _reading(view, name, max(0.0, end - time.monotonic()))


def shown(view: View, name: str, what: str) -> Any | None:
    """The reading of an adapter method, having drawn why it is missing or old. Does not wait: see :func:`ahead`."""
    return cached.read(f"postgresql:{name}", getattr(adapter(view), name), what, every=EVERY_S[name], wait=0.0)


def quiet(view: View, name: str) -> Reading[Any]:
    """The same reading without drawing anything."""
    return _reading(view, name, 0.0)


def _reading(view: View, name: str, wait: float) -> Reading[Any]:
    return cached.reading(f"postgresql:{name}", getattr(adapter(view), name), every=EVERY_S[name], wait=wait)
