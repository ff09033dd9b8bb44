"""Versions on the wire: ``ETag`` out, ``If-Match`` in."""

from __future__ import annotations

import re

from fastapi import Request, Response

from api.problems import Problem

_TAG = re.compile(r'^(?:W/)?"v?(\d+)"$|^(\d+)$')


def tag(response: Response, version: int) -> None:
    """Give an answer its version as a strong ETag."""
    response.headers["ETag"] = f'"{version}"'


def required(request: Request) -> int:
    """The version the client saw. Raises 428 without If-Match, 400 when it is not a version."""
    given = request.headers.get("if-match")
    if given is None:
        raise Problem(428, "version-required", "Send If-Match with the ETag you read, so that no change is lost.")
    found = _TAG.match(given.strip())
    if found is None:
        raise Problem(400, "bad-version", 'If-Match must be one ETag as it was sent, such as "3".')
    return int(found.group(1) or found.group(2))


def optional(request: Request) -> int | None:
    """The version the client saw, or None when it did not say."""
    return required(request) if "if-match" in request.headers else None
