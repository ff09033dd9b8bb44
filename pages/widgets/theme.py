"""The theme, made once: Streamlit makes it anew from its options for every run of every page.

The options are read at the start and do not change while the console runs, so a fifth of what a small page costs
the server buys nothing. Where a Streamlit has no such function, nothing is changed.
"""

from __future__ import annotations

from typing import Any

from streamlit.runtime import app_session

_NAME = "_populate_theme_msg"


def remember() -> None:
    """From now on each section of the theme is made when first asked for, and copied after that."""
    original = getattr(app_session, _NAME, None)
    if original is None or hasattr(original, "made"):
        return
    made: dict[str, Any] = {}

    def populate(message: Any, section: str = "theme") -> None:
        if section not in made:
            fresh = type(message)()
            original(fresh, section)
            made[section] = fresh
        if made[section].ByteSize():  # merging nothing would say that the section is there
            message.MergeFrom(made[section])

    populate.made = made  # type: ignore[attr-defined]
    setattr(app_session, _NAME, populate)
