"""If-Match as RFC 9110 section 13.1.1 has it: one ETag, a list, or ``*``; compared strongly."""

from __future__ import annotations

import pytest
from fastapi import Request

from api import versions
from api.problems import Problem

PRESENT = 7


def seen(*conditions: str) -> int | None:
    headers = [(b"if-match", condition.encode("latin-1")) for condition in conditions]
    return versions.optional(Request({"type": "http", "headers": headers}), lambda: PRESENT)


@pytest.mark.parametrize(
    ("conditions", "version"),
    [
        ((), None),
        (("*",), PRESENT),
        ((" * ",), PRESENT),
        (('"3"',), 3),
        (("3",), 3),
        (('"3", "7"',), PRESENT),
        (('"3"', '"7"'), PRESENT),  # one field or two, it is one list
        ((' , "3",, "7" ,',), PRESENT),
        (('"3","4"',), 3),  # none matches: the change itself says what is there
        (('W/"7", "4"',), 4),
        (('"odd,one", "7"',), PRESENT),
    ],
)
def test_what_was_seen(conditions: tuple[str, ...], version: int | None) -> None:
    assert seen(*conditions) == version


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ('W/"7"', 412),
        ('W/"7", W/"8"', 412),
        ('"never-sent"', 412),
        (f'"{2**63}"', 412),
        (f'"{"9" * 5000}"', 412),
        ('"07"', 412),
        ('"no spaces"', 400),
        ("soon", 400),
        ('"7', 400),
        ('"7" "8"', 400),
        ('*, "7"', 400),
        ('w/"7"', 400),
        ("", 400),
        (",", 400),
        ("\xb2", 400),
    ],
)
def test_what_cannot_match(condition: str, status: int) -> None:
    with pytest.raises(Problem) as refused:
        seen(condition)
    assert refused.value.status == status


def test_it_is_required() -> None:
    with pytest.raises(Problem) as refused:
        versions.required(Request({"type": "http", "headers": []}), lambda: PRESENT)
    assert refused.value.status == 428
