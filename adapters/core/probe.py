"""Asking services how they are: bounded, translated, and never raising.

A service that hangs costs its own card only: every adapter is asked in a thread of its own, an
adapter still busy from last time is not asked again, and a circuit breaker keeps a dead service
from being asked on every tick.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import timedelta
from typing import Any
from weakref import WeakKeyDictionary

import pybreaker

from adapters.core.adapter import Adapter
from adapters.core.deadline import DEFAULT_SECONDS, deadline
from adapters.core.errors import AdapterError, TimedOut, Unconfigured
from adapters.core.model import Health, Sample, State, utcnow

log = logging.getLogger(__name__)

FAILURES_TO_OPEN = 3
PAUSE_SECONDS = 20.0
DEADLINE_SECONDS = 3.0


class _Asked:
    """What is remembered of one adapter between probes: its breaker, and the call under way."""

    def __init__(self, slug: str) -> None:
        self.breaker: pybreaker.CircuitBreaker = pybreaker.CircuitBreaker(
            fail_max=FAILURES_TO_OPEN,
            reset_timeout=PAUSE_SECONDS,
            exclude=[Unconfigured],
            name=slug,
            throw_new_error_on_trip=False,
        )
        self.opened_at = 0.0
        self.last_failure: Health | None = None
        self.flight: Future[Sample] | None = None


_asked: WeakKeyDictionary[Adapter[Any], _Asked] = WeakKeyDictionary()
_lock = threading.Lock()
_pool = ThreadPoolExecutor(max_workers=64, thread_name_prefix="probe")


def _memory(adapter: Adapter[Any]) -> _Asked:
    with _lock:
        if adapter not in _asked:
            _asked[adapter] = _Asked(adapter.service.slug)
        return _asked[adapter]


def failure(adapter: Adapter[Any], error: Exception) -> Health:
    """The Health that an exception from an adapter amounts to."""
    title = adapter.service.title
    if isinstance(error, Unconfigured):
        state, sentence, detail, advice = State.UNCONFIGURED, error.sentence, "", error.advice
    elif isinstance(error, TimedOut):
        state, sentence, detail, advice = State.NO_ANSWER, error.sentence, error.detail, error.advice
    elif isinstance(error, AdapterError):
        state, sentence, detail, advice = State.DOWN, error.sentence, error.detail, error.advice
    else:
        log.exception("adapter %s raised something other than AdapterError", adapter.service.slug, exc_info=error)
        state, sentence = State.DOWN, f"{title} answered something the console did not understand."
        detail = f"{type(error).__name__}: {error}"[:400]
        advice = "Report this with the console's log: the adapter should have named the failure."
    return Health(
        state, sentence, service=adapter.service.slug, kind=type(error).__name__, detail=detail, advice=advice
    )


def _visit(adapter: Adapter[Any], seconds: float, with_metrics: bool) -> Sample:
    """Ask once, in the calling thread. Raises whatever the adapter's health() raises."""
    start = time.monotonic()
    with deadline(seconds):
        adapter.require_config()
        health = adapter.health()
        latency_ms = (time.monotonic() - start) * 1000
        health = replace(health, service=adapter.service.slug, latency_ms=round(latency_ms, 2), checked_at=utcnow())
        if not with_metrics:
            return Sample(health)
        try:
            return Sample(health, tuple(adapter.metrics()))
        except AdapterError as error:
            return Sample(health, metrics_error=error.sentence)


def _guarded(adapter: Adapter[Any], seconds: float, with_metrics: bool, force: bool) -> Sample:
    memory = _memory(adapter)
    try:
        if force and memory.breaker.current_state == pybreaker.STATE_OPEN:
            memory.breaker.half_open()
        return memory.breaker.call(_visit, adapter, seconds, with_metrics)
    except pybreaker.CircuitBreakerError:
        left = max(0.0, PAUSE_SECONDS - (time.monotonic() - memory.opened_at))
        last = memory.last_failure or Health(State.DOWN, f"{adapter.service.title} keeps failing.")
        return Sample(replace(last, service=adapter.service.slug, paused_until=utcnow() + timedelta(seconds=left)))
    except Exception as error:  # noqa: BLE001  evaluating health never fails: failures become data
        health = failure(adapter, error)
        memory.last_failure = health
        if memory.breaker.current_state == pybreaker.STATE_OPEN:
            memory.opened_at = time.monotonic()
        return Sample(health)


def sample_all(
    adapters: Iterable[Adapter[Any]],
    deadline: float = DEADLINE_SECONDS,
    *,
    metrics: bool = True,
    force: bool = False,
) -> dict[str, Sample]:
    """Ask every adapter at once; one Sample for each by slug, within ``deadline`` seconds.

    ``force`` asks also services whose breaker is open (a person pressed Refresh).
    """
    flights: dict[str, tuple[Adapter[Any], Future[Sample]]] = {}
    seconds = max(0.1, min(DEFAULT_SECONDS, deadline - 0.3))
    for adapter in adapters:
        memory = _memory(adapter)
        with _lock:
            if memory.flight is None or memory.flight.done():
                memory.flight = _pool.submit(_guarded, adapter, seconds, metrics, force)
            flights[adapter.service.slug] = (adapter, memory.flight)
    wait([flight for _, flight in flights.values()], timeout=deadline)
    return {slug: _landed(adapter, flight, deadline) for slug, (adapter, flight) in flights.items()}


def _landed(adapter: Adapter[Any], flight: Future[Sample], seconds: float) -> Sample:
    if flight.done():
        return flight.result()
    sentence = f"{adapter.service.title} gave no answer within {seconds:g} s."
    return Sample(failure(adapter, TimedOut(sentence, detail="the probe is still waiting")))


def probe_all(adapters: Iterable[Adapter[Any]], deadline: float = DEADLINE_SECONDS) -> dict[str, Health]:
    """One Health per service by slug, within ``deadline`` seconds, whatever the services do."""
    return {slug: sample.health for slug, sample in sample_all(adapters, deadline, metrics=False).items()}


def probe(adapter: Adapter[Any], seconds: float = DEADLINE_SECONDS, *, force: bool = False) -> Sample:
    """One Sample of one adapter, within ``seconds``."""
    return sample_all([adapter], seconds, force=force)[adapter.service.slug]
