"""Signing in and out: OpenID Connect authorization code flow with PKCE (RFC 7636), state and nonce.

The pending sign-in travels in an encrypted cookie of ten minutes, so that any replica can finish
what another began and nothing is kept for people who never come back.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from authlib.oauth2.rfc7636 import create_s256_code_challenge
from cryptography.fernet import InvalidToken as BadSeal

from adapters.core import AdapterError, Denied, Rejected
from operations import sessions
from operations.platform import Platform
from operations.provider import InvalidToken, provider
from operations.settings import Settings

STATE_COOKIE = "pilothouse_pending"
PENDING_SECONDS = 600
CALLBACK = "/auth/callback"
SIGNED_OUT = "/auth/signed-out"
MAX_NEXT = 2000
SCOPE = "openid profile email"


class SignInError(Exception):
    """A sign-in that is refused. The text is for the person."""


def begin(settings: Settings, next_path: str) -> tuple[str, str]:
    """Where to send the browser, and what to keep in its cookie until it comes back.

    ``next_path`` is where the person wants to go; it must be a local path. Raises AdapterError when
    Keycloak cannot be asked, SignInError when ``next_path`` leads elsewhere.
    """
    # Browsers drop tabs and line breaks inside an address: "/\t/evil.example" would lead elsewhere.
    odd = any(ord(character) < 0x20 or ord(character) == 0x7F for character in next_path)
    if odd or len(next_path) > MAX_NEXT or not next_path.startswith("/") or next_path.startswith(("//", "/\\")):
        raise SignInError("The page wanted is not one of this console.")
    pending = {
        "state": secrets.token_urlsafe(24),
        "nonce": secrets.token_urlsafe(24),
        "verifier": secrets.token_urlsafe(48),
        "next": next_path,
    }
    query = {
        "response_type": "code",
        "client_id": settings.oidc_client_id,
        "redirect_uri": settings.public_url + CALLBACK,
        "scope": SCOPE,
        "state": pending["state"],
        "nonce": pending["nonce"],
        "code_challenge": create_s256_code_challenge(pending["verifier"]),
        "code_challenge_method": "S256",
    }
    address = provider(settings).endpoint("authorization_endpoint")
    url = f"{address}{'&' if '?' in address else '?'}{urlencode(query)}"
    return url, settings.fernet.encrypt(json.dumps(pending).encode()).decode("ascii")


def complete(platform: Platform, params: Mapping[str, str], cookie: str | None) -> tuple[str, str]:
    """Finish a sign-in: the new session's id, and the page the person wanted.

    Raises SignInError when it was not begun here, took too long, was refused, or the tokens are not
    to be trusted; AdapterError when Keycloak or PostgreSQL cannot be asked.
    """
    settings = platform.settings
    pending = _pending(settings, cookie)
    if not hmac.compare_digest(params.get("state", "").encode(), pending["state"].encode()):
        raise SignInError("This sign-in was not begun here. Please sign in again.")
    if "error" in params or not params.get("code"):
        raise SignInError("Keycloak refused the sign-in. Please try again.")
    form = {
        "grant_type": "authorization_code",
        "code": params["code"],
        "redirect_uri": settings.public_url + CALLBACK,
        "code_verifier": pending["verifier"],
    }
    try:
        answer = provider(settings).post("token_endpoint", settings, form)
    except Denied as error:
        raise SignInError("Keycloak does not accept this console's client credentials.") from error
    except Rejected as error:
        raise SignInError("This sign-in was used already or took too long. Please sign in again.") from error
    claims = identity(settings, answer, pending["nonce"])
    return sessions.create(platform, claims, answer), pending["next"]


def identity(settings: Settings, answer: Mapping[str, Any], nonce: str | None) -> dict[str, Any]:
    """The trusted claims of the ID token in a token answer. Raises SignInError."""
    token = answer.get("id_token")
    if not isinstance(token, str):
        raise SignInError("Keycloak sent no ID token: the client needs the openid scope.")
    try:
        claims = provider(settings).claims(token)
    except InvalidToken as error:
        raise SignInError(f"The ID token is not valid ({error}).") from error
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if settings.oidc_client_id not in audiences:
        raise SignInError("The ID token was made for another application.")
    if len(audiences) > 1 and claims.get("azp") != settings.oidc_client_id:
        raise SignInError("The ID token was made for another application.")
    if nonce is not None and not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
        raise SignInError("The ID token belongs to another sign-in. Please sign in again.")
    return claims


def logout_url(platform: Platform, sid: str) -> str:
    """End a session here, and where to send the browser so that Keycloak's ends too.

    The local session has ended even when this raises AdapterError because Keycloak is away.
    """
    settings = platform.settings
    hint = sessions.id_token(platform, sid)
    sessions.revoke(platform, sid)
    try:
        address = provider(settings).endpoint("end_session_endpoint")
    except AdapterError:
        return SIGNED_OUT
    query = {"client_id": settings.oidc_client_id, "post_logout_redirect_uri": settings.public_url + SIGNED_OUT}
    if hint:
        query["id_token_hint"] = hint
    return f"{address}{'&' if '?' in address else '?'}{urlencode(query)}"


def _pending(settings: Settings, cookie: str | None) -> dict[str, str]:
    try:
        raw = settings.fernet.decrypt((cookie or "").encode("ascii"), ttl=PENDING_SECONDS)
        pending = json.loads(raw)
        return {name: str(pending[name]) for name in ("state", "nonce", "verifier", "next")}
    except (BadSeal, ValueError, KeyError, TypeError) as error:
        raise SignInError("This sign-in was not begun here, or took too long. Please sign in again.") from error
