"""Versions on the wire: ``ETag`` out, ``If-Match`` in."""

from __future__ import annotations

import re
from collections.abc import Callable

from fastapi import Request, Response

from api.problems import Problem

_TAG = re.compile(r'^"v?(\d+)"$|^(\d+)$')
_WEAK = re.compile(r'^W/".*"$')


def tag(response: Response, version: int) -> None:
    """Give an answer its version as a strong ETag."""
    response.headers["ETag"] = f'"{version}"'


def required(request: Request, stored: Callable[[], int] | None = None) -> int:
    """The version the client saw. With ``*`` it saw none and wants whatever is there: the version ``stored`` gives.

    Raises 428 without If-Match, 412 for a weak ETag (If-Match compares strongly, so it never matches), 400 when it
    is not a version, and for ``*`` whatever ``stored`` raises where nothing is there.
    """
    given = request.headers.get("if-match")
    if given is None:
        raise Problem(428, "version-required", "Send If-Match with the ETag you read, so that no change is lost.")
    words = given.strip()
    if words == "*" and stored is not None:
        return stored()
    if _WEAK.match(words):
        raise Problem(412, "stale-version", "If-Match compares strongly: a weak ETag never matches. Send it as read.")
    found = _TAG.match(words)
    if found is None:
        raise Problem(400, "bad-version", 'If-Match must be one ETag as it was sent, such as "3".')
    return int(found.group(1) or found.group(2))


def optional(request: Request, stored: Callable[[], int] | None = None) -> int | None:
    """The version the client saw, or None when it did not say."""
    return required(request, stored) if "if-match" in request.headers else None
