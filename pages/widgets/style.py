"""The style sheet on top of the theme in .streamlit/config.toml: of the frame around the pages, then of each page."""

from __future__ import annotations

from functools import cache
from pathlib import Path

FRAME = Path(__file__).with_name("style.css")


@cache
def sheet() -> str:
    """All rules. They stand in the index page: as an element, each run of each page would send them again."""
    pages = Path(__file__).parents[1]
    parts = sorted(path for path in pages.rglob("*.css") if path != FRAME)
    return "\n".join(path.read_text(encoding="utf-8").strip() for path in (FRAME, *parts))
