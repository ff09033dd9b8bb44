"""The HTTP client: every bound holds, every failure has a name."""

from __future__ import annotations

import time

import pytest

from adapters.core import AdapterError, Denied, TimedOut, Unexpected, Unreachable
from adapters.core.deadline import deadline
from adapters.core.http import NotSupported, TooLarge, client, request
from tests.support_faulty import BODIES, FAULTS, FaultyServer, no_leaks

NAMED: dict[str, type[AdapterError]] = {
    "refuse": Unreachable,
    "hang": TimedOut,
    "drip": TimedOut,
    "500": Unexpected,
    "401": Denied,
    "huge": TooLarge,
    "invalid": Unexpected,
    "list": Unexpected,
    "404": NotSupported,
}


@pytest.mark.parametrize("behaviour", [b for b in (*FAULTS, *BODIES) if b != "unexpected"])
def test_every_failure_has_a_name_and_an_end(behaviour: str) -> None:
    with no_leaks(), FaultyServer(behaviour) as server:
        http = client(server.url)
        start = time.monotonic()
        with pytest.raises(NAMED.get(behaviour, AdapterError)) as caught, deadline(1.0):
            request(http, "GET", "/thing", expect=dict, service="It")
        assert time.monotonic() - start < 2.5
        assert caught.value.sentence
        assert caught.value.detail
        http.close()


def test_an_inner_deadline_cannot_outlive_the_outer_one() -> None:
    with FaultyServer("hang") as server, client(server.url) as http:
        start = time.monotonic()
        with deadline(0.2), deadline(60), pytest.raises(TimedOut):
            request(http, "GET", "/")
        assert time.monotonic() - start < 1.5


def test_a_valid_answer_is_returned_checked() -> None:
    with FaultyServer("valid", answer=lambda method, path: (200, {"a": 1})) as server, client(server.url) as http:
        assert request(http, "GET", "/", expect=dict) == {"a": 1}
        assert "a" in request(http, "GET", "/", expect=str)
        with pytest.raises(Unexpected, match="unexpected shape"):
            request(http, "GET", "/", expect=list)
