"""Runs recorded before a change replay after it: a worker that was updated goes on where the old one stopped.

A history is what ``WorkflowHandle.fetch_history().to_json()`` gives, with the identities of hosts taken out. Where one
no longer replays, the workflow was changed for runs under way: ``workflow.patched`` keeps the old way for them.
"""

from __future__ import annotations

import asyncio
import json

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Interceptor, Replayer, WorkflowInboundInterceptor, WorkflowInterceptorClassInput

from tests.support import ROOT
from workflows import worker
from workflows.interceptor import SettingsInterceptor

HISTORIES = sorted((ROOT / "tests" / "histories").glob("*.json"))
OURS = (
    "usage-sync", "usage-sync-refused", "sleep-cycle", "sleep-cycle-pages", "sleep-cycle-wrong", "memory-consolidation",
    "tenant-provisioning", "tenant-provisioning-twice", "tenant-provisioning-taken-back",
    "tenant-offboarding", "tenant-offboarding-kept", "tenant-offboarding-canceled",
    "tenant-provisioning-wrong", "tenant-offboarding-wrong",
    "maintenance-clean-up", "maintenance-reconcile", "maintenance-backup", "maintenance-backup-failed",
    "maintenance-backup-canceled",
    "maintenance-plain", "maintenance-unknown",
)  # fmt: skip


class Settings(Interceptor):
    """What the worker puts around every workflow, without the platform that only its activities need."""

    def workflow_interceptor_class(
        self, given: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        return SettingsInterceptor.workflow_interceptor_class(self, given)  # type: ignore[arg-type]


def replay(document: str, name: str) -> None:
    kinds = [kind for module in worker.modules() for kind in module.WORKFLOWS]
    replayer = Replayer(workflows=kinds, interceptors=[Settings()])
    asyncio.run(replayer.replay_workflow(WorkflowHistory.from_json(name, document)))


@pytest.mark.parametrize("name", [path.stem for path in HISTORIES])
def test_a_recorded_run_replays(name: str) -> None:
    replay((ROOT / "tests" / "histories" / f"{name}.json").read_text(encoding="utf-8"), name)


def test_the_recorded_runs_are_there() -> None:
    assert {path.stem for path in HISTORIES} >= set(OURS)


def test_a_run_that_went_another_way_does_not_replay() -> None:
    """What the tests above would say of a change that forgot the runs under way."""
    document = (ROOT / "tests" / "histories" / "usage-sync.json").read_text(encoding="utf-8")
    other = json.loads(document.replace('"usage.plan"', '"usage.other"'))
    with pytest.raises(Exception, match="Nondeterminism"):
        replay(json.dumps(other), "usage-sync")
