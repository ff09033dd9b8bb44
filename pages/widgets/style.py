"""The one style sheet on top of the theme in .streamlit/config.toml."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import streamlit as st


@cache
def _sheet() -> str:
    return "<style>" + (Path(__file__).parent / "style.css").read_text(encoding="utf-8") + "</style>"


def apply() -> None:
    """Add the style sheet to the page."""
    st.html(_sheet())
