"""Readings: shared, scheduled, never in anybody's way."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from adapters.core import Unreachable
from operations.readings import Readings


@pytest.fixture
def readings() -> Iterator[Readings]:
    made = Readings(workers=4)
    yield made
    made.close()


def until(predicate: object, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not predicate():  # type: ignore[operator]
        assert time.monotonic() < end, "it never became true"
        threading.Event().wait(0.005)


def test_first_look_brings_the_value_and_its_age(readings: Readings) -> None:
    reading = readings.get("x:a", lambda: 7, wait=2)
    assert (reading.value, reading.error, reading.pending) == (7, None, False)
    assert reading.fetched_at is not None


def test_a_slow_service_makes_nobody_wait(readings: Readings) -> None:
    let_go = threading.Event()
    start = time.monotonic()
    reading = readings.get("x:slow", lambda: let_go.wait(10), wait=0.05)
    assert time.monotonic() - start < 1
    assert reading.pending
    assert reading.value is None
    let_go.set()
    until(lambda: not readings.get("x:slow", lambda: True).pending)


def test_calls_do_not_grow_with_the_people_looking(readings: Readings) -> None:
    def calls_with(people: int) -> int:
        calls: list[float] = []
        key = f"x:{people}"
        end = time.monotonic() + 1.05

        def look() -> None:
            while time.monotonic() < end:
                readings.get(key, lambda: calls.append(time.monotonic()), every=0.2)
                threading.Event().wait(0.01)

        threads = [threading.Thread(target=look) for _ in range(people)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(calls)

    alone, crowd = calls_with(1), calls_with(25)
    assert abs(alone - crowd) <= 1
    assert crowd <= 7


def test_an_error_keeps_the_last_known_value(readings: Readings) -> None:
    answers = iter([1])

    def fetch() -> int:
        try:
            return next(answers)
        except StopIteration:
            raise Unreachable("gone") from None

    first = readings.get("x:flaky", fetch, every=0.02, wait=2)
    assert first.value == 1
    until(lambda: readings.get("x:flaky", fetch, every=0.02).error is not None)
    later = readings.get("x:flaky", fetch, every=0.02)
    assert later.value == 1
    assert later.fetched_at == first.fetched_at
    assert later.error is not None
    assert later.error.sentence == "gone"


def test_a_fetch_that_breaks_its_contract_becomes_an_error(readings: Readings) -> None:
    reading = readings.get("x:bug", lambda: 1 // 0, wait=2)
    assert reading.error is not None
    assert "could not understand" in reading.error.sentence


def test_nobody_looking_stops_the_calls(readings: Readings) -> None:
    calls: list[int] = []
    readings.get("x:idle", lambda: calls.append(1), every=0.02, wait=2)
    seen: list[int] = []

    def settled() -> bool:
        seen.append(len(calls))
        return len(seen) > 60 and len(set(seen[-50:])) == 1

    until(settled)


def test_forget_fetches_anew(readings: Readings) -> None:
    values = iter(range(10))
    assert readings.get("x:n", lambda: next(values), every=60, wait=2).value == 0
    readings.forget("x:")
    assert readings.get("x:n", lambda: next(values), every=60, wait=2).value == 1
