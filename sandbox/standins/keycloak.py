"""A stand-in for Keycloak: OpenID Connect, its pages, and the Admin REST API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sandbox.people import Person
from sandbox.standins import Host, keycloak_admin, keycloak_oidc
from sandbox.standins.keycloak_admin import Failure
from sandbox.standins.keycloak_oidc import Refusal
from sandbox.standins.keycloak_state import KeycloakStandin


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, Refusal | Failure):
        raise error
    return error.response()


async def _no_such_path(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    said = "Unable to find matching target resource method" if status == 404 else f"HTTP {status}"
    return JSONResponse({"error": said}, status)


def create(state_dir: Path, seed: int | None, people: list[Person], *, host: Host, **options: Any) -> Starlette:
    """The stand-in as an ASGI application; the people exist in realm ``pilothouse`` whatever the seed."""
    app = Starlette(
        routes=[*keycloak_oidc.ROUTES, *keycloak_admin.ROUTES],
        exception_handlers={Refusal: _refused, Failure: _refused, HTTPException: _no_such_path},
    )
    app.state.standin = KeycloakStandin(state_dir, seed, people, host)
    return app
