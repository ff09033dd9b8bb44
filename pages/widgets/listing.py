"""Lists a service gives, drawn as bounded tables from readings that all viewers share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import streamlit as st

from adapters.core import State
from pages.widgets import cached, state, table

if TYPE_CHECKING:
    from pages.widgets.template import View

T = TypeVar("T")
SHOWN = 50


def known(view: View, name: str, title: str, fetch: Callable[[], T], *, every: float = 15.0) -> T | None:
    """The heading and the value of the reading ``name``; None where there is nothing to show, having said why."""
    what = title[:1].lower() + title[1:]
    found = cached.reading(f"{view.slug}:{name}", fetch, every=every)
    told = view.now.health.state
    if found.value is None and (told is State.UNCONFIGURED or (told.failing and found.error is not None)):
        # The banner above says what is wrong and what to do: it is not said again for each list.
        why = "is not configured" if told is State.UNCONFIGURED else "does not answer"
        st.caption(f"{state.plain(title)}: not known while {state.plain(view.page.title)} {why}.")
        return None
    st.markdown(f"#### {title}")
    cached.failed(found, what)
    if found.value is None and found.error is None:
        st.markdown(cached.age(found))
    return found.value


def draw(
    view: View,
    name: str,
    title: str,
    fetch: Callable[[], Sequence[T]],
    heads: Sequence[str],
    row: Callable[[T], Sequence[str]],
    *,
    nothing: str,
    every: float = 15.0,
    quiet: Sequence[int] = (),
    right: Sequence[int] = (),
) -> None:
    """A heading and the first fifty rows of the reading ``name``.

    ``row`` gives HTML cells: whatever a service wrote goes through ``state.text`` first. ``nothing`` is the
    sentence in place of an empty list.
    """
    rows = known(view, name, title, fetch, every=every)
    if rows is not None:
        shown(rows, heads, row, nothing=nothing, quiet=quiet, right=right)


def shown(
    rows: Sequence[T],
    heads: Sequence[str],
    row: Callable[[T], Sequence[str]],
    *,
    nothing: str,
    quiet: Sequence[int] = (),
    right: Sequence[int] = (),
) -> None:
    """The first fifty of ``rows`` as a table, and how many there are beyond."""
    if not rows:
        st.caption(nothing)
        return
    table.draw(heads, (row(one) for one in rows[:SHOWN]), quiet=quiet, right=right)
    if len(rows) > SHOWN:
        st.caption(f"The first {SHOWN} of {len(rows):,}.")


def facts(pairs: Sequence[tuple[str, Any, str]]) -> None:
    """A row of facts: name, value and tooltip each."""
    cells = "".join(
        f'<div title="{state.text(tip)}"><small>{state.text(name)}</small><b>{state.text(value)}</b></div>'
        for name, value, tip in pairs
    )
    st.html(f'<div class="ph-facts row">{cells}</div>')
