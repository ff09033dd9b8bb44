"""Every page, for every role, with all well, with a service down, and with nothing there yet.

Pages are discovered: one cannot exist without being tried here.
"""

from __future__ import annotations

import pytest

from adapters.core import services
from operations import health
from operations.access import ROLES, SYSTEM, Permission
from operations.platform import Platform
from pages.widgets.page import all_pages
from sandbox.inprocess import Services
from tests.pages.driver import opened, signed_in, texts

pytestmark = pytest.mark.engines

FACES = ("Status", "Configure", "Monitor", "Limits")
BROKEN = "qdrant"


@pytest.fixture
def well(platform: Platform) -> None:
    """A platform with tenants and a past, every service answering."""
    health.refresh(platform, SYSTEM)


@pytest.fixture
def down(platform: Platform, standins: Services, request: pytest.FixtureRequest) -> None:
    """The page's own service refuses connections; for the other pages, Qdrant does."""
    slug = request.getfixturevalue("slug")
    broken = all_pages()[slug].service or BROKEN
    standins.fault(broken if broken not in ("mcp", "postgresql") else BROKEN, "refuse")
    health.refresh(platform, SYSTEM)


@pytest.fixture
def empty(platform: Platform) -> None:
    """Nothing has been measured, nobody is a customer."""


@pytest.mark.parametrize("situation", ["well", "down", "empty"])
@pytest.mark.parametrize("slug", all_pages())
def test_a_page_for_every_role(slug: str, situation: str, platform: Platform, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(situation)
    page = all_pages()[slug]
    for role in ROLES:
        sid = signed_in(platform, role)
        app = opened(slug, sid)
        assert not app.exception, f"{role}: {app.exception[0].value}"
        drawn = texts(app)
        allowed = page.permission in ROLES[role]
        assert ("You may not open this page" in drawn) is not allowed, role
        assert page.title in drawn, role
        if not allowed:
            assert str(page.permission) in drawn, role
            assert "Ask someone who is" in drawn, role


@pytest.mark.parametrize("situation", ["well", "down", "empty"])
@pytest.mark.parametrize("slug", services())
def test_every_face_of_a_service(slug: str, situation: str, platform: Platform, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(situation)
    sid = signed_in(platform, "platform_admin")
    for face in FACES:
        app = opened(slug, sid, {f"face_{slug}": face})
        assert not app.exception, f"{face}: {app.exception[0].value}"
        assert services()[slug].title in texts(app)


@pytest.mark.parametrize("slug", all_pages())
def test_nobody_sees_anything(slug: str, platform: Platform) -> None:
    for sid in (None, "", "unknown" * 6):
        app = opened(slug, sid)
        assert not app.exception
        drawn = texts(app)
        assert "/sign-in?next=" in drawn
        for page in all_pages().values():
            assert page.title not in drawn


def test_a_service_that_fails_shows_advice_and_the_raw_error(platform: Platform, standins: Services) -> None:
    standins.fault(BROKEN, "refuse")
    health.refresh(platform, SYSTEM)
    drawn = texts(opened(BROKEN, signed_in(platform, "infra_admin")))
    assert "What to do" in drawn
    assert "Raw error" in drawn


def test_the_overview_filters_from_its_address(platform: Platform) -> None:
    health.refresh(platform, SYSTEM)
    app = opened("overview", signed_in(platform, "infra_admin"), {"q": "qdrant"})
    cards = [html.value for html in app.get("html") if html.value.startswith('<div class="ph-card')]
    assert len(cards) == 1
    assert "Qdrant" in cards[0]


def test_a_configuration_is_changed_with_its_reason_and_shows_in_the_record(platform: Platform) -> None:
    from operations import audit
    from operations import services as configured

    sid = signed_in(platform, "platform_admin")
    slug, field = next(
        (slug, field)
        for slug in services()
        for field in configured.describe(platform, SYSTEM, slug).fields
        if field.editable and field.type == "string" and not field.secret and not field.constraints
    )
    app = opened(slug, sid, {f"face_{slug}": "Configure"})
    typed = next(box for box in app.text_input if box.key == f"config_{slug}_{field.name}_0")
    typed.set_value("changed-here")
    next(box for box in app.text_input if box.label == "Reason").set_value("a better value")
    next(button for button in app.button if button.label == "Save").click()
    app.run()
    assert not app.exception
    entry = audit.entries(platform, SYSTEM, limit=1)[0]
    assert (entry.subject, entry.reason, entry.after[field.name]) == (slug, "a better value", "changed-here")


def test_a_role_without_the_right_gets_no_form(platform: Platform) -> None:
    assert Permission.INFRA_CONFIGURE not in ROLES["analyst"]
    app = opened("lago", signed_in(platform, "analyst"), {"face_lago": "Configure"})
    assert [button.label for button in app.button if button.label == "Save"] == []
    assert "Changing this needs the role" in texts(app)


def test_a_session_that_has_ended_leads_back_to_the_page(platform: Platform) -> None:
    from operations import oidc

    sid = signed_in(platform, "platform_admin")
    app = opened("redis", sid)
    assert services()["redis"].title in texts(app)
    oidc.logout_url(platform, sid)
    app.run()
    assert "Your session has ended" in texts(app)
