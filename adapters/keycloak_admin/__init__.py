"""The Admin REST API of Keycloak: a service account's token, kept and renewed, and bounded calls."""

from __future__ import annotations

import time
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import SecretStr

from adapters.core.errors import Denied, Rejected, Unconfigured, Unexpected
from adapters.core.http import NotSupported, request

T = TypeVar("T")
MARGIN_SECONDS = 30.0
"""How long before its end a token is no longer used."""


class Admin:
    """Calls to one Keycloak as one service account. Makes none before it is asked."""

    def __init__(self, http: httpx.Client, realm: str, client_id: str | None, secret: SecretStr | None) -> None:
        self._http, self._realm, self._client_id, self._secret = http, realm, client_id, secret
        self._token: tuple[str, float] | None = None

    def get(self, path: str, expect: type[T], **params: Any) -> T:
        """GET below ``/admin/realms``. A token refused is fetched anew, once. Raises AdapterError."""
        answer: T = self._ask("GET", path, expect=expect, params=params)
        return answer

    def write(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        """POST, PUT or DELETE below ``/admin/realms``, with a JSON body. Raises AdapterError, NotSupported for 404."""
        self._ask(method, path, expect=bytes, **({} if body is None else {"json": body}))

    def _ask(self, method: str, path: str, **kw: Any) -> Any:
        kept = self._token
        try:
            return self._send(method, path, kw)
        except Denied as error:
            # Only a kept token can be stale: one just fetched and refused stays refused. What was refused
            # was not done, so a change may be sent again.
            if kept is None or "HTTP 401" not in error.detail:
                raise
            self._token = None
        return self._send(method, path, kw)

    def _send(self, method: str, path: str, kw: dict[str, Any]) -> Any:
        headers = {"authorization": f"Bearer {self._bearer()}"}
        return request(
            self._http, method, f"/admin/realms{path}", service="Keycloak's Admin API", headers=headers, **kw
        )

    def _bearer(self) -> str:
        kept = self._token
        if kept is not None and time.monotonic() < kept[1]:
            return kept[0]
        if not self._client_id or self._secret is None:
            missing = tuple(
                name for name, value in (("client_id", self._client_id), ("client_secret", self._secret)) if not value
            )
            names = ", ".join(f"PILOTHOUSE_KEYCLOAK_{name.upper()}" for name in missing)
            raise Unconfigured(f"Keycloak's Admin API needs a service account: set {names}.", missing=missing)
        form = {
            "grant_type": "client_credentials",
            "client_id": self._client_id,
            "client_secret": self._secret.get_secret_value(),
        }
        path = f"/realms/{quote(self._realm, safe='')}/protocol/openid-connect/token"
        try:
            row = request(self._http, "POST", path, expect=dict, service="Keycloak", data=form)
        except NotSupported as error:
            raise Rejected(f"Keycloak has no realm {self._realm!r} to sign in at.", detail=error.detail) from error
        except Rejected as error:
            # Versions differ in the status of a wrong client: 400 or 401.
            raise Denied("Keycloak refused the console's service account.", detail=error.detail) from error
        token, seconds = row.get("access_token"), row.get("expires_in")
        if not isinstance(token, str) or not token or not token.isascii():
            raise Unexpected(
                "Keycloak answered without an access token.", detail=f"fields: {sorted(map(str, row))[:20]}"
            )
        life = float(seconds) if isinstance(seconds, int | float) and 0 < seconds < 10**8 else 60.0
        # A life shorter than twice the margin is halved: never using it would ask for one each time.
        self._token = (token, time.monotonic() + max(life - MARGIN_SECONDS, life / 2))
        return token
