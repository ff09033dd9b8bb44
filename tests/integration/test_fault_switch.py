"""The fault switches as an operation: only in a sandbox, on record before it happens, mending always possible."""

from __future__ import annotations

import pytest

from operations import audit, sandbox
from operations.access import ROLES, SYSTEM, Actor, Forbidden, Permission
from operations.change import Invalid, NotFound
from operations.platform import Platform
from sandbox.inprocess import Services

pytestmark = pytest.mark.engines


def test_a_service_is_broken_and_mended_on_record(platform: Platform, standins: Services) -> None:
    assert not any(sandbox.faults(platform, SYSTEM).values())
    sandbox.set_fault(platform, SYSTEM, "qdrant", "refuse", "to see it")
    assert sandbox.faults(platform, SYSTEM)["qdrant"] == "refuse"
    entry = audit.entries(platform, SYSTEM, limit=1)[0]
    assert (entry.action, entry.subject, entry.before, entry.after, entry.reason) == (
        "sandbox.fault", "qdrant", {"fault": None}, {"fault": "refuse"}, "to see it",
    )  # fmt: skip
    sandbox.set_fault(platform, SYSTEM, "qdrant", None)
    assert sandbox.faults(platform, SYSTEM)["qdrant"] is None


def test_postgresql_can_be_mended_while_it_cannot_keep_the_record(platform: Platform) -> None:
    sandbox.set_fault(platform, SYSTEM, "postgresql", "refuse")
    sandbox.set_fault(platform, SYSTEM, "postgresql", None)
    assert sandbox.faults(platform, SYSTEM)["postgresql"] is None


def test_what_is_refused(platform: Platform, standins: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Invalid):
        sandbox.set_fault(platform, SYSTEM, "qdrant", "explode")
    with pytest.raises(NotFound):
        sandbox.set_fault(platform, SYSTEM, "nothing", "refuse")
    blind = next(role for role, may in ROLES.items() if Permission.INFRA_OPERATE not in may)
    person = Actor("p", "P", frozenset({blind}))
    for ask in (
        lambda: sandbox.faults(platform, person),
        lambda: sandbox.set_fault(platform, person, "qdrant", "hang"),
    ):
        with pytest.raises(Forbidden):
            ask()
    monkeypatch.setattr(
        platform, "settings", platform.settings.model_copy(update={"sandbox_control_url": None}), raising=True
    )
    with pytest.raises(NotFound, match="does not run on a sandbox"):
        sandbox.faults(platform, SYSTEM)
