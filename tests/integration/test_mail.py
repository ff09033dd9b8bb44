"""Mails: queued once, sent by the relay, tried again, refused for good, canceled, sent again by hand, cleared away."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import text

from adapters.core import Unreachable
from adapters.smtp import SMTP
from operations import access, audit, mail, maintenance, outbox
from operations.access import SYSTEM, Actor
from operations.change import Invalid, NotFound
from operations.platform import Platform
from sandbox.inprocess import Services

pytestmark = pytest.mark.engines

VIEWER = Actor("viewer", "Viewer", frozenset({"ai_viewer"}))


def put(platform: Platform, dedup: str = "welcome:acme", **other: Any) -> bool:
    values = {"recipient": "ops@acme.test", "subject": "Welcome", "body": "Grüße,\nAcme is ready.\n", "kind": "welcome"}
    return mail.queue(platform, **{**values, **other}, dedup=dedup)


def relay(platform: Platform) -> None:
    """One pass of the relay, with whatever waits due at once."""
    with platform.database.session() as session:
        session.execute(text("UPDATE outbox SET next_attempt_at = now()"))
    outbox.relay_once(platform, slow=True)


def only(platform: Platform) -> mail.Letter:
    (found,) = mail.recent(platform, SYSTEM)
    return found


def raw(standins: Services) -> list[str]:
    return [path.read_text() for path in sorted(standins.mailbox.folder.glob("*.eml"))]


def test_a_mail_is_queued_once_and_arrives_whole(platform: Platform, standins: Services) -> None:
    assert put(platform) and not put(platform), "the same thing is told once"
    relay(platform)
    relay(platform)
    (text_,) = raw(standins)
    assert "To: ops@acme.test" in text_ and "From: console@pilothouse.test" in text_ and "\nDate: " in text_
    found = only(platform)
    assert (found.status, found.attempts, found.last_error) == ("sent", 1, None) and found.sent_at
    state = mail.state(platform, SYSTEM)
    assert (state.waiting, state.sent_day, state.failed, state.rate) == (0, 1, 0, 100.0)
    assert sum(hour[1] for hour in state.hours) == 1 and len(state.hours) == 24


def test_a_copy_sent_again_after_a_crash_can_be_recognised(platform: Platform, standins: Services) -> None:
    put(platform)
    relay(platform)
    with platform.database.session() as session:  # as if the process had died before noting it
        session.execute(text("UPDATE mails SET status = 'queued', sent_at = NULL"))
        session.execute(text("UPDATE outbox SET delivered_at = NULL"))
    relay(platform)
    idents = [re.search(r"^Message-ID: (<\S+>)", one, re.M | re.I) for one in raw(standins)]
    assert len(idents) == 2 and idents[0] and idents[1] and idents[0][1] == idents[1][1]


def test_a_server_that_is_away_is_tried_again(platform: Platform, standins: Services) -> None:
    standins.fault("smtp", "refuse")
    for number in range(5):
        put(platform, f"welcome:{number}")
    relay(platform)
    tried = [one.attempts for one in mail.recent(platform, SYSTEM)]
    assert sum(tried) == outbox.FAILURES_PER_PASS, "the rest of the pass is not spent on a server that is away"
    state = mail.state(platform, SYSTEM)
    assert state.waiting == 5 and state.waiting_since and state.last_error and state.last_error_at
    standins.fault("smtp", None)
    relay(platform)
    assert mail.state(platform, SYSTEM).waiting == 0 and len(raw(standins)) == 5


def test_a_refusal_is_final_and_can_be_sent_again_on_the_record(platform: Platform, standins: Services) -> None:
    put(platform, recipient="bounce@acme.test")
    relay(platform)
    found = only(platform)
    assert found.status == "failed" and found.last_error and "550" in found.last_error and found.failed_at
    assert outbox.waiting(platform) == 0, "nothing waits for what will never be taken"
    with pytest.raises(access.Forbidden):
        mail.retry(platform, VIEWER, found.id, reason="please")
    with pytest.raises(Invalid):
        mail.retry(platform, SYSTEM, found.id, reason=" ")
    with pytest.raises(NotFound):
        mail.retry(platform, SYSTEM, 4711, reason="please")
    with platform.database.session() as session:
        session.execute(text("UPDATE mails SET recipient = 'ops@acme.test'"))
    assert mail.retry(platform, SYSTEM, found.id, reason="address mended").delivered
    assert only(platform).status == "sent" and len(raw(standins)) == 1
    with pytest.raises(Invalid):
        mail.retry(platform, SYSTEM, found.id, reason="twice")
    (entry,) = audit.entries(platform, SYSTEM)
    assert (entry.action, entry.subject, entry.reason) == ("mail.retry", f"mail/{found.id}", "address mended")


def test_three_days_without_success_are_enough(platform: Platform, standins: Services) -> None:
    standins.fault("smtp", "refuse")
    put(platform)
    with platform.database.session() as session:
        session.execute(text("UPDATE outbox SET created_at = now() - interval '4 days'"))
    relay(platform)
    found = only(platform)
    assert found.status == "failed" and found.last_error and found.last_error.startswith("Given up after 3 days")


def test_what_is_canceled_in_time_is_not_sent(platform: Platform, standins: Services) -> None:
    put(platform)
    assert mail.cancel(platform, "welcome:acme") and not mail.cancel(platform, "welcome:acme")
    relay(platform)
    assert only(platform).status == "canceled" and raw(standins) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("recipient", "nobody"), ("recipient", "a@b.test\r\nBcc: c@d.test"), ("recipient", "<a@b.test>"), ("subject", ""),
     ("subject", "x" * 201), ("body", "x" * 100_001)],
)  # fmt: skip
def test_what_cannot_be_a_mail_is_named(platform: Platform, field: str, value: str) -> None:
    with pytest.raises(Invalid) as caught:
        put(platform, **{field: value})
    assert [error.field for error in caught.value.errors] == [field]


def test_a_subject_stays_one_line(platform: Platform, standins: Services) -> None:
    put(platform, subject="Hello\r\nBcc: thief@evil.test")
    relay(platform)
    assert "\nBcc:" not in raw(standins)[0]


def test_who_may_not_see_tenants_sees_no_address(platform: Platform) -> None:
    put(platform, recipient="bounce@acme.test")
    relay(platform)
    (found,) = mail.recent(platform, VIEWER, "failed")
    assert found.recipient == "b…@acme.test" and "bounce@" not in (found.last_error or "")
    with pytest.raises(Invalid):
        mail.recent(platform, VIEWER, "lost")


def test_a_sender_is_needed(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = platform.adapters["smtp"]
    assert isinstance(adapter, SMTP)
    nobody = SMTP(adapter.config.model_copy(update={"from_address": None}))
    monkeypatch.setitem(platform.adapters, "smtp", nobody)
    put(platform)
    relay(platform)
    found = only(platform)
    assert found.status == "queued" and found.attempts == 0 and "FROM_ADDRESS" in (found.last_error or "")


def test_the_server_may_say_not_now(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = platform.adapters["smtp"]

    def later(*_: Any, **__: Any) -> str:
        raise Unreachable("Not now.")

    monkeypatch.setattr(adapter, "send", later)
    put(platform)
    relay(platform)
    assert (only(platform).status, only(platform).last_error) == ("queued", "Not now.")
    monkeypatch.undo()


def test_old_mails_are_cleared_away_but_those_that_wait(platform: Platform) -> None:
    put(platform, "old:sent")
    put(platform, "old:waiting")
    with platform.database.session() as session:
        session.execute(text("UPDATE mails SET created_at = now() - interval '91 days'"))
        session.execute(text("UPDATE mails SET status = 'sent' WHERE dedup = 'old:sent'"))
    assert maintenance.clean_up(platform).mails == 1
    assert only(platform).status == "queued"


def test_slow_systems_have_a_relay_of_their_own(platform: Platform, standins: Services) -> None:
    put(platform)
    assert outbox.relay_once(platform) == 0 and raw(standins) == []
    assert outbox.relay_once(platform, slow=True) == 1 and len(raw(standins)) == 1
