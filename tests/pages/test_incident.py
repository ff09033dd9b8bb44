"""A page that fails shows a number and nothing of what failed."""

from __future__ import annotations

import logging

import pytest
from streamlit.testing.v1 import AppTest

from tests.pages.driver import texts

CANARY = "postgresql://console:canary@10.0.0.1/db"


def _failing() -> None:
    from pages.widgets import incident

    incident.show(RuntimeError("postgresql://console:canary@10.0.0.1/db"))


def _store_away() -> None:
    from adapters.core import Unreachable
    from pages.widgets import incident

    incident.show(Unreachable("PostgreSQL refuses connections.", detail="postgresql://console:canary@10.0.0.1/db"))


def test_an_unforeseen_failure_is_a_number(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        drawn = texts(AppTest.from_function(_failing).run())
    assert "incident number" in drawn
    assert CANARY not in drawn
    number = drawn.split("<code>")[1].split("</code>")[0]
    assert f"incident {number}" in caplog.text


def test_a_service_that_is_away_is_a_sentence() -> None:
    drawn = texts(AppTest.from_function(_store_away).run())
    assert "PostgreSQL refuses connections." in drawn
    assert CANARY not in drawn
