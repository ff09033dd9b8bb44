"""The console's script under plain ``streamlit run``: what it costs without our server and settings."""

import runpy
from pathlib import Path

import streamlit as st

from operations import platform
from operations.settings import Settings


@st.cache_resource
def _assemble() -> platform.Platform:
    made = platform.Platform(Settings())  # type: ignore[call-arg]
    platform.install(made)
    return made


_assemble()
runpy.run_path(str(Path(__file__).parent.parent / "pages" / "main.py"), run_name="__main__")
