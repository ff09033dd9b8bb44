"""The one style sheet on top of the theme in .streamlit/config.toml."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import streamlit as st


@cache
def _sheet() -> str:
    # With an element before it: an HTML of styles alone goes where toasts go, and the first toast takes its place.
    rules = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    return f'<span class="ph-sheet" hidden></span><style>{rules}</style>'


def apply() -> None:
    """Add the style sheet to the page."""
    st.html(_sheet())
