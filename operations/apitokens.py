"""Pilothouse's own API tokens: shown once, kept as a hash.

A token is 256 bits of randomness, so a plain SHA-256 is enough: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from weakref import WeakKeyDictionary

from sqlalchemy import select

from adapters.core import utcnow
from models import ApiTokenRow
from operations.access import ROLES, Actor, Permission
from operations.change import FieldError, Invalid, NotFound, door
from operations.platform import Platform

PREFIX = "ph_"
FRESH_SECONDS = 5.0
KEPT = 1_000
USED_SECONDS = 60.0
LISTED = 500


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token as it can be listed: never the token itself."""

    id: int
    name: str
    owner: str
    roles: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


_known: WeakKeyDictionary[Platform, OrderedDict[str, tuple[float, Actor | None]]] = WeakKeyDictionary()
_lock = threading.Lock()


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def create(
    platform: Platform,
    actor: Actor,
    name: str,
    roles: frozenset[str],
    *,
    expires_at: datetime | None = None,
    reason: str = "",
    token: str | None = None,
) -> str:
    """Make a token with at most the actor's own permissions; returns it, this once.

    ``token`` brings one of its own (a sandbox does). Raises Invalid for unknown or wider roles, an
    empty name or a past expiry, and access.Forbidden.
    """
    errors = []
    if not name.strip() or len(name) > 100:
        errors.append(FieldError("name", "is empty or too long", "1 to 100 characters"))
    unknown = sorted(roles - set(ROLES))
    if unknown or not roles:
        errors.append(
            FieldError("roles", f"unknown: {', '.join(unknown)}" if unknown else "are missing", ", ".join(ROLES))
        )
    elif not Actor("", "", roles).permissions <= actor.permissions:
        errors.append(FieldError("roles", "allow more than you may yourself", ", ".join(sorted(actor.roles))))
    if expires_at is not None and expires_at <= utcnow():
        errors.append(FieldError("expires_at", "is in the past", "a time to come"))
    if errors:
        raise Invalid(errors)
    made = token or PREFIX + secrets.token_urlsafe(32)
    with door(
        platform, actor, Permission.INFRA_CONFIGURE, action="apitoken.create", subject=f"apitoken/{name}", reason=reason
    ) as change:
        change.session.add(
            ApiTokenRow(name=name, token_hash=_hash(made), owner=actor.id, roles=sorted(roles), expires_at=expires_at)
        )
        change.audit(None, {"name": name, "roles": sorted(roles), "expires_at": expires_at})
    return made


def verify(platform: Platform, token: str) -> Actor | None:
    """The actor of a token, None when it is unknown, expired or revoked. Raises StoreUnavailable."""
    if not token.startswith(PREFIX) or len(token) > 200:
        return None
    key = _hash(token)
    with _lock:
        cache = _known.setdefault(platform, OrderedDict())
        known = cache.get(key)
    if known is not None and time.monotonic() - known[0] < FRESH_SECONDS:
        return known[1]
    now = utcnow()
    with platform.database.session() as session:
        row = session.scalars(select(ApiTokenRow).where(ApiTokenRow.token_hash == key)).one_or_none()
        actor = None
        if row is not None and row.revoked_at is None and (row.expires_at is None or row.expires_at > now):
            roles = frozenset(role for role in row.roles if isinstance(role, str))
            actor = Actor(f"token:{row.id}", row.name, roles, kind="program")
            if row.last_used_at is None or (now - row.last_used_at).total_seconds() > USED_SECONDS:
                row.last_used_at = now
    with _lock:
        cache[key] = (time.monotonic(), actor)
        while len(cache) > KEPT:
            cache.popitem(last=False)
    return actor


def revoke(platform: Platform, actor: Actor, token_id: int, reason: str = "") -> None:
    """End a token within seconds. Raises NotFound and access.Forbidden."""
    with door(
        platform,
        actor,
        Permission.INFRA_CONFIGURE,
        action="apitoken.revoke",
        subject=f"apitoken/{token_id}",
        reason=reason,
    ) as change:
        row = change.session.get(ApiTokenRow, token_id, with_for_update=True)
        if row is None:
            raise NotFound(f"There is no API token {token_id}.")
        row.revoked_at = row.revoked_at or utcnow()
        change.audit({"name": row.name, "revoked": False}, {"name": row.name, "revoked": True})
    with _lock:
        _known.pop(platform, None)


def listed(platform: Platform, actor: Actor) -> list[ApiToken]:
    """Tokens, newest first, at most 500: all for those who may configure, else the actor's own."""
    query = select(ApiTokenRow).order_by(ApiTokenRow.id.desc()).limit(LISTED)
    if not actor.may(Permission.INFRA_CONFIGURE):
        query = query.where(ApiTokenRow.owner == actor.id)
    with platform.database.session() as session:
        return [
            ApiToken(
                row.id,
                row.name,
                row.owner,
                tuple(row.roles),
                row.created_at,
                row.expires_at,
                row.revoked_at,
                row.last_used_at,
            )
            for row in session.scalars(query)
        ]
