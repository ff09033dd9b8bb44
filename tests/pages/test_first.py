"""What a page shows before its scripts run is what it shows after, and no more than the person may see."""

from __future__ import annotations

import re

import pytest

from operations import health
from operations.access import ROLES, SYSTEM
from operations.platform import Platform
from pages.widgets import first
from pages.widgets.page import all_pages
from pages.widgets.shell import address
from sandbox.inprocess import Services
from tests.pages.driver import opened, signed_in, texts
from tests.support import poll

pytestmark = pytest.mark.engines
MOVING = re.compile(r"\d+ s ago|<b>\d+ s</b>|title=\"[^\"]*\"")
"""Ages, and moments in the zone of whoever looks."""


def _heads(html: str) -> list[str]:
    return [MOVING.sub("", head) for head in re.findall(r'<div class="ph-(?:banner|card) .*?</div></div>', html)]


@pytest.mark.parametrize("slug", all_pages())
def test_it_is_the_head_that_the_page_draws(slug: str, platform: Platform) -> None:
    health.refresh(platform, SYSTEM)
    sid = signed_in(platform, "platform_admin")
    first.view(platform, "/redis-ratelimits", sid)  # how rate limits stand is read in the background from now on
    poll(lambda: "Reading" not in first.view(platform, "/redis-ratelimits", sid))
    drawn = texts(opened(slug, sid))
    shown = first.view(platform, address(all_pages()[slug]), sid)
    assert f"<b>{all_pages()[slug].title}</b>" in shown
    assert 'aria-current="page">' + all_pages()[slug].title in shown
    heads = _heads(shown)
    assert bool(heads) is (all_pages()[slug].service is not None or slug in ("overview", "ratelimits"))
    assert set(heads) <= set(_heads(drawn))


@pytest.mark.parametrize("role", ROLES)
def test_nobody_sees_more_than_they_may(role: str, platform: Platform) -> None:
    sid = signed_in(platform, role)
    for page in all_pages().values():
        shown = first.view(platform, address(page), sid)
        assert bool(shown) is (page.permission in ROLES[role]), page.slug
        for other in all_pages().values() if shown else ():
            assert (f'href="{address(other)}"' in shown) is (other.permission in ROLES[role]), other.slug
        if page.slug == "overview" and shown:
            assert (f'class="ph-first-card" href="{address(all_pages()["ratelimits"])}"' in shown) is (
                all_pages()["ratelimits"].permission in ROLES[role]
            )


def test_nothing_is_shown_to_nobody_or_for_no_page(platform: Platform) -> None:
    assert first.view(platform, "/redis", "a" * 43) == ""
    assert first.view(platform, "/redis", "") == ""
    assert first.view(platform, "/nothing", signed_in(platform, "platform_admin")) == ""


def test_a_failing_service_is_told_from_the_first_moment(platform: Platform, standins: Services) -> None:
    health.refresh(platform, SYSTEM)
    standins.fault("qdrant", "refuse")
    health.refresh(platform, SYSTEM)
    shown = first.view(platform, "/qdrant", signed_in(platform, "platform_admin"))
    assert 'class="ph-banner ph-down"' in shown
    assert health.now(platform, "qdrant").health.message in shown
    assert re.search(r"<small>Vectors</small><b>[^<–]+</b><em>\d+ s ago</em>", shown)
    drawn = texts(opened("qdrant", signed_in(platform, "platform_admin")))
    assert "What was known" in drawn
