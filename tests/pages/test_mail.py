"""The queue of mails on the Email page."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from operations import mail, outbox
from operations.access import SYSTEM
from operations.platform import Platform
from sandbox.inprocess import Services
from tests.pages.driver import opened, signed_in, texts

pytestmark = pytest.mark.engines


def shown(platform: Platform, role: str) -> AppTest:
    app = opened("smtp", signed_in(platform, role), {"face_smtp": "Queue"})
    assert not app.exception, app.exception[0].value
    return app


def test_the_queue_is_shown_and_a_failed_mail_is_sent_again(platform: Platform, standins: Services) -> None:
    assert "No mails" in texts(shown(platform, "infra_admin"))
    for name in ("bounce", "ops"):
        mail.queue(
            platform, recipient=f"{name}@acme.test", subject=f"To {name}", body="Hello", kind="welcome", dedup=name
        )
    outbox.relay_once(platform, slow=True)
    reader = shown(platform, "ai_viewer")
    said = texts(reader)
    assert "b…@acme.test" in said and "bounce@" not in said and "Only those who operate" in reader.caption[0].value
    app = shown(platform, "infra_admin")
    said = texts(app)
    assert "bounce@acme.test" in said and "550" in said and "50.0 %" in said
    next(box for box in app.selectbox if box.label == "Failed mail").set_value(
        mail.recent(platform, SYSTEM, "failed")[0].id
    )
    again = next(button for button in app.button if button.label == "Send again")
    again.click().run()
    assert "reason" in texts(app).lower()
    next(box for box in app.text_input if box.label == "Reason").set_value("the address works now")
    next(button for button in app.button if button.label == "Send again").click().run()
    assert "handed over again" in texts(app) and not app.exception
    assert mail.recent(platform, SYSTEM, "failed")[0].attempts == 2
    assert len(standins.mailbox.newest()) == 1
