"""What the Keycloak adapter reads out of the Admin API's answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from adapters.core.errors import Unexpected
from adapters.core.model import Setting, Unit

MAX_TEXT = 200


@dataclass(frozen=True, slots=True)
class Realm:
    """One realm; counts are None where the service account may not read them."""

    name: str
    title: str
    enabled: bool
    brute_force: bool | None
    events: bool | None
    """Whether login events are kept; None where that may not be read."""
    users: int | None = None
    sessions: int | None = None
    """Active sessions, counted per client: a person in two clients counts twice."""
    failed_logins: int | None = None
    """In the last hour; None where events are not kept."""


@dataclass(frozen=True, slots=True)
class UserSession:
    """One person's session, with the clients it is used in."""

    id: str
    username: str
    address: str
    started_at: datetime | None
    last_access_at: datetime | None
    clients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LoginFailure:
    """One sign-in that failed."""

    at: datetime
    username: str
    address: str
    client: str
    error: str


@dataclass(frozen=True, slots=True)
class Group:
    """A top-level group; of attributes with several values only the first."""

    id: str
    name: str
    attributes: Mapping[str, str]


def wrong(what: str, row: object) -> Unexpected:
    """The error for an answer that is JSON and not what was asked for."""
    return Unexpected(f"Keycloak answered {what} in an unexpected shape.", detail=str(row)[:300])


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return str(value)[:MAX_TEXT] if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def moment(value: object) -> datetime | None:
    """Milliseconds since the epoch as a time in UTC; None for anything else, and for 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        return None
    try:
        return datetime.fromtimestamp(value / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def realm(row: object) -> Realm:
    """Read one realm of the listing. Raises Unexpected."""
    one = _dict(row)
    name = one.get("realm")
    if not isinstance(name, str) or not name:
        raise wrong("a realm", row)
    return Realm(
        name=name[:MAX_TEXT],
        title=_text(one.get("displayName")) or name[:MAX_TEXT],
        enabled=one.get("enabled") is not False,
        brute_force=_flag(one.get("bruteForceProtected")),
        events=_flag(one.get("eventsEnabled")),
    )


def active(rows: list[Any]) -> dict[str, int]:
    """Active sessions by the client's id, out of client-session-stats. Raises Unexpected."""
    found: dict[str, int] = {}
    for row in rows:
        one = _dict(row)
        try:
            found[str(one["id"])] = int(one["active"])  # written as text by Keycloak
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise wrong("its sessions", row) from error
    return found


def session(row: object) -> UserSession:
    """Read one user session. Raises Unexpected."""
    one = _dict(row)
    if not isinstance(one.get("id"), str):
        raise wrong("a session", row)
    return UserSession(
        id=one["id"][:MAX_TEXT],
        username=_text(one.get("username")) or _text(one.get("userId")),
        address=_text(one.get("ipAddress")),
        started_at=moment(one.get("start")),
        last_access_at=moment(one.get("lastAccess")),
        clients=tuple(sorted(_text(name) for name in list(_dict(one.get("clients")).values())[:20])),
    )


def failure(row: object) -> LoginFailure:
    """Read one LOGIN_ERROR event. Raises Unexpected."""
    one = _dict(row)
    at = moment(one.get("time"))
    if at is None:
        raise wrong("an event", row)
    return LoginFailure(
        at=at,
        username=_text(_dict(one.get("details")).get("username")) or _text(one.get("userId")),
        address=_text(one.get("ipAddress")),
        client=_text(one.get("clientId")),
        error=_text(one.get("error")),
    )


def group(row: object) -> Group:
    """Read one group. Raises Unexpected."""
    one = _dict(row)
    if not all(isinstance(one.get(name), str) and one[name] for name in ("id", "name")):
        raise wrong("a group", row)
    values = _dict(one.get("attributes"))
    first = {str(name): str(told[0]) for name, told in values.items() if isinstance(told, list) and told}
    return Group(one["id"], one["name"], first)


_SETTINGS: tuple[tuple[str, str, str, Unit], ...] = (
    ("enabled", "Realm enabled", "General", Unit.NONE),
    ("sslRequired", "TLS required", "General", Unit.NONE),
    ("accessTokenLifespan", "Access token lifespan", "Tokens", Unit.SECONDS),
    ("accessCodeLifespan", "Code lifespan", "Tokens", Unit.SECONDS),
    ("accessCodeLifespanLogin", "Time to sign in", "Tokens", Unit.SECONDS),
    ("revokeRefreshToken", "Refresh tokens used once", "Tokens", Unit.NONE),
    ("refreshTokenMaxReuse", "Refresh token reuses", "Tokens", Unit.COUNT),
    ("defaultSignatureAlgorithm", "Signature algorithm", "Tokens", Unit.NONE),
    ("ssoSessionIdleTimeout", "Session idle timeout", "Sessions", Unit.SECONDS),
    ("ssoSessionMaxLifespan", "Session lifespan", "Sessions", Unit.SECONDS),
    ("offlineSessionIdleTimeout", "Offline session idle timeout", "Sessions", Unit.SECONDS),
    ("rememberMe", "Remember me", "Sessions", Unit.NONE),
    ("registrationAllowed", "Self-registration", "Sign-in", Unit.NONE),
    ("verifyEmail", "E-mail verified", "Sign-in", Unit.NONE),
    ("loginWithEmailAllowed", "Sign-in by e-mail", "Sign-in", Unit.NONE),
    ("resetPasswordAllowed", "Forgotten password", "Sign-in", Unit.NONE),
    ("passwordPolicy", "Password policy", "Sign-in", Unit.NONE),
    ("otpPolicyType", "One-time codes", "Sign-in", Unit.NONE),
    ("bruteForceProtected", "Brute force protection", "Brute force", Unit.NONE),
    ("permanentLockout", "Permanent lockout", "Brute force", Unit.NONE),
    ("failureFactor", "Failures before a lockout", "Brute force", Unit.COUNT),
    ("waitIncrementSeconds", "Wait after a lockout", "Brute force", Unit.SECONDS),
    ("maxFailureWaitSeconds", "Longest wait", "Brute force", Unit.SECONDS),
    ("maxDeltaTimeSeconds", "Failures forgotten after", "Brute force", Unit.SECONDS),
    ("eventsEnabled", "Login events kept", "Events", Unit.NONE),
    ("eventsExpiration", "Login events kept for", "Events", Unit.SECONDS),
    ("adminEventsEnabled", "Admin events kept", "Events", Unit.NONE),
)
"""Field of the realm's representation, name, group and unit. Nothing secret is among them."""


def settings(row: Mapping[str, Any]) -> list[Setting]:
    """The realm's settings that concern an operator. Raises Unexpected where it is no realm."""
    if not isinstance(row.get("realm"), str):
        raise wrong("a realm", row)
    found = []
    for field, name, group, unit in _SETTINGS:
        value = row.get(field)
        if isinstance(value, bool):
            found.append(Setting(name, "on" if value else "off", group=group))
        elif isinstance(value, int | float):
            found.append(Setting(name, str(value), unit, group))
        elif isinstance(value, str):
            found.append(Setting(name, value[:MAX_TEXT] or "none", group=group))
    return found
