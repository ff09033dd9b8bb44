"""Secrets leave raw error texts before anyone keeps them."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from adapters.core.redact import LIMIT, redact


@pytest.mark.parametrize(
    "text",
    [
        "could not connect to postgresql://me:canary-pw@host/db",
        "redis://:canary-pw@host:6379/0 refused",
        "connection failed: host=x password=canary-pw user=y",
        "token: canary-pw, expired",
        "the key canary-pw is unknown",
    ],
)
def test_secrets_are_taken_out(text: str) -> None:
    shown = redact(text, SecretStr("canary-pw"))
    assert "canary-pw" not in shown
    assert "••••" in shown


def test_a_secret_that_was_quoted_for_a_url_is_found() -> None:
    assert "p%40ss" not in redact("GET /x?k=p%40ss", "p@ss")


def test_what_is_not_secret_stays_and_long_texts_are_cut() -> None:
    assert redact("no such table: users", None, SecretStr("")) == "no such table: users"
    assert len(redact("x" * 10_000)) < LIMIT + 10
