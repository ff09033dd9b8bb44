"""Monitor shows what is particular to each service, and says why where it cannot."""

from __future__ import annotations

import pytest

from operations import audit, health
from operations.access import SYSTEM
from operations.platform import Platform
from sandbox.inprocess import Services
from tests.pages.driver import opened, signed_in, texts
from tests.support import poll

pytestmark = pytest.mark.engines

SHOWN = {
    "redis": ("Slow commands", "Commands since the server started", "Per call"),
    "temporal": ("Running workflows, newest", "Failed workflows, latest"),
    "qdrant": ("Collections", "Requests since the server started"),
    "keycloak": ("Brute-force protection", "Failed sign-ins of pilothouse", "Sessions of pilothouse"),
    "lago": ("Invoiced per month", "Latest invoices", "Plans"),
    "somabrain": ("Memory circuit", "Writes that failed", "Sleep"),
    "whisper": ("Try-out", "In memory"),
    "kokoro": ("Try-out", "Voices"),
    "mcp": ("Protocol", "Tools of "),
    "s3": ("Buckets", "Objects"),
    "smtp": ("Greeting", "Largest message", "Extension"),
}


@pytest.mark.parametrize("slug", SHOWN)
def test_what_is_particular_is_there(slug: str, platform: Platform) -> None:
    health.refresh(platform, SYSTEM)
    sid = signed_in(platform, "platform_admin")

    def drawn() -> str | None:
        app = opened(slug, sid, {f"face_{slug}": "Monitor"})
        assert not app.exception
        words = texts(app)
        return words if all(part in words for part in SHOWN[slug]) and "reading…" not in words else None

    assert "Could not read" not in str(poll(drawn, 20, every=0.2))


def test_lists_of_a_service_that_is_down_say_so_once_each(platform: Platform, standins: Services) -> None:
    standins.fault("lago", "refuse")
    health.refresh(platform, SYSTEM)
    sid = signed_in(platform, "platform_admin")

    def captions() -> list[str] | None:
        found = [one.value for one in opened("lago", sid, {"face_lago": "Monitor"}).caption]
        return found if sum("not known while Lago does not answer" in one for one in found) == 5 else None

    poll(captions, 20, every=0.2)


def test_people_who_may_not_operate_see_no_names_and_no_button(platform: Platform) -> None:
    health.refresh(platform, SYSTEM)
    sid = signed_in(platform, "analyst")
    drawn = texts(opened("keycloak", sid, {"face_keycloak": "Monitor"}))
    assert "Failed sign-ins of" not in drawn and "Sessions of" not in drawn
    assert not any(b.label == "Try it now" for b in opened("whisper", sid, {"face_whisper": "Monitor"}).button)


def test_a_try_out_from_the_page(platform: Platform) -> None:
    health.refresh(platform, SYSTEM)
    app = opened("whisper", signed_in(platform, "infra_admin"), {"face_whisper": "Monitor"})
    next(button for button in app.button if button.label == "Try it now").click()
    app.run()
    assert not app.exception
    assert audit.entries(platform, SYSTEM, limit=1)[0].action == "voice.try_out"
    assert "Worked" in texts(app)
