"""The one style sheet on top of the theme in .streamlit/config.toml, and the keys of the search."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import streamlit as st

# A file of our own, because the content security policy allows no inline script.
_KEYS = '<script src="/app/static/shell.js"></script>'


@cache
def _sheet() -> str:
    # With an element before it: an HTML of styles alone goes where toasts go, and the first toast takes its place.
    rules = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    return f'<span class="ph-sheet" hidden></span><style>{rules}</style>'


def apply() -> None:
    """Add the style sheet and the keys to the page."""
    st.html(_sheet())
    st.html(_KEYS, unsafe_allow_javascript=True)
