"""Keycloak access tokens brought by programs."""

from __future__ import annotations

import logging

from operations.access import Actor
from operations.platform import Platform
from operations.provider import InvalidToken, provider, roles_of

log = logging.getLogger(__name__)
LONGEST = 16_384


def bearer(platform: Platform, token: str) -> Actor | None:
    """The actor of a Keycloak access token made for this console; None when it is not to be trusted.

    It must be signed by the realm, unexpired, of type Bearer, and made for or by a client we accept.
    Raises AdapterError when the realm's keys cannot be fetched.
    """
    settings = platform.settings
    if len(token) > LONGEST or token.count(".") != 2:
        return None
    try:
        claims = provider(settings).claims(token)
    except InvalidToken as error:
        log.info("a bearer token was refused: %s", error)
        return None
    accepted = {settings.oidc_client_id, *filter(None, map(str.strip, settings.oidc_admin_client_ids.split(",")))}
    audience = claims.get("aud")
    audiences = set(audience) if isinstance(audience, list) else {audience}
    if claims.get("typ", "Bearer") != "Bearer" or not accepted & {*audiences, claims.get("azp")}:
        log.info("a bearer token was refused: made for another application, or not an access token")
        return None
    name = claims.get("name") or claims.get("preferred_username") or claims["sub"]
    is_service = str(claims.get("preferred_username", "")).startswith("service-account-")
    return Actor(
        str(claims["sub"]),
        str(name),
        roles_of(claims),
        str(claims.get("email") or ""),
        "program" if is_service else "person",
    )
