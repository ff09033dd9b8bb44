"""Small tables drawn as HTML: dense, one element however many rows, readable by a screen reader."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import streamlit as st

from pages.widgets import state


def draw(
    heads: Sequence[str], rows: Iterable[Sequence[str]], *, quiet: Sequence[int] = (), right: Sequence[int] = ()
) -> None:
    """Draw rows of HTML cells under plain-text heads.

    ``quiet`` names the columns (from 0) in muted colour that do not wrap, ``right`` those of numbers. Cells are
    HTML: whatever a service or a person wrote goes through ``state.text`` first.
    """
    kinds = {**dict.fromkeys(quiet, "t"), **dict.fromkeys(right, "n")}
    head = "".join(f"<th scope='col' class='{kinds.get(i, '')}'>{state.text(h)}</th>" for i, h in enumerate(heads))
    body = "".join(
        "<tr>" + "".join(f"<td class='{kinds.get(i, '')}'>{cell}</td>" for i, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    inner = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    st.html(f"<div class='ph-scroll'><table class='ph-table'>{inner}</table></div>")


def when(at: object) -> str:
    """A cell with the age of a moment and the moment itself in its tooltip."""
    if not isinstance(at, datetime):
        return "–"
    return f"<span title='{state.moment(at)}'>{state.since(at)} ago</span>"


def empty(title: str, words: str = "") -> None:
    """What stands where a list would be while it has nothing in it."""
    st.html(f"<div class='ph-empty'><b>{state.text(title)}</b>{state.text(words)}</div>")
