"""Provisioning and offboarding as people ask for it: validated, on record, refused whole where Temporal is away."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from adapters.core import Unreachable, utcnow
from api import create_api
from operations import (
    apitokens,
    audit,
    tenant_leaving,
    tenant_lifecycle,
    tenant_moving,
    tenant_records,
    workflow_settings,
)
from operations.access import SYSTEM, Actor, Forbidden
from operations.change import Invalid, NotFound
from operations.platform import Platform
from operations.tenant_systems import SYSTEMS, TenantSpec
from operations.workflow_catalogue import OFFBOARDING
from sandbox.inprocess import Services
from tests.support import poll
from tests.support_tenants import TIER, at_work, make_tier, make_whole, row, where

pytestmark = pytest.mark.engines
ANALYST = Actor("a", "Ana", frozenset({"analyst"}))
NAME = f"acme-{uuid.uuid4().hex[:8]}"
LEAVER = f"leaver-{uuid.uuid4().hex[:8]}"
SPEC = TenantSpec(NAME, "Acme", TIER, "boss@acme.example")


@pytest.fixture
def here(platform: Platform) -> Iterator[Platform]:
    make_tier(platform)
    yield platform


def wrong(error: pytest.ExceptionInfo[Invalid]) -> list[str]:
    return sorted({field.field for field in error.value.errors})


def test_what_cannot_be_is_named_field_by_field(here: Platform) -> None:
    for spec, fields in (
        (TenantSpec("Acme!", "", "gold", "nobody"), ["email", "id", "name", "tier"]),
        (TenantSpec("a" * 64, "x" * 201, TIER, "a@b.example"), ["id", "name"]),
    ):
        with pytest.raises(Invalid) as error:
            tenant_lifecycle.provision(here, SYSTEM, spec, "new customer")
        assert wrong(error) == fields
    with pytest.raises(Forbidden):
        tenant_lifecycle.provision(here, ANALYST, SPEC, "new customer")
    with pytest.raises(Invalid) as error:
        tenant_lifecycle.provision(here, SYSTEM, SPEC, " ")
    assert wrong(error) == ["reason"]
    with pytest.raises(NotFound):
        tenant_lifecycle.offboard(here, SYSTEM, "nobody", 0, "gone")
    assert where(here, NAME) == []


def test_with_temporal_away_nothing_is_begun_and_the_attempt_is_on_record(here: Platform, standins: Services) -> None:
    standins.fault("temporal", "refuse")
    with pytest.raises(Unreachable):
        tenant_lifecycle.provision(here, SYSTEM, SPEC, "new customer")
    standins.fault("temporal", None)
    assert row(here, NAME) is None
    last, first = audit.entries(here, SYSTEM, limit=2)
    assert first.subject == last.subject == f"tenant/{NAME}"
    assert first.after["outcome"] == "asked for"
    assert last.after["outcome"].startswith("failed: ")


def test_a_name_as_long_as_it_may_be_is_welcomed_in_full_words(here: Platform) -> None:
    spec = TenantSpec(NAME, "W" * tenant_lifecycle.NAME_LIMIT, TIER, "boss@acme.example")
    tenant_lifecycle._check(here, spec)
    assert tenant_records.welcome(here, spec, "token")
    with here.database.session() as session:
        subject, body = session.execute(text("SELECT subject, body FROM mails")).one()
    assert subject == f"Welcome, {'W' * 191}"
    assert spec.name in body


def leaving(platform: Platform, *, waited: bool) -> None:
    """A tenant whose offboarding was terminated: marked by its run, which is no more."""
    make_whole(platform, dataclasses.replace(SPEC, tenant=LEAVER))
    owner = f"{OFFBOARDING}/{LEAVER}"
    tenant_leaving.mark(platform, LEAVER, owner, utcnow() + timedelta(hours=10), "contract ended")
    if waited:
        tenant_leaving.waited(platform, LEAVER, owner)


def test_a_wait_longer_than_its_run_may_take_is_refused(here: Platform) -> None:
    make_whole(here, SPEC)
    wish = workflow_settings.Edit(OFFBOARDING, {"timeout_seconds": 86_400})
    workflow_settings.save(here, SYSTEM, [wish], reason="a day must do")
    assert tenant_lifecycle.longest_wait(here) == 23
    for hours in (23.5, 720, None, -1.0, float("nan"), 10_000):
        with pytest.raises(Invalid) as error:
            tenant_lifecycle.offboard(here, SYSTEM, NAME, hours, "contract ended")
        (field,) = error.value.errors
        assert (field.field, field.allowed[:7]) == ("wait_hours", "0 to 23")
    assert row(here, NAME)["status"] == "active"
    back = workflow_settings.Edit(OFFBOARDING, {"timeout_seconds": 7_776_000})
    workflow_settings.save(here, SYSTEM, [back], reason="as it was")
    assert tenant_lifecycle.longest_wait(here) == tenant_leaving.LONGEST_WAIT_HOURS


def test_going_on_waits_as_long_as_was_asked_for_anew(here: Platform) -> None:
    leaving(here, waited=False)
    (now,) = tenant_moving.moving(here, SYSTEM)
    assert 9.9 < tenant_lifecycle.hours_left(now) <= 10
    end = utcnow() + timedelta(hours=2)
    told = tenant_leaving.mark(here, LEAVER, now.workflow_id, end, "sooner")
    assert (told.ends_at, told.waited) == (end.isoformat(), False)
    (now,) = tenant_moving.moving(here, SYSTEM)
    assert now.ends_at == end
    last = audit.entries(here, SYSTEM, limit=1)[0]
    assert (last.action, last.after) == ("tenant.offboarding", {"ends_at": end.isoformat()})


def test_once_removing_has_begun_no_hours_are_asked_for(here: Platform) -> None:
    leaving(here, waited=True)
    with pytest.raises(Invalid) as error:
        tenant_lifecycle.offboard(here, SYSTEM, LEAVER, 24, "go on")
    assert wrong(error) == ["wait_hours"]
    (now,) = tenant_moving.moving(here, SYSTEM)
    assert tenant_leaving.mark(here, LEAVER, now.workflow_id, utcnow() + timedelta(hours=2), "go on").waited
    tenant_lifecycle.offboard(here, SYSTEM, LEAVER, None, "go on")
    asked = audit.entries(here, SYSTEM, limit=2)[1]
    assert (asked.action, asked.after["wait_hours"]) == ("tenant.offboard", 0)


def test_from_the_first_day_to_the_last(here: Platform, temporal_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = f"lifecycle-{uuid.uuid4()}"
    monkeypatch.setattr(tenant_lifecycle, "TASK_QUEUE", queue)

    def status(wanted: str) -> bool:
        return (row(here, NAME) or {}).get("status") == wanted

    begun = tenant_lifecycle.provision(here, SYSTEM, SPEC, "new customer")
    assert begun.workflow_id == f"tenant-provisioning/{NAME}"
    with pytest.raises(tenant_lifecycle.AlreadyRunning):
        tenant_lifecycle.provision(here, SYSTEM, SPEC, "new customer")
    with at_work(here, temporal_address, queue):
        poll(lambda: status("active"), 20)
        told = poll(lambda: (now := tenant_moving.progress(here, SYSTEM, begun.workflow_id)).percent == 100 and now)
        assert len(told.steps) == 8
        assert told.sentence == "Acme is ready for use."
        masked = tenant_moving.progress(here, ANALYST, begun.workflow_id)
        assert [step.state for step in masked.steps] == [step.state for step in told.steps]
        assert {masked.sentence, *(step.detail for step in masked.steps)} == {""}
        with pytest.raises(Invalid) as error:
            tenant_lifecycle.provision(here, SYSTEM, SPEC, "again")
        assert wrong(error) == ["id"]
        with pytest.raises(Invalid) as error:
            tenant_lifecycle.keep(here, SYSTEM, NAME, "never left")
        assert wrong(error) == ["tenant"]

        left = tenant_lifecycle.offboard(here, SYSTEM, NAME, 24, "contract ended")
        poll(lambda: status("offboarding"), 20)
        (moving,) = tenant_moving.moving(here, SYSTEM)
        assert (moving.id, moving.workflow_id, moving.removing) == (NAME, left.workflow_id, False)
        assert moving.ends_at is not None
        poll(lambda: "Waits until" in tenant_moving.progress(here, SYSTEM, left.workflow_id).sentence)
        tenant_lifecycle.keep(here, SYSTEM, NAME, "they stay")
        poll(lambda: status("active"), 20)
        assert where(here, NAME) == list(SYSTEMS)

        def again() -> bool:
            try:
                tenant_lifecycle.offboard(here, SYSTEM, NAME, 24, "contract ended")
            except tenant_lifecycle.AlreadyRunning:  # the first run has put the tenant back and is about to end
                return False
            return True

        poll(again)
        poll(lambda: status("offboarding"), 20)
        tenant_lifecycle.end_wait(here, SYSTEM, NAME, "they insist")
        poll(lambda: status("closed"), 20)
        assert where(here, NAME) == []
        with pytest.raises(Invalid) as error:
            tenant_lifecycle.provision(here, SYSTEM, SPEC, "they are back")
        assert wrong(error) == ["id"]
    done = {entry.action for entry in audit.entries(here, SYSTEM, limit=50) if entry.subject == f"tenant/{NAME}"}
    assert done >= {
        "tenant.provision", "tenant.activate", "tenant.offboard", "tenant.offboarding", "tenant.keep",
        "tenant.end_wait",
    }  # fmt: skip


def test_over_the_api(here: Platform, temporal_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = f"lifecycle-{uuid.uuid4()}"
    monkeypatch.setattr(tenant_lifecycle, "TASK_QUEUE", queue)
    name = f"api-{uuid.uuid4().hex[:8]}"
    token = apitokens.create(here, SYSTEM, "t", frozenset({"platform_admin"}))
    looks = apitokens.create(here, SYSTEM, "looks", frozenset({"analyst"}))
    with TestClient(create_api(here), headers={"Authorization": f"Bearer {token}"}) as client:
        body = {"id": name, "name": "Acme", "tier": TIER, "email": "boss@acme.example"}
        bad = client.post("/tenants", json={**body, "tier": "gold"})
        assert bad.status_code == 422
        assert bad.json()["errors"][0]["field"] == "tier"
        assert client.get(f"/tenants/{name}/progress").status_code == 404
        begun = client.post("/tenants", json=body)
        assert begun.status_code == 202
        assert client.post("/tenants", json=body).status_code == 409
        where_told = begun.headers["location"].removeprefix("/api/v2")
        with at_work(here, temporal_address, queue):
            poll(lambda: client.get(where_told).json().get("percent") == 100, 20)
            assert "boss@acme.example" in client.get(where_told).text
            masked = client.get(where_told, headers={"Authorization": f"Bearer {looks}"})
            assert (masked.json()["percent"], masked.json()["sentence"]) == (100, "")
            assert "boss@acme.example" not in masked.text
            unsaid = client.delete(f"/tenants/{name}", params={"wait_hours": 24, "confirm": "acme"})
            assert (unsaid.status_code, unsaid.json()["errors"][0]["allowed"]) == (422, name)
            assert client.get(f"/tenants/{name}").json()["status"] == "active"
            gone = client.delete(f"/tenants/{name}", params={"wait_hours": 24, "confirm": name})
            assert gone.status_code == 202
            poll(lambda: "Waits until" in client.get(where_told).json().get("sentence", ""), 20)
            assert client.post(f"/tenants/{name}/offboarding/keep", json={"reason": "they stay"}).status_code == 202
            poll(lambda: client.get(f"/tenants/{name}").json()["status"] == "active", 20)
            for confirm, field in (("", "confirm"), (name, "tenant")):
                refused = client.post(f"/tenants/{name}/offboarding/end", json={"reason": "no", "confirm": confirm})
                assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, field)
        assert client.delete("/tenants/nobody", params={"confirm": "nobody"}).status_code == 404
