"""Readings on a page: a value with its age, the last known value with the error that followed, or neither yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import streamlit as st

from operations.readings import Reading
from pages.widgets import state
from pages.widgets.session import platform

T = TypeVar("T")


def reading(key: str, fetch: Callable[[], T], *, every: float = 10.0, wait: float = 0.25) -> Reading[T]:
    """The shared reading under ``key``: never waits longer than ``wait`` seconds, refreshed each ``every`` seconds.

    ``key`` starts with the service's slug and a colon, so that a configuration change forgets it.
    """
    return platform().readings.get(key, fetch, every, wait)


def age(found: Reading[Any]) -> str:
    """Markdown telling how old the value is, and whether a newer one is on its way."""
    if found.fetched_at is None:
        return ":small[:gray[:material/hourglass_empty: reading…]]"
    refreshing = " · refreshing" if found.pending else ""
    return f":small[:gray[Read {state.since(found.fetched_at)} ago{refreshing}]]"


def read(key: str, fetch: Callable[[], T], what: str, *, every: float = 10.0, wait: float = 0.25) -> T | None:
    """The value of a reading, having drawn whatever keeps it from being whole and fresh.

    Draws nothing when the value is fresh; a notice above an old value; the error, or "reading…", in its place.
    Returns None when there is nothing to show: the notice is already on the page. ``what`` names the value
    in sentences ("locks", "collections").
    """
    return shown(reading(key, fetch, every=every, wait=wait), what)


def shown(found: Reading[T], what: str) -> T | None:
    """The same of a reading that an operation gave."""
    if found.error is not None:
        failed(found, what)
    elif found.value is None and found.fetched_at is None:
        st.markdown(f":gray[:material/hourglass_empty: Reading {what}…]")
    return found.value


def failed(found: Reading[Any], what: str) -> None:
    """Say that a reading failed, what was known last, and what to do."""
    error = found.error
    if error is None:
        return
    last = f" Shown below is what was known {state.since(found.fetched_at)} ago." if found.value is not None else ""
    st.markdown(
        f":red-badge[:material/error: Could not read {state.plain(what)}] "
        f"{state.plain(error.sentence)}{last}  \n:gray[{state.plain(error.advice)}]"
    )


def live(seconds: float = 5.0) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: redraw this part alone every ``seconds`` while the page is open."""
    return st.fragment(run_every=seconds)
