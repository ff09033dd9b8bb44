"""A server that nobody has visited yet reveals nothing to somebody it does not know."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from adapters.core import services
from operations.settings import Settings
from pages.widgets.page import all_pages
from pages.widgets.shell import HOME
from tests.support_server import Server, get

pytestmark = pytest.mark.engines


@pytest.fixture
def server(platform_settings: Settings, tmp_path: Path) -> Iterator[Server]:
    """A cold console on engines and stand-ins."""
    running = Server(tmp_path)
    yield running
    running.stop()


def _told(text: str) -> set[str]:
    """Names of pages and services in a text; the sign-in may name nothing but the page the person asked for."""
    words = {page.title for page in all_pages().values()} | {service.purpose for service in services().values()}
    return {word for word in words if word in text}


def test_every_path_over_the_websocket_and_over_http(server: Server) -> None:
    stream = server.url.replace("http", "ws", 1) + "/_stcore/stream"
    addresses = [f"/{page.url}" for slug, page in all_pages().items() if slug != HOME]
    for path in [*addresses, "/", "/main", "/nothing"]:
        for headers in ({}, {"Cookie": "pilothouse_session=" + "a" * 43}, {"X-Pilothouse-Session": "a" * 43}):
            with (
                pytest.raises(InvalidStatus) as refused,
                connect(stream, subprotocols=["streamlit"], additional_headers=headers, origin=server.url),
            ):
                pass
            assert refused.value.response.status_code == 403
            answer = get(server.url + path, headers=headers, follow_redirects=False)
            assert answer.status_code == 303
            assert answer.headers["location"].startswith("/sign-in")
            assert _told(answer.text) == set()


def test_a_running_server(server: Server, platform_settings: Settings) -> None:
    """One server for all of these: each start costs seconds."""
    _srs_routes_lead_to_the_flat_addresses_with_their_query(server)
    _sign_in_page_needs_nothing_from_outside_and_has_the_headers(server)
    _what_streamlit_offers_by_itself_is_closed(server)
    _a_sign_in_that_was_not_begun_here_is_refused(server)
    _secrets_stay_inside(server, platform_settings)


def _srs_routes_lead_to_the_flat_addresses_with_their_query(server: Server) -> None:
    for slug, page in all_pages().items():
        answer = get(f"{server.url}{page.path}?a=1&b=%2F", follow_redirects=False)
        assert answer.status_code == 307, page.path
        assert answer.headers["location"] == f"{'/' if slug == HOME else '/' + page.url}?a=1&b=%2F"


def _sign_in_page_needs_nothing_from_outside_and_has_the_headers(server: Server) -> None:
    answer = get(f"{server.url}/sign-in?next=%2Fredis")
    assert answer.status_code == 200
    assert "http" not in answer.text.replace("http-equiv", "")
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert _told(answer.text) <= {all_pages()["redis"].title}
    for asset in ("/app/static/icon.svg", "/app/static/inter-latin-wght-normal.woff2", "/app/static/shell.js"):
        assert get(server.url + asset).status_code == 200


def _what_streamlit_offers_by_itself_is_closed(server: Server) -> None:
    for path in ("/_stcore/metrics", "/_stcore/agent/openapi.json", "/_stcore/script-health-check", "/oauth2callback"):
        assert get(server.url + path).status_code == 404, path
    assert get(f"{server.url}/media/{'0' * 56}.csv").status_code == 401


def _a_sign_in_that_was_not_begun_here_is_refused(server: Server) -> None:
    answer = get(f"{server.url}/auth/callback?state=forged&code=forged")
    assert answer.status_code == 400
    assert "pilothouse_session" not in answer.headers.get("set-cookie", "")
    assert get(f"{server.url}/sign-out", headers={"sec-fetch-site": "cross-site"}).status_code == 403


def _secrets_stay_inside(server: Server, platform_settings: Settings) -> None:
    from operations.settings import config_path, file_services

    secrets = {platform_settings.encryption_keys.get_secret_value()}
    for fields in file_services().values():
        secrets |= {
            str(value)
            for name, value in fields.items()
            if any(w in name for w in ("key", "secret", "password")) and value
        }
    assert len(secrets) > 4, config_path()
    seen = [get(server.url + path).text for path in ("/", "/sign-in", "/api/v2/openapi.json", "/auth/callback?code=x")]
    seen.append(json.dumps(dict(get(f"{server.url}/auth/login", follow_redirects=False).headers)))
    seen.append(server.log.read_text())
    assert [secret for secret in secrets if any(secret in text for text in seen)] == []
