"""A tenant leaves after its waiting period, is kept when somebody says so in time, and is removed billing first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import CancelledError

from adapters.core import Denied
from limiter import Limiter
from operations import ratelimit_wire, tenant_parts
from operations.platform import Platform
from operations.tenant_systems import SYSTEMS, System, TenantSpec, silent
from operations.workflow_catalogue import END_WAIT, KEEP_TENANT, OFFBOARDING, Offboarded, OffboardingInput
from operations.workflow_progress import DONE, FAILED, QUERY, SKIPPED, WAITING, Progress
from tests.support import poll
from tests.support_tenants import TIER, make_tier, make_whole, row, run, traces, unconfigured, where, working

pytestmark = pytest.mark.engines
MANY = list(SYSTEMS)


@pytest.fixture
def here(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    monkeypatch.setattr(tenant_parts, "LIMITERS_SETTLE_SECONDS", 0.0)  # nobody calls here
    make_tier(platform)
    ratelimit_wire.reconcile(platform)
    make_whole(platform, TenantSpec("acme-9", "Acme 9", TIER, "boss@acme.example"))
    assert where(platform, "acme-9") == MANY
    yield platform


@pytest.fixture
def removed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The systems in the order in which the tenant was removed from them."""
    order: list[str] = []
    for name, system in SYSTEMS.items():
        monkeypatch.setattr(system, "remove", noting(system, name, order))
    return order


def noting(system: System, name: str, order: list[str]) -> Callable[..., bool]:
    real = system.remove

    def remove(platform: Platform, tenant_id: str, progress: Any = silent) -> bool:
        order.append(name)
        return real(platform, tenant_id, progress)

    return remove


async def start(client: Client, queue: str, hours: float = 24) -> WorkflowHandle:
    given = OffboardingInput("acme-9", hours, "contract ended")
    ident = f"{OFFBOARDING}/acme-9/{queue}"
    return await client.start_workflow(OFFBOARDING, given, id=ident, task_queue=queue, result_type=Offboarded)


async def progress(handle: WorkflowHandle) -> Progress:
    return await handle.query(QUERY, result_type=Progress)


async def waits(handle: WorkflowHandle) -> Progress:
    while True:
        told = await progress(handle)
        if told.sentence.startswith("Waits until"):
            return told
        await asyncio.sleep(0.02)


def states(told: Progress) -> dict[str, str]:
    return {step.name: step.state for step in told.steps}


def test_the_wait_is_ended_and_billing_goes_first(here: Platform, temporal_address: str, removed: list[str]) -> None:
    async def once() -> tuple[Progress, Offboarded, Progress]:
        async with working(here, temporal_address) as (client, queue):
            handle = await start(client, queue)
            waiting = await waits(handle)
            assert row(here, "acme-9")["status"] == "offboarding"
            assert where(here, "acme-9") == MANY
            await handle.signal(END_WAIT)
            done = await handle.result()
            return waiting, done, await progress(handle)

    waiting, done, told = run(once)
    assert "UTC. Until then the tenant can be kept" in waiting.sentence
    assert (removed[0], removed[-1], sorted(removed)) == ("lago", "ratelimit", sorted(MANY))
    assert sorted(done.removed) == sorted(set(MANY) - {"ratelimit"})
    assert set(states(told).values()) == {DONE}
    assert traces(here, "acme-9") == ["row"]
    assert row(here, "acme-9")["status"] == "closed"


def test_the_waiting_period_ends_by_itself(here: Platform, temporal_address: str) -> None:
    async def once() -> Offboarded:
        async with working(here, temporal_address) as (client, queue):
            return await (await start(client, queue, 0.5 / 3600)).result()

    assert not run(once).kept
    assert row(here, "acme-9")["status"] == "closed"


@pytest.mark.parametrize("how", [KEEP_TENANT, "cancel"])
def test_kept_while_it_waits_the_tenant_is_what_it_was(
    here: Platform, temporal_address: str, removed: list[str], how: str
) -> None:
    before = row(here, "acme-9")

    async def once() -> Progress:
        async with working(here, temporal_address) as (client, queue):
            handle = await start(client, queue)
            await waits(handle)
            if how == "cancel":
                await handle.cancel()
                with pytest.raises(WorkflowFailureError) as error:
                    await handle.result()
                assert isinstance(error.value.cause, CancelledError)
            else:
                await handle.signal(KEEP_TENANT)
                await handle.signal(END_WAIT)  # too late
                assert (await handle.result()).kept
            return await progress(handle)

    told = run(once)
    assert "what it was before" in told.sentence
    assert states(told)["close"] == (WAITING if how == "cancel" else SKIPPED)
    assert row(here, "acme-9") == before
    assert removed == []


def refused(platform: Platform) -> None:
    """While it is removed limiters admit nothing of it, with a policy and without one, and the reconciler agrees."""
    assert ratelimit_wire.reconcile(platform, repair=False).total == 0
    with Limiter(platform.redis, timeout=2.0, watch=False) as limiter:
        assert limiter.check("no.policy", "somebody").allowed
        decision = limiter.check("no.policy", "acme-9", "an-agent")
    assert (decision.allowed, decision.limit, decision.source) == (False, 0, "removed")


def test_one_that_failed_goes_on_where_it_was_without_waiting(
    here: Platform, temporal_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bool:
        raise Denied("SomaBrain refused the credentials.")

    async def twice() -> tuple[str, Progress, Offboarded]:
        async with working(here, temporal_address) as (client, queue):
            with monkeypatch.context() as bent:
                bent.setattr(SYSTEMS["somabrain"], "remove", refuse)
                handle = await start(client, queue)
                await waits(handle)
                await handle.signal(END_WAIT)
                with pytest.raises(WorkflowFailureError) as error:
                    await handle.result()
            told = await progress(handle)
            assert row(here, "acme-9")["status"] == "offboarding"
            await asyncio.to_thread(refused, here)
            return error.value.cause.message, told, await (await start(client, queue)).result()

    message, told, done = run(twice)
    assert message == ("SomaBrain namespace: SomaBrain refused the credentials. Start it again to go on where it was.")
    assert (states(told)["somabrain"], states(told)["mark"], states(told)["close"]) == (FAILED, DONE, WAITING)
    assert not done.kept
    assert ratelimit_wire.reconcile(here, repair=False).total == 0
    assert traces(here, "acme-9") == ["row"]


def test_who_is_gone_is_gone_and_what_cannot_be_is_refused(here: Platform, temporal_address: str) -> None:
    async def some() -> tuple[Progress, Progress]:
        async with working(here, temporal_address) as (client, queue):
            handle = await start(client, queue, 0)
            await handle.result()
            again = await start(client, queue, 0)
            await again.result()
            wrong = await start(client, queue, -1)
            with pytest.raises(WorkflowFailureError):
                await wrong.result()
            return await client.get_workflow_handle(again.id, run_id=again.first_execution_run_id).query(
                QUERY, result_type=Progress
            ), await progress(wrong)

    again, wrong = run(some)
    assert "nothing was to be done" in again.sentence
    assert "0 to 1440 hours" in wrong.sentence


def test_a_cancel_while_it_removes_stops_it_where_it_is(
    here: Platform, temporal_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def slow(*_: object) -> bool:
        asked.append(1)
        poll(lambda: len(asked) > 1, 10)
        return True

    monkeypatch.setattr(SYSTEMS["lago"], "remove", slow)

    async def once() -> Progress:
        async with working(here, temporal_address) as (client, queue):
            handle = await start(client, queue, 0)
            while not asked:
                await asyncio.sleep(0.02)
            await handle.cancel()
            await asyncio.sleep(0)
            asked.append(2)
            with pytest.raises(WorkflowFailureError):
                await handle.result()
            return await progress(handle)

    assert "Start it again to go on where it was." in run(once).sentence
    assert row(here, "acme-9")["status"] == "offboarding"


@pytest.mark.parametrize("system", ["keycloak", "lago", "qdrant", "s3", "somabrain"])
def test_a_service_that_is_unconfigured_meanwhile_keeps_the_tenant_from_being_closed(
    here: Platform, temporal_address: str, system: str
) -> None:
    async def twice() -> tuple[str, Offboarded]:
        async with working(here, temporal_address) as (client, queue):
            with unconfigured(here, system):
                with pytest.raises(WorkflowFailureError) as error:
                    await (await start(client, queue, 0)).result()
                assert row(here, "acme-9")["status"] == "offboarding"
            assert system in where(here, "acme-9")
            return error.value.cause.message, await (await start(client, queue, 0)).result()

    message, done = run(twice)
    assert "is not configured now, but acme-9 has " in message
    assert "Start it again to go on where it was." in message
    assert system in done.removed
    assert traces(here, "acme-9") == ["row"]


def test_a_service_the_tenant_never_was_in_is_not_asked_for(here: Platform, temporal_address: str) -> None:
    SYSTEMS["qdrant"].remove(here, "acme-9")
    with here.database.session() as session:
        session.execute(text("UPDATE tenants SET qdrant_collection = NULL WHERE id = 'acme-9'"))

    async def once() -> Offboarded:
        async with working(here, temporal_address) as (client, queue):
            return await (await start(client, queue, 0)).result()

    with unconfigured(here, "qdrant"):
        run(once)
    assert row(here, "acme-9")["status"] == "closed"
