"""What the tests of every HTTP adapter ask of it while its server behaves as badly as a real one can."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from adapters.core.adapter import Adapter
from adapters.core.errors import AdapterError
from adapters.core.model import State
from adapters.core.probe import probe
from tests.support_faulty import FaultyServer, no_leaks

STATES = {"hang": State.NO_ANSWER, "drip": State.NO_ANSWER}


def health_is_a_value(fault: str, make: Callable[[str], Adapter[Any]], secret: str) -> None:
    """Its health under ``fault`` comes in time, with what to do, without the ``secret``; nothing is left behind."""
    with no_leaks():
        with FaultyServer(fault) as server:
            adapter = make(server.url)
            start = time.monotonic()
            sample = probe(adapter)
            assert time.monotonic() - start < 3.2
            assert sample.health.state is STATES.get(fault, State.DOWN), sample.health
            assert sample.health.message and sample.health.advice
            assert secret not in repr(sample)
        adapter.close()


def fail_in_time(fault: str, first: Callable[[], Any], *others: Callable[[], Any]) -> None:
    """Each call fails with an error of the adapter's own, in time; of those that wait for it, one is enough."""
    for call in (first,) if fault in ("hang", "drip") else (first, *others):
        start = time.monotonic()
        with pytest.raises(AdapterError):
            call()
        assert time.monotonic() - start < 3
