"""A limit changed by keyboard in the grid, and obeyed; the same page for somebody who may only read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import httpx
import pytest
import redis
from playwright.sync_api import Browser, Locator, Page, expect

from limiter import Limiter, usage
from tests.browser.browser import SHOTS
from tests.browser.conftest import Sandbox, Visit, sign_in, visit
from tests.support import poll

pytestmark = pytest.mark.browser
ADDRESS = "/redis-ratelimits"
KEY_MS = 70
"""The grid drops keys that come faster."""


@pytest.fixture
def fresh(chromium: Browser) -> Iterator[Visit]:
    """A tab nobody has signed in with."""
    tab = visit(chromium)
    yield tab
    tab.context.close()


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[redis.Redis]:
    """The sandbox's Redis."""
    endpoints = json.loads((sandbox.folder / "endpoints.json").read_text())
    with redis.Redis.from_url(endpoints["redis"]) as made:
        yield made


@pytest.fixture
def limiter(client: redis.Redis) -> Iterator[Limiter]:
    """A limiter as any service of the product has it."""
    with Limiter(client, timeout=2.0) as made:
        assert made.wait_ready()
        yield made


def cell(page: Page, words: str) -> Locator:
    """The grid's cell with these words; the grid is a canvas, its cells are there for screen readers."""
    return page.locator('[role="gridcell"]').filter(has_text=words).first


def show(page: Page, face: str) -> None:
    """Turn to a face of the page."""
    page.get_by_role("radio", name=face).or_(page.get_by_role("button", name=face, exact=True)).first.click()


def test_an_admin_changes_a_limit_by_keyboard_and_it_is_obeyed(
    fresh: Visit, sandbox: Sandbox, limiter: Limiter
) -> None:
    # The console writes the limits into an empty Redis when it starts.
    poll(lambda: limiter.peek("api_calls", "a-tenant-without-tier").limit == 1000, seconds=10)
    sign_in(fresh, sandbox, "ada", ADDRESS)
    page = fresh.page
    grid = page.get_by_test_id("stDataFrame")
    expect(grid).to_be_visible()
    expect(cell(page, "api_calls")).to_be_attached()
    canvas = grid.locator("canvas").first
    box = canvas.bounding_box()
    assert box is not None
    # The key's cell of the first row; from there on by keyboard alone.
    page.mouse.click(box["x"] + 70, box["y"] + 50)
    page.keyboard.press("ArrowRight", delay=KEY_MS)
    page.keyboard.type("2000", delay=KEY_MS)
    page.keyboard.press("Enter", delay=KEY_MS)
    expect(cell(page, "2000")).to_be_attached()
    expect(page.get_by_text("Unsaved changes.")).to_be_visible()
    show(page, "History")
    expect(page.get_by_text("Unsaved changes in Policies")).to_be_visible()
    show(page, "Policies")
    expect(cell(page, "2000")).to_be_attached()
    page.get_by_role("button", name="Review changes").click()
    expect(page.get_by_text("What changes")).to_be_visible()
    expect(page.locator(".st-key-review_policies")).to_contain_text("1,000 → 2,000")
    assert limiter.peek("api_calls", "a-tenant-without-tier").limit == 1000, "a review saves nothing"
    reason = page.get_by_label("Reason")
    reason.click()
    reason.press_sequentially("more for everyone", delay=20)
    page.get_by_role("button", name="Save 1 change").click()
    expect(page.get_by_text("api_calls for everyone: saved.")).to_be_visible()
    poll(lambda: limiter.peek("api_calls", "a-tenant-without-tier").limit == 2000, seconds=10)
    SHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SHOTS / "ratelimits-saved.png")


def test_the_products_own_traffic_obeys_and_the_page_shows_it(
    fresh: Visit, sandbox: Sandbox, client: redis.Redis
) -> None:
    """A process of the sandbox calls all the time, one of its tenants on the free tier too often."""
    ada = sandbox.people["ada"]["api_token"]
    tier = f"{sandbox.url}/api/v2/infrastructure/ratelimits/api_calls/tiers/free"
    bearer = {"Authorization": f"Bearer {ada}"}

    def put(limit: int) -> None:
        seen = httpx.get(tier, headers=bearer).raise_for_status().headers["etag"]
        values = {"limit": limit, "reason": "to watch it obeyed"}
        httpx.put(tier, json=values, headers={**bearer, "If-Match": seen}).raise_for_status()

    assert not [one for one in usage.blocked(client) if one.limit == 7]
    sign_in(fresh, sandbox, "ada", f"{ADDRESS}?face=Live")
    put(7)
    try:
        poll(lambda: [one for one in usage.blocked(client) if one.limit == 7], seconds=30)
        refused = (
            fresh.page.locator("tr").filter(has_text="api_calls").filter(has=fresh.page.get_by_text("7", exact=True))
        )
        expect(refused.first).to_be_visible(timeout=15_000)
    finally:
        put(100)


def test_a_counter_is_reset_after_asking_with_a_reason_and_on_the_record(
    fresh: Visit, sandbox: Sandbox, limiter: Limiter
) -> None:
    tenant, name = "cobalt-legal", "Cobalt Legal"
    left = limiter.peek("file_uploads", tenant).remaining
    assert left
    limit = limiter.check("file_uploads", tenant, cost=left).used  # all of it, and so among those shown
    used = f"({limit:,}|{limit - 1:,})"  # one less where the hour turns meanwhile
    sign_in(fresh, sandbox, "ada", f"{ADDRESS}?face=Live")
    page = fresh.page
    chooser = page.get_by_label("Reset a counter")
    chooser.click()
    chooser.press_sequentially(name, delay=20)
    page.get_by_role("option", name=f"{name} · file_uploads").click()
    page.get_by_role("button", name="Reset", exact=True).click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(re.compile(f"has used {used} of a limit of {limit:,}"))
    go = dialog.get_by_role("button", name="Reset the counter")
    go.click()
    expect(dialog).to_contain_text("A reason is asked for")
    assert limiter.peek("file_uploads", tenant).used >= limit - 1, "nothing without a reason"
    reason = dialog.get_by_label("Reason")
    reason.click()
    reason.press_sequentially("counted twice by mistake", delay=20)
    go.click()
    poll(lambda: limiter.peek("file_uploads", tenant).used == 0, seconds=10)
    expect(page.get_by_text(re.compile(f"{used} used forgotten"))).to_be_visible()
    show(page, "History")
    expect(page.get_by_text("counted twice by mistake").first).to_be_visible()


def test_a_product_manager_reads_everything_edits_nothing_and_is_told_why(fresh: Visit, sandbox: Sandbox) -> None:
    sign_in(fresh, sandbox, "pim", ADDRESS)
    page = fresh.page
    expect(page.get_by_text("You can read everything here and change nothing")).to_be_visible()
    expect(page.get_by_text("infra admin")).to_be_visible()
    expect(page.get_by_role("cell", name="api_calls")).to_be_visible()
    assert page.get_by_test_id("stDataFrame").count() == 0
    assert page.get_by_role("button", name="Review changes").count() == 0
    for face, words in (
        ("Tiers", "Enterprise"),
        ("Live", "Decisions per minute"),
        ("History", "recorded with its reason"),
    ):
        show(page, face)
        # Once somebody has changed something, the history is paged; before, it says what will stand there.
        expect(page.get_by_text(words).or_(page.get_by_role("button", name="Older")).first).to_be_visible()
        assert page.get_by_role("button", name="Review changes").count() == 0
        assert page.get_by_role("button", name="Revert").count() == 0
