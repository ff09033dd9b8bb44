"""The icon of the browser's tab, at the address the front end asks for by itself."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route


def route(file: Path) -> Route:
    """The PNG in place of Streamlit's."""

    async def icon(_request: Request) -> Response:
        return FileResponse(file, media_type="image/png")

    return Route("/favicon.png", icon, methods=["GET", "HEAD"])
