"""A tenant is made in every system, or nothing of it is left; made twice it is made once."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import CancelledError

from adapters.core import Denied, Rejected, Unexpected
from adapters.temporal_client.history import detail
from operations import tenant_records, workflow_settings
from operations.access import SYSTEM
from operations.platform import Platform
from operations.tenant_systems import SYSTEMS, Made, System, TenantSpec, silent
from operations.workflow_catalogue import PROVISIONING, Provisioned, ProvisioningInput
from operations.workflow_progress import COMPENSATED, COMPENSATING, DONE, FAILED, QUERY, WAITING, Progress
from sandbox.inprocess import Services
from tests.support import poll
from tests.support_tenants import TIER, mails, make_tier, row, run, traces, unconfigured, where, working
from workflows.interceptor import SettingsInterceptor

pytestmark = pytest.mark.engines
ACME = ProvisioningInput("acme-9", "Acme 9", TIER, "boss@acme.example")


@pytest.fixture
def here(platform: Platform) -> Iterator[Platform]:
    make_tier(platform)
    yield platform


async def start(client: Client, queue: str, given: ProvisioningInput = ACME) -> WorkflowHandle:
    return await client.start_workflow(
        PROVISIONING, given, id=f"{PROVISIONING}/{given.tenant}/{queue}", task_queue=queue, result_type=Provisioned
    )


def test_made_in_every_system_and_a_second_run_changes_nothing(here: Platform, temporal_address: str) -> None:
    async def both() -> tuple[Provisioned, Progress, Provisioned]:
        async with working(here, temporal_address) as (client, queue):
            handle = await start(client, queue)
            first = await handle.result()
            told = await handle.query(QUERY, result_type=Progress)
            return first, told, await (await start(client, queue)).result()

    first, told, second = run(both)
    assert where(here, "acme-9") == list(SYSTEMS)
    assert [(step.name, step.state) for step in told.steps] == [(step.name, DONE) for step in told.steps]
    assert told.percent == 100
    made = row(here, "acme-9")
    assert made is not None
    assert made["status"] == "active"
    assert first.keycloak_group == made["keycloak_group"] == "tenant-acme-9"
    assert first.lago_subscription_id == made["lago_subscription_id"] == "tenant-acme-9"
    assert all((first.lago_customer_id, first.qdrant_collection, first.s3_prefix, first.somabrain_tenant))
    assert second == first
    assert mails(here, "acme-9") == ["queued"]


class Bent(System):
    """A system that does what a test says before or after what it should."""

    def __init__(
        self, real: System, before: Callable[[], None] = lambda: None, after: Callable[[], None] = lambda: None
    ):
        self.real, self.before, self.after = real, before, after
        self.name, self.title = real.name, real.title  # type: ignore[misc]
        self.made = 0

    def make(self, platform: Platform, tenant: TenantSpec) -> Made:
        self.made += 1
        self.before()
        made = self.real.make(platform, tenant)
        self.after()
        return made

    def remove(self, platform: Platform, tenant_id: str, progress: Any = silent) -> bool:
        return self.real.remove(platform, tenant_id, progress)

    def configured(self, platform: Platform) -> bool:
        return self.real.configured(platform)

    def present(self, platform: Platform, tenant_id: str) -> bool:
        return self.real.present(platform, tenant_id)


@pytest.fixture
def bend(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bent]:
    def put(name: str, **how: Callable[[], None]) -> Bent:
        bent = Bent(SYSTEMS[name], **how)
        monkeypatch.setitem(SYSTEMS, name, bent)
        return bent

    return put


def hold(reached: threading.Event, go_on: threading.Event) -> None:
    """Say that this point is reached, and stay there."""
    reached.set()
    assert go_on.wait(10)


def fail(error: Exception) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


async def ended(handle: WorkflowHandle) -> tuple[str, BaseException, Progress]:
    with pytest.raises(WorkflowFailureError) as error:
        await handle.result()
    cause = error.value.cause
    return getattr(cause, "message", ""), cause, await handle.query(QUERY, result_type=Progress)


def states(told: Progress) -> dict[str, str]:
    return {step.name: step.state for step in told.steps}


def test_refused_by_one_system_nothing_is_left_and_the_step_is_named(
    here: Platform, temporal_address: str, bend: Callable[..., Bent]
) -> None:
    lago = bend("lago", before=fail(Denied("Lago refused the credentials.")))

    async def once() -> tuple[str, BaseException, Progress]:
        async with working(here, temporal_address) as (client, queue):
            return await ended(await start(client, queue))

    message, cause, told = run(once)
    assert message == (
        "Lago customer and subscription: Lago refused the credentials. "
        "Whatever was made for the tenant has been removed again."
    )
    assert (cause.type, lago.made) == ("StepFailed", 1)
    assert states(told) == {
        "claim": COMPENSATED, **dict.fromkeys(("keycloak", "qdrant", "s3", "somabrain"), COMPENSATED),
        "lago": FAILED, "finish": WAITING, "welcome": WAITING,
    }  # fmt: skip
    details = {step.name: step.detail for step in told.steps}
    assert details["lago"] == "Lago refused the credentials. Taken back."
    assert (told.done, told.percent) == (0, 0.0)  # nothing of the tenant is there
    assert where(here, "acme-9") == []
    assert row(here, "acme-9") is None


def test_what_took_effect_and_said_it_failed_is_taken_back_too(
    here: Platform, temporal_address: str, bend: Callable[..., Bent]
) -> None:
    qdrant = bend("qdrant", after=fail(Unexpected("Qdrant answered HTTP 500.")))

    async def once() -> tuple[str, BaseException, Progress]:
        async with working(here, temporal_address) as (client, queue):
            return await ended(await start(client, queue))

    assert "Qdrant collection: Qdrant answered HTTP 500." in run(once)[0]
    assert qdrant.made == 3  # as often as the settings say
    assert where(here, "acme-9") == []
    assert row(here, "acme-9") is None


def test_welcoming_fails_and_the_active_tenant_goes_again(
    here: Platform, temporal_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenant_records, "welcome", lambda *_: fail(Rejected("No mail today."))())

    async def once() -> tuple[str, BaseException, Progress]:
        async with working(here, temporal_address) as (client, queue):
            return await ended(await start(client, queue))

    assert "Welcome mail: No mail today." in run(once)[0]
    assert where(here, "acme-9") == []
    assert mails(here, "acme-9") == []


def test_canceled_in_the_middle_nothing_is_left_though_a_system_is_away(
    here: Platform, standins: Services, temporal_address: str, bend: Callable[..., Bent]
) -> None:
    reached, go_on = threading.Event(), threading.Event()

    bend("s3", after=lambda: hold(reached, go_on))

    async def once() -> tuple[str, BaseException, Progress]:
        async with working(here, temporal_address) as (client, queue):
            handle = await start(client, queue)
            assert await asyncio.to_thread(reached.wait, 10)
            await asyncio.to_thread(poll, lambda: {"qdrant", "keycloak"} <= set(where(here, "acme-9")))
            await asyncio.to_thread(standins.fault, "qdrant", "refuse")
            await handle.cancel()
            go_on.set()
            await asyncio.to_thread(poll, lambda: not SYSTEMS["keycloak"].present(here, "acme-9"))
            assert row(here, "acme-9") is not None  # goes last, when nothing is left anywhere
            await asyncio.to_thread(standins.fault, "qdrant", None)
            return await ended(handle)

    _, cause, told = run(once)
    assert isinstance(cause, CancelledError)
    assert told.sentence == "Canceled. Whatever was made for the tenant has been removed again."
    assert where(here, "acme-9") == []
    assert row(here, "acme-9") is None


def test_a_tenant_at_work_is_never_touched(here: Platform, temporal_address: str, bend: Callable[..., Bent]) -> None:
    async def twice() -> list[str]:
        async with working(here, temporal_address) as (client, queue):
            await (await start(client, queue)).result()
            bend("lago", before=fail(Denied("Lago refused the credentials.")))
            await (await start(client, queue)).result()  # the same again: nothing to do
            other = dataclasses.replace(ACME, name="Another Acme")
            return [(await ended(await start(client, queue, other)))[0]]

    (message,) = run(twice)
    assert "differs in name, tier or address. Nothing was changed. Nothing was made." in message
    assert where(here, "acme-9") == list(SYSTEMS)
    assert row(here, "acme-9")["status"] == "active"


def test_what_somebody_else_made_is_neither_taken_over_nor_removed(here: Platform, temporal_address: str) -> None:
    SYSTEMS["keycloak"].make(here, TenantSpec("acme-9", "Somebody", TIER, "s@b.example"))

    async def once() -> tuple[str, BaseException, Progress]:
        async with working(here, temporal_address) as (client, queue):
            return await ended(await start(client, queue))

    assert "Keycloak has a tenant acme-9 already that was not made by this run." in run(once)[0]
    assert where(here, "acme-9") == ["keycloak"]


def test_what_a_terminated_run_left_is_taken_over_by_the_next(
    here: Platform, temporal_address: str, bend: Callable[..., Bent]
) -> None:
    reached, go_on = threading.Event(), threading.Event()
    somabrain = bend("somabrain", before=lambda: hold(reached, go_on))

    async def twice() -> Provisioned:
        async with working(here, temporal_address) as (client, queue):
            first = await start(client, queue)
            assert await asyncio.to_thread(reached.wait, 10)
            await asyncio.to_thread(poll, lambda: "keycloak" in where(here, "acme-9"))
            await first.terminate()
            go_on.set()
            return await (await start(client, queue)).result()

    assert run(twice).somabrain_tenant
    assert somabrain.made >= 1
    assert where(here, "acme-9") == list(SYSTEMS)
    assert mails(here, "acme-9") == ["queued"]


def test_two_workflows_for_one_tenant_one_of_them_says_so(
    here: Platform, temporal_address: str, bend: Callable[..., Bent]
) -> None:
    reached, go_on = threading.Event(), threading.Event()
    bend("s3", before=lambda: hold(reached, go_on))

    async def both() -> str:
        async with working(here, temporal_address) as (client, queue):
            first = await start(client, queue)
            assert await asyncio.to_thread(reached.wait, 10)
            second = await client.start_workflow(PROVISIONING, ACME, id=f"other/{queue}", task_queue=queue)
            message, _, _ = await ended(second)
            go_on.set()
            await first.result()
            return message

    assert "is being made by another run" in run(both)
    assert where(here, "acme-9") == list(SYSTEMS)


def test_every_step_may_be_replayed_from_the_beginning(here: Platform, temporal_address: str) -> None:
    async def uncached() -> Provisioned:
        async with working(here, temporal_address, max_cached_workflows=0) as (client, queue):
            done = await (await start(client, queue)).result()
            with pytest.raises(WorkflowFailureError):
                await (await start(client, queue, dataclasses.replace(ACME, tenant="x-1", tier="gold"))).result()
            return done

    assert run(uncached).s3_prefix


def test_out_of_time_everything_is_taken_back_however_long_that_takes(
    here: Platform, standins: Services, temporal_address: str
) -> None:
    wish = workflow_settings.Edit(PROVISIONING, {"timeout_seconds": 2, "retry_attempts": 50})
    workflow_settings.save(here, SYSTEM, [wish], reason="little patience")
    standins.fault("s3", "refuse")

    async def once() -> tuple[str, BaseException, Progress]:
        settings = SettingsInterceptor(here)
        more = {"interceptors": [settings], "more_activities": settings.activities}
        async with working(here, temporal_address, **more) as (client, queue):
            handle = await start(client, queue)
            while (told := await handle.query(QUERY, result_type=Progress)).sentence != "Taking back what was begun.":
                await asyncio.sleep(0.05)
            assert states(told)["keycloak"] in (COMPENSATING, COMPENSATED)
            await asyncio.to_thread(standins.fault, "s3", None)
            return await ended(handle)

    message, cause, told = run(once)
    assert cause.type == "Timeout"
    assert "2" in message
    assert told.sentence == "Canceled. Whatever was made for the tenant has been removed again."
    assert traces(here, "acme-9") == []


def test_a_late_attempt_to_make_it_active_finds_that_it_is_over(here: Platform) -> None:
    spec = TenantSpec("acme-9", "Acme 9", TIER, "boss@acme.example")
    for called_off_while_active in (False, True):
        tenant_records.claim(here, spec, "owner", "token")
        if called_off_while_active:
            assert tenant_records.activate(here, "acme-9", "token", "run", {})
            assert not tenant_records.activate(here, "acme-9", "token", "run", {})  # again: no change
            assert not tenant_records.deactivate(here, "acme-9", "token", "another run")
        assert tenant_records.deactivate(here, "acme-9", "token", "run") is called_off_while_active
        with pytest.raises(tenant_records.NotOurs):
            tenant_records.activate(here, "acme-9", "token", "run", {})
        assert tenant_records.release(here, "acme-9", "token")
        assert row(here, "acme-9") is None


def test_a_service_unconfigured_while_it_is_taken_back_is_waited_for(
    here: Platform, temporal_address: str, bend: Callable[..., Bent]
) -> None:
    bend("lago", before=lambda: poll(lambda: "qdrant" in where(here, "acme-9")))
    forgotten = contextlib.ExitStack()

    def forget() -> None:
        forgotten.enter_context(unconfigured(here, "qdrant"))
        raise Denied("Lago refused the credentials.")

    SYSTEMS["lago"].after = forget  # type: ignore[attr-defined]

    async def once() -> tuple[str, BaseException, Progress]:
        async with working(here, temporal_address) as (client, queue):
            handle = await start(client, queue)
            while states(await handle.query(QUERY, result_type=Progress))["keycloak"] != COMPENSATED:
                await asyncio.sleep(0.05)
            await asyncio.sleep(1.5)
            assert row(here, "acme-9") is not None  # it waits: nothing says that the collection is gone
            forgotten.close()
            assert "qdrant" in where(here, "acme-9")
            return await ended(handle)

    run(once)
    assert traces(here, "acme-9") == []


def test_a_service_that_was_never_configured_is_nothing_to_take_back(
    here: Platform, temporal_address: str, bend: Callable[..., Bent]
) -> None:
    bend("lago", before=fail(Denied("Lago refused the credentials.")))

    async def once() -> tuple[str, BaseException, Progress]:
        async with working(here, temporal_address) as (client, queue):
            return await ended(await start(client, queue))

    with unconfigured(here, "qdrant"):
        run(once)
    assert traces(here, "acme-9") == []


async def notes(client: Client, handle: WorkflowHandle) -> list[tuple[str, str]]:
    """The steps of a run by kind and what they say of themselves, as the Temporal page shows them."""
    found = await detail(client, "default", handle.id, handle.first_execution_run_id or "")
    return [(step.kind, step.note) for step in found.steps if "activity" in step.kind]


def test_the_steps_of_a_run_read_in_words(here: Platform, temporal_address: str, bend: Callable[..., Bent]) -> None:
    bend("lago", before=lambda: poll(lambda: "qdrant" in where(here, "acme-9")), after=fail(Denied("No.")))

    async def once() -> list[tuple[str, str]]:
        settings = SettingsInterceptor(here)
        async with working(
            here, temporal_address, interceptors=[settings], more_activities=settings.activities
        ) as (client, queue):  # fmt: skip
            handle = await start(client, queue)
            await ended(handle)
            return await notes(client, handle)

    found = run(once)
    said = {note for _, note in found}
    assert {"Row and tier", "Keycloak group", "Qdrant collection", "Lago customer and subscription"} <= said
    assert {"Take back: Keycloak group", "Take back: Lago customer and subscription", "Take back: Row and tier"} <= said
    assert ("local activity", "Settings and a place") in found
    assert ("local activity", "Place given back") in found
    assert all(note for _, note in found)
