"""The identity provider: its discovery document, its signing keys, and its token endpoint.

Everything asked of it is bounded by a total deadline; what it says of itself is kept for minutes.
"""

from __future__ import annotations

import threading
import time
from typing import Any
from urllib.parse import urlsplit

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from adapters.core import Unexpected, deadline
from adapters.core.http import client, request
from operations.settings import Settings

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]
DOCUMENT_SECONDS = 600.0
KEYS_SECONDS = 600.0
KEYS_AGAIN_SECONDS = 5.0
LEEWAY_SECONDS = 10
ASK_SECONDS = 2.0
SERVICE = "Keycloak"


class InvalidToken(Exception):
    """A token that is not to be trusted. The text is for the log, never the token itself."""


class Provider:
    """One issuer. The constructor does no I/O; all threads share one instance."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer.rstrip("/")
        parts = urlsplit(self.issuer)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._http: httpx.Client = client("")
        self._lock = threading.Lock()
        self._document: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, KeySet] | None = None

    def document(self) -> dict[str, Any]:
        """The discovery document. Raises AdapterError; Unexpected when it speaks for another issuer."""
        known = self._document
        if known and time.monotonic() - known[0] < DOCUMENT_SECONDS:
            return known[1]
        address = f"{self.issuer}/.well-known/openid-configuration"
        with deadline(ASK_SECONDS):
            found = request(self._http, "GET", address, expect=dict, service=SERVICE)
        if found.get("issuer") != self.issuer:
            raise Unexpected(
                "Keycloak speaks for another issuer than the one configured.",
                detail=f"configured {self.issuer}, answered {found.get('issuer')}",
                advice="Set PILOTHOUSE_OIDC_ISSUER to the issuer Keycloak announces.",
            )
        self._document = (time.monotonic(), found)
        return found

    def endpoint(self, name: str) -> str:
        """The address of an endpoint, such as ``token_endpoint``. Raises AdapterError."""
        address = self.document().get(name)
        if not isinstance(address, str) or urlsplit(address).scheme not in ("http", "https"):
            raise Unexpected("Keycloak's discovery document is incomplete.", detail=f"no {name}")
        return address

    def post(self, endpoint: str, settings: Settings, form: dict[str, str]) -> dict[str, Any]:
        """Send a form to an endpoint as the console's client. Raises AdapterError; Denied for bad credentials."""
        address = self.endpoint(endpoint)
        secret = settings.oidc_client_secret
        auth = (settings.oidc_client_id, secret.get_secret_value()) if secret else None
        form = form if auth else {**form, "client_id": settings.oidc_client_id}
        with deadline(ASK_SECONDS):
            found: dict[str, Any] = request(
                self._http, "POST", address, data=form, auth=auth, expect=dict, service=SERVICE
            )
        return found

    def claims(self, token: str) -> dict[str, Any]:
        """The claims of a token whose signature, issuer and time were checked.

        Raises InvalidToken, or AdapterError when the keys cannot be fetched.
        """
        for fresh in (False, True):
            try:
                decoded = jwt.decode(token, self._key_set(fresh), algorithms=ALGORITHMS)
                break
            except (JoseError, ValueError) as error:
                # A key we do not know yet is the one reason to ask again: keys are rotated.
                if fresh or not self._may_be_rotated(token):
                    raise InvalidToken(type(error).__name__) from error
        registry = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": self.issuer},
            exp={"essential": True},
            sub={"essential": True},
        )
        try:
            registry.validate(decoded.claims)
        except JoseError as error:
            raise InvalidToken(type(error).__name__) from error
        return dict(decoded.claims)

    def _key_set(self, fresh: bool) -> KeySet:
        with self._lock:
            known = self._keys
            age = time.monotonic() - known[0] if known else float("inf")
            if known and age < (KEYS_AGAIN_SECONDS if fresh else KEYS_SECONDS):
                return known[1]
            address = self.endpoint("jwks_uri")
            with deadline(ASK_SECONDS):
                found = request(self._http, "GET", address, expect=dict, service=SERVICE)
            usable = [key for key in found.get("keys", []) if isinstance(key, dict) and key.get("use") != "enc"]
            try:
                keys = KeySet.import_key_set({"keys": usable})
            except (JoseError, ValueError, KeyError) as error:
                raise Unexpected("Keycloak's signing keys cannot be read.", detail=type(error).__name__) from error
            self._keys = (time.monotonic(), keys)
            return keys

    def _may_be_rotated(self, token: str) -> bool:
        return token.count(".") == 2 and self._keys is not None


_providers: dict[str, Provider] = {}
_lock = threading.Lock()


def provider(settings: Settings) -> Provider:
    """The configured provider, one instance per issuer and process."""
    with _lock:
        if settings.oidc_issuer not in _providers:
            _providers[settings.oidc_issuer] = Provider(settings.oidc_issuer)
        return _providers[settings.oidc_issuer]


def roles_of(claims: dict[str, Any]) -> frozenset[str]:
    """Realm roles in a token's claims; none where the realm does not send any."""
    access = claims.get("realm_access")
    roles = access.get("roles") if isinstance(access, dict) else None
    return frozenset(role for role in roles if isinstance(role, str)) if isinstance(roles, list) else frozenset()
