"""The page of Qdrant: collections and the traffic of its endpoints."""

from typing import cast

import streamlit as st

from adapters.core import Unit
from adapters.qdrant import Qdrant
from adapters.qdrant_records import Collection, Collections, Endpoint
from pages.widgets import listing, state
from pages.widgets.page import service_page
from pages.widgets.template import View, service

PAGE = service_page("qdrant", icon=":material/hub:")
LIMITS = "Qdrant limits requests per collection by its strict mode, shown under Status as the server reports it."


def render() -> None:
    """Draw the page."""
    service(PAGE, monitor=_monitor, limits=LIMITS)


def _monitor(view: View) -> None:
    adapter = cast(Qdrant, view.adapter)
    found: Collections | None = listing.known(view, "collections", "Collections", adapter.collections, every=30.0)
    if found is not None:
        listing.shown(
            found.items,
            ("Collection", "Status", "Vectors", "Points", "Indexed", "Segments", "Shards × replicas"),
            _row,
            nothing="No collection yet.",
            right=(3, 4, 5, 6),
        )
        if found.truncated:
            st.caption(f"{len(found.items):,} of {found.total:,} collections, by name.")
    listing.draw(
        view,
        "endpoints",
        "Requests since the server started",
        lambda: sorted(traffic.endpoints, key=lambda e: -e.count) if (traffic := adapter.traffic()) else (),
        ("Endpoint", "Requests", "Failed", "Mean latency"),
        _endpoint,
        nothing="This server does not tell, or has served nothing yet.",
        right=(1, 2, 3),
    )


def _row(one: Collection) -> tuple[str, ...]:
    vectors = ", ".join(f"{v.name or 'vector'} {v.size or 'sparse'} {v.distance}" for v in one.vectors)
    trouble = "" if one.optimizer == "ok" else f"<br><small>{state.text(one.optimizer[:120])}</small>"
    return (
        f"<b>{state.text(one.name)}</b>",
        state.text(one.status) + trouble,
        state.text(vectors),
        f"{one.points:,}",
        f"{one.indexed_vectors:,}",
        str(one.segments),
        f"{one.shards} × {one.replicas}",
    )


def _endpoint(one: Endpoint) -> tuple[str, ...]:
    latency = "–" if one.latency_ms is None else state.number(one.latency_ms, Unit.MILLISECONDS)
    return f"<code>{state.text(one.endpoint)}</code>", f"{one.count:,}", f"{one.failed:,}", latency
