"""probe_all: one Health per service within the deadline, whatever the services do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from adapters.core import (
    Adapter,
    Category,
    Health,
    Metric,
    Service,
    ServiceConfig,
    Setting,
    State,
    Unreachable,
    remaining,
)
from adapters.core.probe import FAILURES_TO_OPEN, probe, probe_all, sample_all


class Config(ServiceConfig):
    url: str | None = "x"
    model_config = ServiceConfig.model_config


class NeedsUrl(ServiceConfig):
    from pydantic import Field as _Field

    url: str | None = _Field(None, json_schema_extra={"required": True})


def adapter(slug: str, answer: object, config: ServiceConfig | None = None) -> Adapter[Config]:
    class Fake(Adapter[Config]):
        service = Service(slug, slug.title(), Category.DATA, f"/{slug}", "", "")
        calls = 0

        def health(self) -> Health:
            type(self).calls += 1
            return answer()  # type: ignore[operator, no-any-return]

        def metrics(self) -> Sequence[Metric]:
            return [Metric("n", "N", 1, headline=True)]

        def settings(self) -> Sequence[Setting]:
            return []

    return Fake(config or Config())  # type: ignore[arg-type]


def well() -> Health:
    return Health(State.HEALTHY, "Fine.")


@pytest.fixture
def let_go() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def refuse() -> Health:
    raise Unreachable("Nobody is home.", detail="ECONNREFUSED")


def test_a_hanging_service_costs_its_own_card_only(let_go: threading.Event) -> None:
    def hang() -> Health:
        let_go.wait(30)
        return well()

    hanging = adapter("hang", hang)
    start = time.monotonic()
    found = probe_all([adapter("a", well), hanging, adapter("b", refuse)], deadline=0.5)
    assert time.monotonic() - start < 2
    assert found["a"].state is State.HEALTHY
    assert found["hang"].state is State.NO_ANSWER
    assert found["b"].state is State.DOWN
    assert found["b"].detail == "ECONNREFUSED"
    assert found["b"].kind == "Unreachable"
    before = type(hanging).calls
    probe_all([hanging], deadline=0.1)
    assert type(hanging).calls == before, "an adapter still busy is not asked again"


def test_the_deadline_reaches_the_adapter() -> None:
    left: list[float] = []

    def look() -> Health:
        left.append(remaining())
        return well()

    probe_all([adapter("d", look)], deadline=1.0)
    assert 0 < left[0] <= 0.7


def test_a_bug_in_an_adapter_becomes_a_health() -> None:
    def bug() -> Health:
        raise KeyError("boom")

    health = probe_all([adapter("bug", bug)])["bug"]
    assert health.state is State.DOWN
    assert "KeyError" in health.detail


def test_unconfigured_is_not_down_and_says_what_to_set() -> None:
    class Lonely(Adapter[NeedsUrl]):
        service = Service("lonely", "Lonely", Category.DATA, "/lonely", "", "")
        health = metrics = settings = lambda self: pytest.fail("it must not be asked")  # type: ignore[assignment]

    health = probe(Lonely(NeedsUrl())).health
    assert health.state is State.UNCONFIGURED
    assert "PILOTHOUSE_LONELY_URL" in health.message


def test_the_breaker_spares_a_dead_service_and_says_until_when() -> None:
    dead = adapter("dead", refuse)
    for _ in range(FAILURES_TO_OPEN):
        probe(dead)
    asked = type(dead).calls
    health = probe(dead).health
    assert type(dead).calls == asked
    assert health.state is State.DOWN
    assert health.message == "Nobody is home."
    assert health.paused_until is not None
    forced = sample_all([dead], force=True)["dead"].health
    assert type(dead).calls == asked + 1
    assert forced.paused_until is None


def test_metrics_that_fail_leave_health_alone() -> None:
    class Half(Adapter[Config]):
        service = Service("half", "Half", Category.DATA, "/half", "", "")

        def health(self) -> Health:
            return well()

        def metrics(self) -> Sequence[Metric]:
            raise Unreachable("No numbers.")

        def settings(self) -> Sequence[Setting]:
            return []

    sample = probe(Half(Config()))
    assert sample.health.state is State.HEALTHY
    assert sample.metrics == ()
    assert sample.metrics_error == "No numbers."


def test_latency_and_time_are_measured() -> None:
    sample = probe(adapter("m", well))
    assert sample.health.latency_ms is not None
    assert sample.health.latency_ms >= 0
    assert sample.health.checked_at.tzinfo is not None
    assert sample.headline is not None
