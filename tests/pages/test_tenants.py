"""The Tenants page: adding one, following it, sending it away and keeping it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import text
from streamlit.testing.v1 import AppTest

from adapters.core import utcnow
from operations import tenant_leaving, tenant_lifecycle
from operations.platform import Platform
from pages.widgets.page import all_pages
from sandbox.inprocess import Services
from tests.pages.driver import opened, signed_in, texts
from tests.support import poll
from tests.support_tenants import TIER, at_work, make_tier, row

pytestmark = pytest.mark.engines


@pytest.fixture
def queue(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> str:
    make_tier(platform)
    name = f"tenants-page-{uuid.uuid4()}"
    monkeypatch.setattr(tenant_lifecycle, "TASK_QUEUE", name)
    return name


@pytest.fixture
def name() -> Iterator[str]:
    yield f"page-{uuid.uuid4().hex[:8]}"


def click(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click()
    return app.run()


def click_inside(app: AppTest, what: str, label: str) -> AppTest:
    """Press a button of an open dialog: a browser runs the dialog alone, here the page opens it again."""
    app.session_state["_tenants_leaving"].what = what
    return click(app, label)


def type_in(app: AppTest, **values: str) -> None:
    for key, value in values.items():
        next(box for box in app.text_input if box.key == f"tenants_{key}").set_value(value)


def test_a_tenant_is_added_and_followed(
    platform: Platform, standins: Services, temporal_address: str, queue: str, name: str
) -> None:
    app = opened("tenants", signed_in(platform, "infra_admin"))
    app = click(app, "Add tenant")
    app.selectbox(key="tenants_new_tier").set_value(TIER)
    type_in(app, new_id="No Good", new_name="Acme", new_email="boss@acme.example", new_reason="a customer")
    app = click(app, "Make the tenant")
    assert "**Id** cannot be an id" in texts(app)  # by the name of its field on the page
    assert next(box for box in app.text_input if box.key == "tenants_new_name").value == "Acme"  # typing is kept

    type_in(app, new_id=name)
    standins.fault("temporal", "refuse")
    app = click(app, "Make the tenant")
    assert "No connection to Temporal." in texts(app)
    assert row(platform, name) is None
    standins.fault("temporal", None)

    app = click(app, "Make the tenant")
    assert not app.exception
    assert f"Making {name}" in texts(app).replace("\\", "")
    with at_work(platform, temporal_address, queue):

        def done() -> bool:
            app.run()
            assert not app.exception
            return "Acme is ready for use." in str([bar.text for bar in app.get("progress")])

        poll(done, 20)
        said = texts(app)
        assert "On its way to boss@acme.example." in said
        app = opened("tenants", signed_in(platform, "analyst"), {"made": name})
        assert "8 of 8 steps" in str([bar.text for bar in app.get("progress")])
        assert "Lago customer and subscription" in texts(app)
        assert "boss@acme.example" not in texts(app) + str([bar.text for bar in app.get("progress")])
    assert "Lago customer and subscription" in said
    assert f"face_temporal=Executions&amp;run=tenant-provisioning%2F{name}" in said
    assert row(platform, name)["status"] == "active"
    said = texts(opened("tenants", signed_in(platform, "infra_admin"), {"tenant": name}))
    assert "Where it lives" in said
    assert f"<code>tenants/{name}/</code>" in said
    places = re.findall(r"<a href='/([a-z-]+)' target='_self'><code>", said)
    assert len(places) >= 6
    assert set(places) <= {page.url for page in all_pages().values()}


def test_a_tenant_is_sent_away_and_kept(platform: Platform, temporal_address: str, queue: str, name: str) -> None:
    with platform.database.session() as session:
        session.execute(
            text("INSERT INTO tenants (id, name, tier_code) VALUES (:id, 'Acme', :tier)"), {"id": name, "tier": TIER}
        )
    app = opened("tenants", signed_in(platform, "infra_admin"), {"tenant": name})
    app = click(app, "Offboard…")
    type_in(app, off_reason="contract ended", off_typed="another")
    app = click_inside(app, "offboard", "Offboard")
    assert "What was typed is not" in texts(app)
    type_in(app, off_typed=name)
    with at_work(platform, temporal_address, queue):
        app = click_inside(app, "offboard", "Offboard")
        assert not app.exception
        poll(lambda: row(platform, name)["status"] == "offboarding", 20)

        def waits() -> bool:
            app.run()
            labels = {button.label for button in app.button}
            return "Keep the tenant" in labels and "Waits until" in str([bar.text for bar in app.get("progress")])

        poll(waits, 20)
        app = click(app, "Keep the tenant")
        type_in(app, keep_reason="they stay")
        app = click_inside(app, "keep", "Keep it")
        assert not app.exception
        poll(lambda: row(platform, name)["status"] == "active", 20)
        app.run()
        assert "Keep the tenant" not in {button.label for button in app.button}


@pytest.mark.parametrize(("waited", "hours"), [(False, 10.0), (True, None)])
def test_going_on_asks_for_hours_only_while_it_waits(
    platform: Platform, name: str, waited: bool, hours: float | None
) -> None:
    make_tier(platform)
    owner = f"tenant-offboarding/{name}"
    with platform.database.session() as session:
        session.execute(
            text("INSERT INTO tenants (id, name, tier_code) VALUES (:id, 'Acme', :tier)"), {"id": name, "tier": TIER}
        )
    tenant_leaving.mark(platform, name, owner, utcnow() + timedelta(hours=10), "contract ended")
    if waited:
        tenant_leaving.waited(platform, name, owner)
    app = opened("tenants", signed_in(platform, "infra_admin"), {"tenant": name})
    app = click(app, "Go on offboarding…")
    assert not app.exception
    assert [box.value for box in app.number_input if box.key == "tenants_wait"] == ([] if waited else [hours])
    assert ("The waiting period of" in texts(app)) is waited


def test_who_may_not_change_tenants_sees_no_way_to(platform: Platform, name: str) -> None:
    make_tier(platform)
    with platform.database.session() as session:
        session.execute(
            text("INSERT INTO tenants (id, name, tier_code) VALUES (:id, 'Acme', :tier)"), {"id": name, "tier": TIER}
        )
    sid = signed_in(platform, "analyst")
    for query in ({}, {"tenant": name}, {"new": "1"}):
        app = opened("tenants", sid, query)
        assert not app.exception
        labels = {button.label for button in app.button}
        assert not labels & {"Add tenant", "Offboard…", "Make the tenant"}
    assert "You may not add tenants" in texts(app)
