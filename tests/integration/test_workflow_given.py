"""Runs started at Temporal by whoever reaches it: what they cannot be run with ends them at once, in words."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from operations import workflow_settings
from operations.access import SYSTEM
from operations.platform import Platform
from operations.workflow_catalogue import (
    CONSOLIDATION,
    MAINTENANCE,
    OFFBOARDING,
    PROVISIONING,
    SLEEP_CYCLE,
    USAGE_SYNC,
)
from tests.support_tenants import row
from workflows import worker
from workflows.inputs import CONVERTER
from workflows.interceptor import SettingsInterceptor

pytestmark = pytest.mark.engines
NOTHING: Any = object()
LEAVES = {"tenant": "acme", "reason": "contract ended"}
WRONG: list[tuple[str, Any, str]] = [
    (OFFBOARDING, {**LEAVES, "wait_hours": 5000}, "wait_hours: is out of range (allowed: 0 to 1440 hours)"),
    (OFFBOARDING, {**LEAVES, "wait_hours": -1}, "wait_hours: is out of range"),
    (OFFBOARDING, {**LEAVES, "wait_hours": "soon"}, "wait_hours: is not a number (allowed: number)"),
    (OFFBOARDING, {"wait_hours": 1}, "tenant: is needed (allowed: text)"),
    (OFFBOARDING, {"tenant": " "}, "tenant: is asked for (allowed: a tenant's id)"),
    (OFFBOARDING, {**LEAVES, "wait_hours": 0, "reason": "r" * 501}, "reason: is too long (allowed: at most 500"),
    (OFFBOARDING, {"tenant": 7, "wait_hours": None}, "tenant: is not a text (allowed: text)"),
    (
        OFFBOARDING,
        {"tenant": "acme", "wait_hours": None},
        "input: is not what tenant-offboarding takes (allowed: tenant",
    ),
    (OFFBOARDING, 17, "input: is not what tenant-offboarding takes (allowed: tenant: text, wait_hours: number"),
    (OFFBOARDING, NOTHING, "tenant: is asked for"),
    (PROVISIONING, {"tenant": "A B", "name": "", "tier": "", "email": "x"}, "tenant: cannot be an id (allowed: 1–63"),
    (
        PROVISIONING,
        {"tenant": "acme", "name": "n" * 201, "tier": "team", "email": "a@b.example"},
        "1 to 200 characters",
    ),
    (PROVISIONING, {"tenant": "acme"}, "name: is needed (allowed: text); tier: is needed"),
    (PROVISIONING, NOTHING, "email: is not a mail address (allowed: somebody@example.com)"),
    (USAGE_SYNC, {"batch": 101}, "batch: is out of range (allowed: 1 to 100)"),
    (USAGE_SYNC, {"batch": "many"}, "batch: is not a whole number (allowed: whole number)"),
    (SLEEP_CYCLE, {"target": "nap", "ttl_seconds": 0}, "ttl_seconds: is out of range (allowed: 1 to 3600 seconds)"),
    (CONSOLIDATION, {"concurrency": 33}, "concurrency: is out of range (allowed: 1 to 32 tenants at a time)"),
    (CONSOLIDATION, {"tenants": 3}, "tenants: is not a list of texts (allowed: texts)"),
    (MAINTENANCE, {"job": "sweep"}, "job: 'sweep' is none (allowed: clean-up, reconcile, backup)"),
    (MAINTENANCE, {"job": 3}, "job: is not a text (allowed: text)"),
]


async def failures(platform: Platform, address: str, wanted: list[tuple[str, Any, dict[str, Any]]]) -> list[str]:
    """Start all at once as nobody of ours would, and return what each failed with; not one may be tried again."""
    client = await Client.connect(address, data_converter=CONVERTER)
    plain = await Client.connect(address)
    queue, interceptor = f"given-{uuid.uuid4()}", SettingsInterceptor(platform)
    modules = worker.modules()

    async def one(number: int, kind: str, given: Any, more: dict[str, Any]) -> str:
        args = [] if given is NOTHING else [given]
        handle = await plain.start_workflow(kind, args=args, id=f"{queue}/{number}", task_queue=queue, **more)
        with pytest.raises(WorkflowFailureError) as failed:
            await asyncio.wait_for(handle.result(), 30)
        cause = failed.value.cause
        assert isinstance(cause, ApplicationError)
        assert (cause.type, cause.non_retryable) == ("Invalid", True), cause
        return cause.message

    async with Worker(
        client, task_queue=queue, workflows=[kind for module in modules for kind in module.WORKFLOWS],
        activities=[*interceptor.activities, *(one for module in modules for one in module.activities(platform))],
        interceptors=[interceptor],
    ):  # fmt: skip
        return await asyncio.gather(*(one(number, *each) for number, each in enumerate(wanted)))


def test_what_a_run_cannot_be_run_with_ends_it_at_once_and_is_named(platform: Platform, temporal_address: str) -> None:
    wanted = [(kind, given, {}) for kind, given, _ in WRONG]
    for (kind, given, said), message in zip(
        WRONG, asyncio.run(failures(platform, temporal_address, wanted)), strict=True
    ):
        assert said in message, (kind, given, message)
    assert row(platform, "acme") is None


def test_a_wait_that_its_run_may_not_take_is_refused_by_the_run(platform: Platform, temporal_address: str) -> None:
    wish = workflow_settings.Edit(OFFBOARDING, {"timeout_seconds": 86_400})
    workflow_settings.save(platform, SYSTEM, [wish], reason="a day must do")
    wanted: list[tuple[str, Any, dict[str, Any]]] = [
        (OFFBOARDING, LEAVES, {}),
        (OFFBOARDING, {**LEAVES, "wait_hours": 24}, {}),
        (OFFBOARDING, {**LEAVES, "wait_hours": 3}, {"execution_timeout": timedelta(hours=3)}),
        (OFFBOARDING, {**LEAVES, "wait_hours": 3}, {"run_timeout": timedelta(hours=2)}),
    ]
    hours = (23, 23, 2, 1)
    for longest, message in zip(hours, asyncio.run(failures(platform, temporal_address, wanted)), strict=True):
        assert message == (
            "wait_hours: is longer than the timeout of tenant-offboarding allows "
            f"(allowed: 0 to {longest} hours, or a longer timeout in the workflow settings)"
        )
