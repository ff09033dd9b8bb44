"""Sessions of signed-in people: a random id in the browser, its hash and encrypted tokens in PostgreSQL.

Every use resolves the session again, from memory for a few seconds: an ended session ends everywhere
within that time. When the tokens run out they are refreshed at Keycloak, so roles follow it and a
session ended there ends here. While Keycloak or PostgreSQL is away, people stay signed in until
their session's own end: an outage must not lock out those who mend it.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary

from cryptography.fernet import InvalidToken as BadSeal
from sqlalchemy import update

from adapters.core import AdapterError, Rejected, utcnow
from models import SessionRow
from operations.access import Actor
from operations.platform import Platform
from operations.provider import provider, roles_of

log = logging.getLogger(__name__)

FRESH_SECONDS = 5.0
KEPT = 10_000
RETRY_SECONDS = 15.0
SEEN_SECONDS = 60.0


class _Ended(Exception):
    """Keycloak, or we, will not go on with a session."""


@dataclass(frozen=True, slots=True)
class _Session:
    actor: Actor
    expires_at: datetime
    token_expires_at: datetime | None
    refresh_token_enc: str | None
    revoked: bool
    read: float
    """Monotonic time when PostgreSQL last told."""

    @property
    def alive(self) -> bool:
        return not self.revoked and utcnow() < self.expires_at


class _Cache:
    """What one process remembers of one platform's sessions; bounded, least recently used goes first."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.known: OrderedDict[str, _Session] = OrderedDict()
        self.refreshing: dict[str, threading.Lock] = {}
        self.retry_at: dict[str, float] = {}

    def get(self, key: str) -> _Session | None:
        with self.lock:
            found = self.known.get(key)
            if found is not None:
                self.known.move_to_end(key)
            return found

    def put(self, key: str, session: _Session) -> None:
        with self.lock:
            self.known[key] = session
            self.known.move_to_end(key)
            while len(self.known) > KEPT:
                old, _ = self.known.popitem(last=False)
                self.refreshing.pop(old, None)
                self.retry_at.pop(old, None)

    def drop(self, key: str) -> None:
        with self.lock:
            self.known.pop(key, None)
            self.refreshing.pop(key, None)
            self.retry_at.pop(key, None)

    def refresh_lock(self, key: str) -> threading.Lock:
        with self.lock:
            return self.refreshing.setdefault(key, threading.Lock())


_caches: WeakKeyDictionary[Platform, _Cache] = WeakKeyDictionary()
_caches_lock = threading.Lock()


def _cache(platform: Platform) -> _Cache:
    with _caches_lock:
        if platform not in _caches:
            _caches[platform] = _Cache()
        return _caches[platform]


def _key(sid: str) -> str:
    return hashlib.sha256(sid.encode("utf-8", "replace")).hexdigest()


def create(platform: Platform, claims: dict[str, Any], tokens: dict[str, Any]) -> str:
    """Begin a session from trusted claims and the token answer they came with; its id for the cookie.

    Raises StoreUnavailable when PostgreSQL cannot keep it.
    """
    sid = secrets.token_urlsafe(32)
    row = SessionRow(
        id_hash=_key(sid),
        subject=str(claims["sub"]),
        name=_name(claims),
        email=str(claims.get("email") or ""),
        roles=sorted(roles_of(claims)),
        id_token_enc=_seal(platform, tokens.get("id_token")),
        refresh_token_enc=_seal(platform, tokens.get("refresh_token")),
        token_expires_at=_token_end(claims, tokens),
        expires_at=utcnow() + timedelta(hours=platform.settings.session_hours),
    )
    with platform.database.session() as session:
        session.add(row)
    return sid


def resolve(platform: Platform, sid: str) -> Actor | None:
    """Who is behind a session id; None when there is no such session or it has ended.

    Raises StoreUnavailable only for a session this process has never seen while PostgreSQL is away.
    """
    if not sid or len(sid) > 200:
        return None
    cache, key = _cache(platform), _key(sid)
    known = cache.get(key)
    if known is None or time.monotonic() - known.read > FRESH_SECONDS:
        try:
            known = _read(platform, key)
        except AdapterError:
            if known is None:
                raise
        else:
            if known is None:
                cache.drop(key)
                return None
            cache.put(key, known)
    if not known.alive:
        return None
    if known.token_expires_at is not None and utcnow() >= known.token_expires_at:
        known = _refreshed(platform, cache, key, known)
        if known is None:
            return None
    return known.actor


def id_token(platform: Platform, sid: str) -> str | None:
    """The ID token of a session, for ending it at Keycloak; None when unknown or PostgreSQL is away."""
    try:
        with platform.database.session() as session:
            row = session.get(SessionRow, _key(sid))
            return _unseal(platform, row.id_token_enc) if row is not None else None
    except AdapterError:
        return None


def revoke(platform: Platform, sid: str) -> None:
    """End one session, here at once and everywhere within seconds. Raises StoreUnavailable."""
    key = _key(sid)
    _end(platform, key)
    _cache(platform).drop(key)


def revoke_subject(platform: Platform, subject: str) -> int:
    """End every session of one person; how many there were. Raises StoreUnavailable."""
    statement = (
        update(SessionRow)
        .where(SessionRow.subject == subject, SessionRow.revoked_at.is_(None))
        .values(revoked_at=utcnow(), id_token_enc=None, refresh_token_enc=None)
        .returning(SessionRow.id_hash)
    )
    with platform.database.session() as session:
        keys = list(session.scalars(statement))
    for key in keys:
        _cache(platform).drop(key)
    return len(keys)


def _read(platform: Platform, key: str) -> _Session | None:
    with platform.database.session() as session:
        row = session.get(SessionRow, key)
        if row is None:
            return None
        if row.revoked_at is None and (utcnow() - row.last_seen_at).total_seconds() > SEEN_SECONDS:
            row.last_seen_at = utcnow()
        return _of(row)


def _of(row: SessionRow) -> _Session:
    roles = frozenset(role for role in row.roles if isinstance(role, str))
    return _Session(
        Actor(row.subject, row.name, roles, row.email),
        row.expires_at,
        row.token_expires_at,
        row.refresh_token_enc,
        row.revoked_at is not None,
        time.monotonic(),
    )


def _refreshed(platform: Platform, cache: _Cache, key: str, stale: _Session) -> _Session | None:
    """The session with fresh tokens and roles. None when Keycloak ended it; as it was when it is away."""
    if not stale.refresh_token_enc:
        _over(platform, cache, key, "it came without a refresh token")
        return None
    if cache.retry_at.get(key, 0.0) > time.monotonic():
        return stale
    lock = cache.refresh_lock(key)
    if not lock.acquire(blocking=False):
        # Somebody refreshes it at this moment; nobody else waits for Keycloak.
        return stale
    try:
        return _refresh_at_provider(platform, cache, key)
    except _Ended as error:
        _over(platform, cache, key, str(error))
        return None
    except AdapterError as error:
        cache.retry_at[key] = time.monotonic() + RETRY_SECONDS
        log.warning("a session could not be refreshed: %s", error.sentence)
        return stale
    finally:
        lock.release()


def _refresh_at_provider(platform: Platform, cache: _Cache, key: str) -> _Session | None:
    """One refresh, with the row locked so that replicas do not use one refresh token twice."""
    from operations import oidc

    with platform.database.session() as session:
        row = session.get(SessionRow, key, with_for_update=True)
        if row is None or row.revoked_at is not None:
            cache.drop(key)
            return None
        if row.token_expires_at is None or row.token_expires_at <= utcnow():
            token = _unseal(platform, row.refresh_token_enc)
            if token is None:
                raise _Ended("its refresh token cannot be read")
            form = {"grant_type": "refresh_token", "refresh_token": token}
            try:
                answer = provider(platform.settings).post("token_endpoint", platform.settings, form)
                claims = oidc.identity(platform.settings, answer, None)
            except Rejected as error:
                # Only this word is about the session. A wrong client secret, a missing realm or too many
                # requests are about the console, and must not sign everybody out.
                if "invalid_grant" not in error.detail:
                    raise
                raise _Ended("Keycloak ended it") from error
            except oidc.SignInError as error:
                raise _Ended(str(error)) from error
            if claims["sub"] != row.subject:
                raise _Ended("Keycloak answered for another person")
            row.name, row.email = _name(claims), str(claims.get("email") or "")
            row.roles = sorted(roles_of(claims))
            row.id_token_enc = _seal(platform, answer.get("id_token"))
            row.refresh_token_enc = _seal(platform, answer.get("refresh_token")) or row.refresh_token_enc
            row.token_expires_at = _token_end(claims, answer)
        fresh = _of(row)
    cache.put(key, fresh)
    return fresh


def _over(platform: Platform, cache: _Cache, key: str, why: str) -> None:
    """Forget a session that can go on no longer; PostgreSQL being away does not bring it back."""
    log.info("a session ended: %s", why)
    cache.drop(key)
    with suppress(AdapterError):
        _end(platform, key)


def _end(platform: Platform, key: str) -> None:
    statement = (
        update(SessionRow)
        .where(SessionRow.id_hash == key, SessionRow.revoked_at.is_(None))
        .values(revoked_at=utcnow(), id_token_enc=None, refresh_token_enc=None)
    )
    with platform.database.session() as session:
        session.execute(statement)


def _name(claims: dict[str, Any]) -> str:
    return str(claims.get("name") or claims.get("preferred_username") or claims.get("email") or claims["sub"])


def _token_end(claims: dict[str, Any], tokens: dict[str, Any]) -> datetime:
    """When the shorter-lived of the ID token and the access token runs out."""
    ends = [float(claims["exp"])]
    if isinstance(tokens.get("expires_in"), int | float):
        ends.append(time.time() + float(tokens["expires_in"]))
    return datetime.fromtimestamp(min(ends), UTC)


def _seal(platform: Platform, token: Any) -> str | None:
    return platform.settings.fernet.encrypt(token.encode()).decode("ascii") if isinstance(token, str) else None


def _unseal(platform: Platform, sealed: str | None) -> str | None:
    try:
        return platform.settings.fernet.decrypt(sealed.encode("ascii")).decode() if sealed else None
    except BadSeal:
        log.warning("a stored token cannot be decrypted: was an encryption key removed?")
        return None
