"""The console in a real browser, on a whole sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect

from pages.widgets.page import all_pages
from pages.widgets.shell import HOME
from tests.browser.browser import SHOTS
from tests.browser.conftest import Sandbox, Visit, sign_in, visit

pytestmark = pytest.mark.browser
THEMES = ("light", "dark")


@pytest.fixture(scope="module", params=THEMES)
def ada(request: pytest.FixtureRequest, chromium: Browser, sandbox: Sandbox) -> Iterator[tuple[str, Visit]]:
    """The platform admin's tab, in each theme."""
    tab = visit(chromium, theme=request.param)
    sign_in(tab, sandbox, "ada")
    yield request.param, tab
    tab.context.close()


@pytest.fixture
def fresh(chromium: Browser) -> Iterator[Visit]:
    """A tab nobody has signed in with."""
    tab = visit(chromium)
    yield tab
    tab.context.close()


def _address(slug: str) -> str:
    return "/" if slug == HOME else f"/{all_pages()[slug].url}"


def _outside(tab: Visit) -> set[str]:
    return {
        url for url in tab.requests if urlsplit(url).hostname not in ("127.0.0.1", None) and not url.startswith("data:")
    }


@pytest.mark.parametrize("slug", all_pages())
def test_a_page_opens_looks_right_and_asks_nobody_outside(slug: str, ada: tuple[str, Visit], sandbox: Sandbox) -> None:
    theme, tab = ada
    tab.complaints.clear()
    tab.open(sandbox.url + _address(slug))
    expect(tab.page.locator(".ph-crumb b")).to_have_text(all_pages()[slug].title)
    SHOTS.mkdir(exist_ok=True)
    tab.page.screenshot(path=SHOTS / f"{slug}-{theme}.png")
    assert tab.page.get_by_test_id("stException").count() == 0
    assert tab.page.get_by_text("incident number").count() == 0
    assert tab.page.get_by_text("does not seem to exist").count() == 0
    assert _outside(tab) == set()
    assert tab.complaints == []


@pytest.mark.parametrize("slug", all_pages())
def test_a_page_fits_800_pixels(slug: str, ada: tuple[str, Visit], sandbox: Sandbox) -> None:
    _, tab = ada
    tab.page.set_viewport_size({"width": 800, "height": 900})
    try:
        tab.open(sandbox.url + _address(slug))
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= 800
        main = '[data-testid="stMain"]'
        assert tab.page.evaluate(f"(e => e.scrollWidth - e.clientWidth)(document.querySelector('{main}'))") <= 1
    finally:
        tab.page.set_viewport_size({"width": 1440, "height": 900})


def test_what_is_known_is_there_before_the_scripts_and_gives_way_to_the_page(
    ada: tuple[str, Visit], sandbox: Sandbox
) -> None:
    _, tab = ada
    tab.page.route("**/static/js/**", lambda route: route.abort())
    tab.page.goto(f"{sandbox.url}/temporal")
    expect(tab.page.locator("#ph-first .ph-banner")).to_contain_text("Temporal")
    before = tab.page.locator("#ph-first .ph-banner").bounding_box()
    tab.page.unroute("**/static/js/**")
    tab.page.locator("#ph-first nav a", has_text="Redis").click()
    tab.page.wait_for_selector("#root .ph-banner")
    assert tab.page.locator("#ph-first").count() == 0
    tab.open(f"{sandbox.url}/temporal")
    after = tab.page.locator("#root .ph-banner").bounding_box()
    assert before and after
    assert [round(after[side] - before[side]) for side in ("x", "y", "width")] == [0, 0, 0], "nothing jumps"


def test_what_is_known_gives_way_where_a_filter_leaves_nothing_of_it(ada: tuple[str, Visit], sandbox: Sandbox) -> None:
    _, tab = ada
    tab.page.goto(f"{sandbox.url}/?q=nothing-is-called-so")
    expect(tab.page.locator("#root .ph-empty")).to_be_visible()
    expect(tab.page.locator("#ph-first")).to_have_count(0, timeout=2_000)


def test_a_sidebar_somebody_closed_is_not_there_before_the_scripts_either(fresh: Visit, sandbox: Sandbox) -> None:
    sign_in(fresh, sandbox, "ada", "/temporal")
    fresh.page.get_by_test_id("stSidebarHeader").hover()
    fresh.page.get_by_test_id("stSidebarCollapseButton").get_by_role("button").click()
    expect(fresh.page.get_by_test_id("stSidebar")).to_have_attribute("data-collapsed", "true")
    fresh.page.route("**/static/js/**", lambda route: route.abort())
    fresh.page.reload()
    expect(fresh.page.locator("#ph-first .ph-banner")).to_be_visible()
    assert fresh.page.locator("#ph-first nav").count() == 0


def test_the_wanted_page_is_kept_through_signing_in_and_signing_out_ends_it(fresh: Visit, sandbox: Sandbox) -> None:
    sign_in(fresh, sandbox, "ivo", "/redis?face_redis=Monitor")
    parts = urlsplit(fresh.page.url)
    assert (parts.path, "face_redis=Monitor" in parts.query) == ("/redis", True)
    expect(fresh.page.locator(".ph-crumb b")).to_have_text(all_pages()["redis"].title)
    fresh.page.locator('.st-key-topbar [data-testid="stPopoverButton"]').click()
    fresh.page.get_by_role("link", name="Sign out").click()
    expect(fresh.page.get_by_text("You are signed out")).to_be_visible()
    fresh.page.goto(sandbox.url + "/redis")
    expect(fresh.page.get_by_role("link", name="Sign in")).to_be_visible()
    # Keycloak's session is over too: it asks for the password again.
    fresh.page.get_by_role("link", name="Sign in").click()
    expect(fresh.page.locator("#password")).to_be_visible()


def test_an_srs_route_leads_to_its_page_with_its_query(fresh: Visit, sandbox: Sandbox) -> None:
    sign_in(fresh, sandbox, "ada", "/platform/infrastructure/voice/stt?face_whisper=Limits")
    parts = urlsplit(fresh.page.url)
    assert (parts.path, parts.query) == ("/voice-stt", "face_whisper=Limits")


def test_the_search_is_worked_by_keyboard(ada: tuple[str, Visit], sandbox: Sandbox) -> None:
    _, tab = ada
    tab.open(sandbox.url + "/")
    tab.page.keyboard.press("/")
    field = tab.page.locator(".st-key-search_for input")
    expect(field).to_be_focused()
    tab.page.keyboard.type("qdr", delay=60)
    link = tab.page.get_by_role("dialog").get_by_role("link", name="Qdrant")
    expect(link).to_be_visible()
    link.press("Enter")
    expect(tab.page.locator(".ph-crumb b")).to_have_text("Qdrant")


def test_a_card_is_reached_by_tab_and_shows_its_focus(ada: tuple[str, Visit], sandbox: Sandbox) -> None:
    _, tab = ada
    tab.open(sandbox.url + "/")
    link = tab.page.locator('[class*="st-key-card-"] a').first
    link.focus()
    tab.page.keyboard.press("Shift+Tab")
    tab.page.keyboard.press("Tab")
    outline = "e => getComputedStyle(e.closest('[class*=st-key-card-]')).outlineStyle"
    assert link.evaluate(outline) == "solid"


def test_somebody_without_the_permission_sees_why_and_whom_to_ask(fresh: Visit, sandbox: Sandbox) -> None:
    sign_in(fresh, sandbox, "ana", f"/{all_pages()['audit'].url}")
    expect(fresh.page.get_by_text("You may not open this page")).to_be_visible()
    expect(fresh.page.get_by_text("security auditor")).to_be_visible()
