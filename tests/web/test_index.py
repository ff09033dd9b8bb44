"""The index page asks for its connection at the root; nothing else is touched."""

from __future__ import annotations

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
from api.web.index import Index, _dressed
from tests.support import ROOT

PAGE = f'<html><head><script type="module" src="./static/js/index.js"></script></head>{"x" * 2000}</html>'
SCRIPT = (
    '<script src="/app/static/base.js"></script><script defer src="/app/static/shell.js"></script><script type="module"'
)


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
    for name in ("base.js", "shell.js"):
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
