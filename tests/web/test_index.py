"""The index page asks for its connection at the root; nothing else is touched."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import streamlit
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from api.web.headers import inline_hashes
from api.web.index import FIRST_SECONDS, Index, _dressed
from tests.support import ROOT

PAGE = f'<html><head><script type="module" src="./static/js/index.js"></script></head>{"x" * 2000}</html>'
SCRIPT = (
    '<script defer src="/app/static/base.js"></script><script defer src="/app/static/first.js"></script>'
    '<script defer src="/app/static/shell.js"></script><script type="module"'
)
ROOTED = f'<html><head><style></style></head><body><div id="root"></div>{"x" * 2000}</body></html>'


async def _page(_request: Request) -> Response:
    return HTMLResponse(PAGE)


async def _json(_request: Request) -> Response:
    return JSONResponse({"page": PAGE})


@pytest.fixture
def client() -> TestClient:
    routes = [Route("/tenants", _page), Route("/static/page", _page), Route("/api/v2/docs", _page), Route("/j", _json)]
    return TestClient(Starlette(routes=routes, middleware=[Middleware(Index), Middleware(GZipMiddleware)]))


def test_a_page_is_told_where_the_console_is(client: TestClient) -> None:
    answer = client.get("/tenants", headers={"Accept-Encoding": "gzip"})
    assert answer.text == PAGE.replace('<script type="module"', SCRIPT)
    assert int(answer.headers["content-length"]) == len(answer.content)
    for name in ("base.js", "first.js", "shell.js"):
        assert (ROOT / "pages" / "static" / name).is_file()


@pytest.mark.parametrize("path", ["/static/page", "/api/v2/docs", "/j"])
def test_nothing_else_is_changed(path: str, client: TestClient) -> None:
    assert "base.js" not in client.get(path).text


def test_a_head_request_passes(client: TestClient) -> None:
    assert client.head("/tenants").status_code == 200


def test_the_page_speaks_of_this_console_before_its_script_runs() -> None:
    installed = (Path(streamlit.__file__).parent / "static" / "index.html").read_text(encoding="utf-8")
    shown = _dressed(installed.encode()).decode()
    assert "<title>Pilothouse</title>" in shown
    assert "_stcore/agent" not in shown
    assert inline_hashes(shown) == inline_hashes(installed), "the policy allows the installed page's own script only"
    assert 'src="./static/js/index.' in shown
    assert '<div id="root"></div>' in shown
    assert "SourceSans" not in shown
    assert shown.count('rel="stylesheet"') == installed.count('rel="stylesheet"') == 1
    assert shown.index('rel="stylesheet"') < shown.index("<script defer") < shown.index('type="module"')
    assert "<script src" not in shown, "no script is waited for before the first paint"
    (font,) = re.findall(r'rel="preload" href="/app/static/([^"]+)"', shown)
    assert (ROOT / "pages" / "static" / font).is_file()


def _shown(first: Callable[[str, str], str], **headers: str) -> str:
    async def page(_request: Request) -> Response:
        return HTMLResponse(ROOTED)

    app = Starlette(routes=[Route("/tenants", page)], middleware=[Middleware(Index, sheet="b{}", first=first)])
    answer = TestClient(app).get("/tenants", headers=headers)
    assert int(answer.headers["content-length"]) == len(answer.content)
    return answer.text


def test_styles_and_what_is_known_stand_before_the_application() -> None:
    shown = _shown(lambda path, sid: f"<i>{path} {sid}</i>", **{"x-pilothouse-session": "abc"})
    assert shown == ROOTED.replace('<div id="root">', '<style>b{}</style><i>/tenants abc</i><div id="root">')


def _slow(_path: str, _sid: str) -> str:
    time.sleep(FIRST_SECONDS + 0.4)
    return "late"


def _wrong(_path: str, _sid: str) -> str:
    raise ValueError("secret")


@pytest.mark.parametrize("first", [_slow, _wrong])
def test_without_what_is_known_in_time_the_page_is_what_it_was(first: Callable[[str, str], str]) -> None:
    shown = _shown(first, **{"x-pilothouse-session": "abc"})
    assert shown == ROOTED.replace('<div id="root">', '<style>b{}</style><div id="root">')


def test_somebody_without_a_session_is_told_nothing() -> None:
    assert "known" not in _shown(lambda _path, _sid: "known")
