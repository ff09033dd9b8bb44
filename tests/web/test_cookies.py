"""Cookies: never readable by scripts, never sent along from elsewhere, and only over TLS where there is TLS."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from api.web import signin
from operations.platform import Platform

pytestmark = pytest.mark.engines


@pytest.mark.parametrize(
    ("public_url", "secure"), [("https://console.example", True), ("http://127.0.0.1:8501", False)]
)
def test_the_pending_sign_in_is_kept_safely(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, public_url: str, secure: bool
) -> None:
    monkeypatch.setattr(platform, "settings", platform.settings.model_copy(update={"public_url": public_url}))
    app = Starlette(routes=signin.routes(platform, {}))
    answer = TestClient(app, follow_redirects=False).get("/auth/login?next=/redis")
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert ("; secure" in cookie) is secure
