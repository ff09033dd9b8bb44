"""Is the console alive, is it ready, and how are the services (the SRS's ``/health/*``)?"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis
from fastapi import APIRouter, Response
from sqlalchemy import text

from adapters.core import AdapterError
from api import shapes
from api.auth import TheActor, ThePlatform
from api.infrastructure import resolve
from operations import health
from operations.access import Permission, require
from operations.platform import Platform

router = APIRouter(prefix="/health", tags=["Health"])
READY_SECONDS = 2.0


@router.get("/live", summary="The process answers")
def live() -> dict[str, str]:
    """Open to everyone: 200 while the process serves requests."""
    return {"status": "ok"}


@router.get("/ready", summary="What the console stands on answers")
def ready(platform: ThePlatform, response: Response) -> dict[str, Any]:
    """Open to everyone: 503 while PostgreSQL is away. Redis away is told, and changes wait for it."""
    with ThreadPoolExecutor(2) as pool:
        database, cache = pool.submit(_database, platform), pool.submit(_redis, platform)
        parts = {"postgresql": database.result(), "redis": cache.result()}
    ok = parts["postgresql"] == "ok"
    response.status_code = 200 if ok else 503
    return {"status": "ok" if ok else "unavailable", "parts": parts}


def _database(platform: Platform) -> str:
    try:
        with platform.database.session(seconds=READY_SECONDS) as session:
            migrated = session.scalar(text("SELECT to_regclass('alembic_version') IS NOT NULL"))
    except AdapterError:
        return "unavailable"
    return "ok" if migrated else "not migrated"


def _redis(platform: Platform) -> str:
    try:
        platform.redis.ping()
    except (redis.RedisError, OSError):
        return "unavailable"
    return "ok"


@router.get("", summary="The state of every service")
@router.get("/services", summary="The state of every service")
def services(platform: ThePlatform, actor: TheActor) -> dict[str, Any]:
    """As the sampler last saw them."""
    require(actor, Permission.INFRA_VIEW)
    return shapes.overview(health.overview(platform))


@router.get("/{service}", summary="The state of one service")
def one(service: str, platform: ThePlatform, actor: TheActor) -> dict[str, Any]:
    """``service`` is a slug or the last part of its SRS route."""
    require(actor, Permission.INFRA_VIEW)
    return shapes.now(health.now(platform, resolve(service)))
