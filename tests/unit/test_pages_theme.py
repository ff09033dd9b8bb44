"""The theme told from memory is the theme Streamlit would have made."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit import config
from streamlit.proto.NewSession_pb2 import CustomThemeConfig, NewSession
from streamlit.runtime import app_session

from pages.widgets import theme
from tests.support import ROOT

SECTIONS = ("theme", "theme.light", "theme.dark", "theme.sidebar", "theme.light.sidebar", "theme.dark.sidebar")


def populate(make: Any, section: str) -> bytes:
    """One section as bytes, within a whole message: also whether it is there at all counts."""
    session = NewSession()
    message: CustomThemeConfig = session.custom_theme
    for part in section.split(".")[1:]:
        message = getattr(message, part)
    make(message, section)
    return session.SerializeToString(deterministic=True)


def test_each_section_is_what_streamlit_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # .streamlit/config.toml is read from there
    config.get_config_options(force_reparse=True)
    original = app_session._populate_theme_msg
    monkeypatch.setattr(app_session, "_populate_theme_msg", original)  # put back at the end
    theme.remember()
    told = app_session._populate_theme_msg
    assert told is not original, "this Streamlit makes its theme elsewhere"
    for _ in range(2):
        for section in SECTIONS:
            assert populate(told, section) == populate(original, section), section
    assert b"Inter" in populate(told, "theme")


def test_it_is_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_session, "_populate_theme_msg", app_session._populate_theme_msg)
    theme.remember()
    once = app_session._populate_theme_msg
    theme.remember()
    assert app_session._populate_theme_msg is once
