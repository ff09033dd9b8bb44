"""Usage handed over on the page of Lago, and the care of memories on the page of SomaBrain."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from streamlit.testing.v1 import AppTest

from operations import usage_sync
from operations.access import SYSTEM, Actor, Forbidden
from operations.platform import Platform
from sandbox.inprocess import Services
from tests.pages.driver import opened, signed_in, texts
from tests.support import poll

pytestmark = pytest.mark.engines


def shown(slug: str, sid: str, face: str) -> AppTest:
    app = opened(slug, sid, {f"face_{slug}": face})
    assert not app.exception, app.exception[0].value
    return app


def test_what_waits_is_refused_and_unbillable_is_said_with_its_reason(platform: Platform) -> None:
    with platform.database.session() as session:
        session.execute(
            text(
                "INSERT INTO usage_events (tenant_id, key, hour, part, amount, transaction_id, subscription_id, at,"
                " last_error, sent_at, refused_at) VALUES"
                " ('acme', 'api_calls', '2026-11-20T09:00Z', 1, 40, 'a', 's', now(), NULL, now(), NULL),"
                " ('acme', 'api_calls', '2026-11-20T10:00Z', 1, 7, 'b', 's', now(), 'Lago was away.', NULL, NULL),"
                " ('bolt', 'llm_tokens', '2026-11-20T09:00Z', 1, 9, 'c', 's', now(), 'code: <b>odd</b>', NULL, now())"
            )
        )
        session.execute(
            text("INSERT INTO usage_unbillable VALUES ('crisp', 'api_calls', 1234, 0, now(), 'has no subscription')")
        )
    now = usage_sync.handed_over(platform, SYSTEM)
    assert (now.waiting, now.waiting_units, now.last_error, now.sent_today) == (1, 7, "Lago was away.", 40)
    with pytest.raises(Forbidden):
        usage_sync.handed_over(platform, Actor("f", "F", frozenset({"finance_manager"})))
    sid = signed_in(platform, "infra_admin")
    said = poll(lambda: found if "1,234 units" in (found := texts(shown("lago", sid, "Monitor"))) else "", 20)
    assert "Usage handed over" in said and "Lago was away." in said
    assert "code: &lt;b&gt;odd&lt;/b&gt;" in said and "has no subscription" in said and "40 units" in said


def test_lists_that_are_cut_say_of_how_many(platform: Platform) -> None:
    with platform.database.session() as session:
        session.execute(
            text(
                "INSERT INTO usage_events (tenant_id, key, hour, part, amount, transaction_id, subscription_id, at,"
                " last_error, refused_at) SELECT 'acme', 'api_calls', '2026-11-20T09:00Z', n, 1, 'refused-' || n, 's',"
                " now(), 'code: odd', now() FROM generate_series(1, 3000) AS n"
            )
        )
        session.execute(
            text(
                "INSERT INTO usage_unbillable SELECT 'tenant-' || n, 'api_calls', 2, 0, now(), 'has no subscription'"
                " FROM generate_series(1, 1200) AS n"
            )
        )
    now = usage_sync.handed_over(platform, SYSTEM)
    assert (now.refused_count, len(now.refused)) == (3000, usage_sync.MOST)
    assert (now.unbillable_count, len(now.unbillable), now.unbillable_units) == (1200, usage_sync.MOST, 2400)
    sid = signed_in(platform, "infra_admin")

    def drawn() -> AppTest | None:
        app = shown("lago", sid, "Monitor")
        return app if "3,000 events" in texts(app) else None

    captions = [one.value for one in poll(drawn, 20).caption]
    assert any("kept for 400 days" in one for one in captions)
    assert "The first 50 of 3,000." in captions and "The first 50 of 1,200." in captions


def test_failed_writes_are_sent_again_by_those_who_may(platform: Platform, standins: Services) -> None:
    brain = standins.standin("somabrain")
    failed = [one["id"] for one in brain.state["outbox"] if one["status"] == "failed"]
    viewer, admin = signed_in(platform, "ai_viewer"), signed_in(platform, "infra_admin")
    assert failed
    poll(lambda: "Only those who operate" in " ".join(c.value for c in shown("somabrain", viewer, "Care").caption), 20)
    app = shown("somabrain", admin, "Care")
    assert "Latest sleep cycles" in texts(app)
    next(box for box in app.text_input if box.label == "Reason").set_value("the store was full")
    next(button for button in app.button if button.label == "Send again").click().run()
    assert not app.exception and f"{len(failed)} writes sent again." in texts(app)
    assert {one["status"] for one in brain.state["outbox"] if one["id"] in failed} <= {"pending", "sent"}
