"""What programs see: the HTTP API under ``/api/v2``. Each module with a ``router`` is part of it."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from fastapi import FastAPI

from api import documentation, problems, throttle

if TYPE_CHECKING:
    from operations.platform import Platform

__all__ = ["create_api"]


def create_api(platform: Platform) -> FastAPI:
    """The API over one platform, to be mounted at ``/api/v2``. Connects to nothing."""
    api = FastAPI(
        title="Pilothouse",
        version="2.0",
        summary="See, configure, monitor and rate-limit every service.",
        docs_url=None,
        redoc_url=None,
        servers=[{"url": "/api/v2"}],
        root_path_in_servers=False,
    )
    api.state.platform = platform
    problems.install(api)
    throttle.install(api, platform)
    documentation.install(api)
    names = sorted(info.name for info in pkgutil.iter_modules(__path__) if not info.ispkg)
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    # The first route that matches answers: a module whose paths another's {parameter} would swallow goes first.
    for module in sorted(modules, key=lambda module: getattr(module, "ORDER", 0)):
        if hasattr(module, "router"):
            api.include_router(module.router)
    return api
