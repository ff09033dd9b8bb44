"""Which paths are open, which need a session, and which do not exist here."""

from __future__ import annotations

from urllib.parse import urlsplit

SIGN_IN = "/sign-in"
START = "/auth/login"
CALLBACK = "/auth/callback"
SIGNED_OUT = "/auth/signed-out"
SIGN_OUT = ("/sign-out", "/auth/logout")
COOKIE = "pilothouse_session"
HEADER = b"x-pilothouse-session"

_OPEN = frozenset(
    {SIGN_IN, START, CALLBACK, SIGNED_OUT, *SIGN_OUT, "/metrics", "/favicon.png", "/favicon.ico", "/_stcore/health"}
)
_OPEN_UNDER = ("/api/v2/", "/app/static/", "/static/")
_ABSENT_UNDER = (
    "/_stcore/metrics",
    "/_stcore/agent",
    "/_stcore/script-health-check",
    "/oauth2callback",
)


def normal(path: str) -> str:
    """The path with doubled slashes folded, so that `//_stcore/metrics` is not another path."""
    while "//" in path:
        path = path.replace("//", "/")
    return path or "/"


def is_open(path: str) -> bool:
    """Whether anybody may ask for the path. What lies under the API asks for its own token."""
    return path in _OPEN or path == "/api/v2" or path.startswith(_OPEN_UNDER)


def is_absent(path: str) -> bool:
    """Whether the path is one of Streamlit's that this console does not offer."""
    return path.startswith(_ABSENT_UNDER)


def is_asset(path: str) -> bool:
    """Whether the path names a file that is the same for everyone and may be cached."""
    return path.startswith(("/static/", "/app/static/", "/favicon"))


def wanted(target: str | None) -> str:
    """A safe place to go after signing in: a local path with its query, ``/`` for anything else."""
    if not target or len(target) > 2000 or not target.startswith("/") or target.startswith(("//", "/\\")):
        return "/"
    if any(ord(char) < 0x20 or char == "\\" for char in target):
        return "/"
    parts = urlsplit(target)
    if parts.scheme or parts.netloc or parts.path.startswith((SIGN_IN, "/sign-out", "/auth/", "/_stcore", "/api/")):
        return "/"
    return target
