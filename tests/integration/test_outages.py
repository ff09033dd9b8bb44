"""One service failing, in whatever way, costs the others nothing; and looking costs no service a call."""

from __future__ import annotations

import time

import pytest

from adapters.core import State
from adapters.core.probe import probe_all, sample_all
from operations import health
from operations.access import SYSTEM
from operations.platform import Platform
from sandbox.faults import Fault
from sandbox.inprocess import Services

pytestmark = pytest.mark.engines

DEADLINE_SECONDS = 3.0
# Each fault meets a service of another protocol or client library.
TARGETS = {
    Fault.REFUSE: "redis",
    Fault.HANG: "somabrain",
    Fault.DRIP: "postgresql",
    Fault.ERROR: "lago",
    Fault.DENIED: "qdrant",
    Fault.GARBAGE: "temporal",
    Fault.HUGE: "s3",
    Fault.RESET: "smtp",
}


def test_every_fault_has_a_service_to_meet() -> None:
    assert set(TARGETS) == set(Fault)


@pytest.mark.parametrize(("fault", "slug"), TARGETS.items())
def test_a_failing_service_costs_the_others_nothing(
    fault: Fault, slug: str, platform: Platform, standins: Services
) -> None:
    adapters = list(platform.adapters.values())
    standins.fault(slug, fault)
    start = time.monotonic()
    found = sample_all(adapters, DEADLINE_SECONDS, force=True)
    assert time.monotonic() - start < DEADLINE_SECONDS + 1
    assert found[slug].health.state.failing
    assert found[slug].health.message
    assert found[slug].health.advice
    # What stands on the broken service may notice; everything else is well.
    well = {name for name in found if name != slug and slug not in platform.adapters[name].service.depends_on}
    assert {name: found[name].health.state for name in well} == dict.fromkeys(well, State.HEALTHY)


def test_all_hanging_ends_at_the_deadline(platform: Platform, standins: Services) -> None:
    adapters = list(platform.adapters.values())
    for slug in ("postgresql", "redis", "temporal", "qdrant", "keycloak", "lago", "somabrain", "whisper", "kokoro"):
        standins.fault(slug, "hang")
    for name in ("mcp-calendar", "mcp-files", "s3", "smtp"):
        standins.fault(name, "hang")
    start = time.monotonic()
    found = probe_all(adapters, DEADLINE_SECONDS)
    assert time.monotonic() - start < DEADLINE_SECONDS + 1
    assert len(found) == 12
    assert all(one.state.failing for one in found.values())


def test_assembling_while_postgresql_hangs_waits_for_it_once(platform: Platform, standins: Services) -> None:
    standins.fault("postgresql", "hang")
    start = time.monotonic()
    assert len(platform.adapters) == 12
    assert time.monotonic() - start < 10


def test_looking_costs_no_service_a_call(platform: Platform, standins: Services) -> None:
    health.refresh(platform, SYSTEM)
    names = ("qdrant", "keycloak", "lago", "somabrain", "whisper", "kokoro", "mcp-calendar", "s3", "smtp", "temporal")
    before = {name: standins.traffic(name).requests for name in names}
    for _ in range(50):
        assert len(health.overview(platform).services) == 12
        for slug in platform.adapters:
            health.now(platform, slug)
            health.history(platform, slug, "latency_ms", 24)
    assert {name: standins.traffic(name).requests for name in names} == before
