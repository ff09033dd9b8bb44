"""Versions on the wire: ``ETag`` out, ``If-Match`` in, as RFC 9110 section 13.1.1 has it."""

from __future__ import annotations

import re
from collections.abc import Callable

from fastapi import Request, Response

from api.problems import Problem

_ONE = r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"'
_LIST = re.compile(rf"[ \t,]*{_ONE}(?:[ \t]*,[ \t,]*{_ONE})*[ \t,]*")
_EACH = re.compile(_ONE)
_OURS = re.compile(r"v?(0|[1-9][0-9]{0,18})")
_HIGHEST = 2**63 - 1


def tag(response: Response, version: int) -> None:
    """Give an answer its version as a strong ETag."""
    response.headers["ETag"] = f'"{version}"'


def required(request: Request, stored: Callable[[], int]) -> int:
    """The version the client saw, of the one, ``*`` or the list in If-Match. ``stored`` gives the present version.

    It is asked for ``*``, which matches whatever is there, and for a list, of which any may match. What a list names
    and does not match is returned as its first version: the change itself then says what is there now.
    Raises 428 without If-Match, 412 where nothing in it can match (If-Match compares strongly: a weak ETag never
    does), 400 when it is no list of ETags, and whatever ``stored`` raises where nothing is there.
    """
    given = ",".join(request.headers.getlist("if-match"))
    if "if-match" not in request.headers:
        raise Problem(428, "version-required", "Send If-Match with the ETag you read, so that no change is lost.")
    words = given.strip()
    if words == "*":
        return stored()
    named = _named(words)
    if len(named) == 1:
        return named[0]
    present = stored()
    return present if present in named else named[0]


def optional(request: Request, stored: Callable[[], int]) -> int | None:
    """The version the client saw, or None when it did not say."""
    return required(request, stored) if "if-match" in request.headers else None


def _named(words: str) -> list[int]:
    """The versions that a list of ETags names, each once, in its order. Raises 412 where there is none, and 400."""
    if (bare := _OURS.fullmatch(words)) is not None:
        tags = [("", bare.group())]  # without its quotes, as some clients send it
    elif _LIST.fullmatch(words):
        tags = _EACH.findall(words)
    else:
        raise Problem(400, "bad-version", 'If-Match must be ETags as they were sent, such as "3", or *.')
    strong = [_OURS.fullmatch(opaque) for weak, opaque in tags if not weak]
    named = dict.fromkeys(int(found.group(1)) for found in strong if found and int(found.group(1)) <= _HIGHEST)
    if named:
        return list(named)
    if strong:
        raise Problem(412, "stale-version", "None of the ETags in If-Match is one that was ever sent. Read it again.")
    raise Problem(412, "stale-version", "If-Match compares strongly: a weak ETag never matches. Send it as read.")
