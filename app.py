"""The ASGI application: Streamlit, the API, what stands in front of both, and the lifespan. Nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import logging
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.middleware import Middleware
from starlette.routing import Mount

import pages
from adapters.core import adapter_classes
from api import create_api, metrics
from api.web import icon, signin
from api.web.gate import Gate
from api.web.headers import Headers
from api.web.index import Index
from api.web.redirects import srs_routes
from operations import background, logs, platform, sessions
from operations.settings import SettingsError, load
from pages.widgets import first, incident, style, theme
from pages.widgets.page import all_pages
from pages.widgets.shell import address

log = logging.getLogger("pilothouse")

# A first table or chart would otherwise pay for these: over a second.
_HEAVY = ("pandas", "pyarrow", "pyarrow.lib", "plotly.graph_objects", "streamlit.elements.arrow")


@contextlib.asynccontextmanager
async def lifespan(_app: st.App) -> AsyncIterator[dict[str, Any]]:
    """Start background work, load what is heavy before the first person comes; undo in reverse."""
    for name in _HEAVY:
        importlib.import_module(name)
    adapter_classes()
    all_pages()
    theme.remember()
    gc.collect()
    gc.freeze()
    running = await asyncio.to_thread(background.start, assembled)
    try:
        yield {"platform": assembled}
    finally:
        await asyncio.to_thread(running.stop)
        await asyncio.to_thread(assembled.close)


logs.configure()
try:
    settings = load()
except SettingsError as error:
    sys.exit(str(error))
assembled = platform.Platform(settings)
platform.install(assembled)
addresses = {page.path: address(page) for page in all_pages().values()}
addresses["/infrastructure"] = "/"

app = st.App(
    Path(pages.__file__).with_name("main.py"),
    lifespan=lifespan,
    routes=[
        Mount("/api/v2", create_api(assembled)),
        metrics.route(assembled),
        *signin.routes(assembled, {f"/{page.url}": page.title for page in all_pages().values()}),
        *srs_routes(addresses),
        icon.route(Path(pages.__file__).with_name("static") / "icon.png"),
    ],
    middleware=[
        Middleware(Headers, https=settings.public_url.startswith("https://")),
        Middleware(
            Gate,
            resolve=lambda sid: sessions.resolve(assembled, sid),
            public_url=settings.public_url,
            also_open=frozenset(addresses),
        ),
        Middleware(Index, sheet=style.sheet(), first=partial(first.view, assembled)),
    ],
    on_script_error=incident.show,
)
