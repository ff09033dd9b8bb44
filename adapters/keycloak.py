"""Keycloak: sign-in. Health is the realm's discovery document; numbers come from the Admin REST API."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import Field, SecretStr

from adapters.core.adapter import Adapter, ServiceConfig
from adapters.core.deadline import deadline
from adapters.core.errors import Denied, Rejected, TimedOut, Unexpected
from adapters.core.http import NotSupported, request
from adapters.core.http import client as http_client
from adapters.core.model import Category, Health, Metric, Service, Setting, State, utcnow
from adapters.keycloak_admin import Admin, groups, records
from adapters.keycloak_admin.records import Group, LoginFailure, Realm, UserSession

T = TypeVar("T")
MAX_REALMS = 10
"""Realms whose users, sessions and events are counted; all are listed."""
MAX_EVENTS = 500
MAX_CLIENTS = 20
WRITE_SECONDS = 10.0


class KeycloakConfig(ServiceConfig):
    """How to reach Keycloak, and the service account that may read its Admin API."""

    url: str | None = Field(
        None, title="Address", description="https://host:port, without /realms.", json_schema_extra={"required": True}
    )
    realm: str = Field("pilothouse", title="Realm", description="The realm people sign in at; health asks it.")
    admin_realm: str = Field("master", title="Realm of the service account", description="Where client_id lives.")
    client_id: str | None = Field(
        None, title="Service account", description="Client with the grant client_credentials."
    )
    client_secret: SecretStr | None = Field(None, title="Secret of the service account")


class Keycloak(Adapter[KeycloakConfig]):
    """One Keycloak, seen from the realm the console signs in at."""

    service = Service(
        slug="keycloak",
        title="Keycloak",
        category=Category.IDENTITY,
        path="/platform/infrastructure/auth",
        purpose="Signs people in.",
        affects="sign-in everywhere",
        depends_on=("postgresql",),
        order=50,
    )

    @cached_property
    def _http(self) -> httpx.Client:
        self.require_config()
        return http_client((self.config.url or "").rstrip("/"))

    @cached_property
    def _admin(self) -> Admin:
        return Admin(self._http, self.config.admin_realm, self.config.client_id, self.config.client_secret)

    def health(self) -> Health:
        """The realm's discovery document, and that it is this realm's."""
        realm = self.config.realm
        path = f"/realms/{quote(realm, safe='')}/.well-known/openid-configuration"
        try:
            row = request(self._http, "GET", path, expect=dict, service="Keycloak")
        except NotSupported as error:
            raise Rejected(
                f"Keycloak has no realm {realm!r}, or it is disabled.",
                detail=error.detail,
                advice="Check the realm's name here, and at Keycloak that it exists and is enabled.",
            ) from error
        issuer = row.get("issuer")
        # Behind a proxy the issuer has the public host name: only its path tells which realm it is.
        if not isinstance(issuer, str) or not issuer.rstrip("/").endswith(f"/realms/{quote(realm, safe='')}"):
            raise Unexpected("The discovery document is not this realm's.", detail=f"issuer: {str(issuer)[:300]}")
        lacking = [name for name in ("token_endpoint", "jwks_uri") if not isinstance(row.get(name), str)]
        if lacking:
            raise Unexpected("The discovery document is incomplete.", detail=f"without {', '.join(lacking)}")
        return Health(State.HEALTHY, f"Realm {realm} signs people in as {issuer[:200]}.")

    def metrics(self) -> Sequence[Metric]:
        """Realms (headline), users, active sessions, failed logins of the last hour, as far as rights go."""
        listed = self.realms()
        asked = listed[:MAX_REALMS]
        note = f"first {MAX_REALMS} of {len(listed)} realms" if len(listed) > MAX_REALMS else ""
        found = [Metric("realms", "Realms", len(listed), headline=True)]
        for name, label, values in (
            ("users", "Users", [one.users for one in asked]),
            ("sessions", "Active sessions", [one.sessions for one in asked]),
            ("failed_logins", "Failed logins, last hour", [one.failed_logins for one in asked]),
        ):
            told = [value for value in values if value is not None]
            if told:
                part = f"{len(told)} of {len(asked)} realms" if len(told) < len(asked) else ""
                found.append(Metric(name, label, sum(told), note=note or part))
        return found

    def settings(self) -> Sequence[Setting]:
        """Tokens, sessions, sign-in, brute force and events of the realm; nothing secret."""
        return records.settings(self._admin.get(f"/{quote(self.config.realm, safe='')}", dict))

    def realms(self) -> tuple[Realm, ...]:
        """Every realm the service account sees, the first ten counted. Raises AdapterError.

        What it may not read is None; Denied only where it may read nothing at all.
        """
        with deadline():
            denied: Denied | None = None
            try:
                found = sorted(map(records.realm, self._admin.get("", list)), key=lambda one: one.name)
            except Denied as error:
                # An account of one realm may be refused the list and still read its own.
                found, denied = [Realm(self.config.realm, self.config.realm, True, None, None)], error
            found.sort(key=lambda one: one.name != self.config.realm)
            for place, one in enumerate(found[:MAX_REALMS]):
                try:
                    found[place] = self._counted(one)
                except TimedOut:
                    if place == 0:
                        raise
                    break
            if denied and found[0].users is None and found[0].sessions is None:
                raise denied
        return tuple(found)

    def _counted(self, one: Realm) -> Realm:
        users = self._allowed(lambda: self._count(one.name))
        sessions = self._allowed(lambda: sum(self._active(one.name).values()))
        failures = None if one.events is False else self._allowed(lambda: self.login_failures(one.name))
        # Without a word on whether events are kept, none found says nothing.
        told = failures if one.events or failures else None
        return replace(one, users=users, sessions=sessions, failed_logins=None if told is None else len(told))

    @staticmethod
    def _allowed(read: Callable[[], T]) -> T | None:
        try:
            return read()
        except (Denied, NotSupported):
            return None

    def _count(self, realm: str) -> int:
        return self._admin.get(f"/{quote(realm, safe='')}/users/count", int)

    def _active(self, realm: str) -> dict[str, int]:
        return records.active(self._admin.get(f"/{quote(realm, safe='')}/client-session-stats", list))

    def sessions(self, realm: str | None = None, limit: int = 100) -> tuple[UserSession, ...]:
        """Sessions of a realm (the configured one), last used first, of the twenty busiest clients.

        Raises AdapterError.
        """
        name = realm or self.config.realm
        limit = max(1, min(limit, MAX_EVENTS))
        found: dict[str, UserSession] = {}
        with deadline():
            busiest = sorted(self._active(name).items(), key=lambda item: -item[1])[:MAX_CLIENTS]
            for client, _ in busiest:
                path = f"/{quote(name, safe='')}/clients/{quote(client, safe='')}/user-sessions"
                rows: list[Any] = self._admin.get(path, list, first=0, max=limit)
                for one in map(records.session, rows[:limit]):
                    found[one.id] = one
        never = datetime.min.replace(tzinfo=UTC)
        return tuple(sorted(found.values(), key=lambda one: one.last_access_at or never, reverse=True)[:limit])

    def login_failures(
        self, realm: str | None = None, *, hours: float = 1.0, limit: int = MAX_EVENTS
    ) -> tuple[LoginFailure, ...]:
        """Failed sign-ins of a realm (the configured one) in the last ``hours``, newest first.

        Empty as well where the realm keeps no events: ask :meth:`realms` whether it does. Raises AdapterError.
        """
        since = utcnow() - timedelta(hours=hours)
        limit = max(1, min(limit, MAX_EVENTS))
        # dateFrom knows days only, of the server's own time zone: one more day, and the hours are told apart here.
        day = (since - timedelta(days=1)).date().isoformat()
        path = f"/{quote(realm or self.config.realm, safe='')}/events"
        rows: list[Any] = self._admin.get(path, list, type="LOGIN_ERROR", dateFrom=day, first=0, max=limit)
        return tuple(one for one in map(records.failure, rows[:limit]) if one.at >= since)

    def group(self, name: str) -> Group | None:
        """The top-level group of the configured realm with this name; None where there is none.

        Raises AdapterError.
        """
        return groups.find(self._admin, self.config.realm, name)

    def make_group(self, name: str, attributes: Mapping[str, str]) -> bool:
        """Have a top-level group with at least these attributes; False where it was there. Raises AdapterError."""
        with deadline(WRITE_SECONDS):
            return groups.make(self._admin, self.config.realm, name, attributes)

    def delete_group(self, name: str) -> bool:
        """Delete a top-level group; its members stay. False where there is none. Raises AdapterError."""
        with deadline(WRITE_SECONDS):
            return groups.delete(self._admin, self.config.realm, name)

    def close(self) -> None:
        """Close the client and forget the token."""
        self.__dict__.pop("_admin", None)
        http = self.__dict__.pop("_http", None)
        if http is not None:
            http.close()
