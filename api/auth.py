"""Who asks: a bearer token (ours or Keycloak's), or the session of a signed-in browser."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from api.problems import Problem
from api.web.gate import session_id
from operations import apitokens, sessions, tokens
from operations.access import Actor
from operations.platform import Platform

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="pilothouse"'}
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def platform_of(request: Request) -> Platform:
    """The platform this API was made over."""
    platform: Platform = request.app.state.platform
    return platform


def actor_of(request: Request) -> Actor:
    """The actor behind a request. Raises a 401 problem when there is none."""
    found = _actor_of(request)
    request.state.authenticated = True  # for api.throttle: from now on this caller has an allowance of its own
    return found


def _actor_of(request: Request) -> Actor:
    platform = platform_of(request)
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme:
        if scheme.lower() != "bearer" or not token.strip():
            raise Problem(401, "unauthenticated", "Send `Authorization: Bearer TOKEN`.", headers=_CHALLENGE)
        found = resolve_token(platform, token.strip())
        if found is None:
            raise Problem(401, "unauthenticated", "The token is unknown, expired or revoked.", headers=_CHALLENGE)
        return found
    sid = session_id(request.headers)
    found = sessions.resolve(platform, sid) if sid else None
    if found is None:
        raise Problem(401, "unauthenticated", "Send an API token or a Keycloak access token.", headers=_CHALLENGE)
    # A browser sends its cookie by itself; only our own pages may make it change something.
    if request.method not in _SAFE and request.headers.get("origin") != platform.settings.public_url:
        raise Problem(403, "foreign-origin", "Changes with a browser session must come from the console itself.")
    return found


def request_id(request: Request) -> str | None:
    """The caller's own number for the request, for the record of changes: the first 100 letters of it."""
    return request.headers.get("x-request-id", "")[:100] or None


def resolve_token(platform: Platform, token: str) -> Actor | None:
    """The actor of a bearer token of either kind, None when it is not valid."""
    if token.startswith(apitokens.PREFIX):
        return apitokens.verify(platform, token)
    return tokens.bearer(platform, token)


ThePlatform = Annotated[Platform, Depends(platform_of)]
TheActor = Annotated[Actor, Depends(actor_of)]
