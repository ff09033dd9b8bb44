"""The gate refuses before anything of the application is reached."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from adapters.core import Unreachable
from api.web import paths
from api.web.gate import MAX_BODY, Gate
from api.web.headers import Headers, content_security_policy, inline_hashes

SID = "s" * 43
ORIGIN = "http://127.0.0.1:8501"
STREAM = "ws://127.0.0.1:8501/_stcore/stream"


async def _echo(request: Request) -> JSONResponse:
    body = await request.body()
    return JSONResponse(
        {"path": request.url.path, "sid": request.headers.getlist("x-pilothouse-session"), "size": len(body)}
    )


async def _stream(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_json({"sid": socket.headers.getlist("x-pilothouse-session")})
    await socket.close()


def _client(*, cookie: bool = False, https: bool = False, resolve=None) -> TestClient:
    known = resolve or (lambda sid: object() if sid == SID else None)
    app = Starlette(
        routes=[
            WebSocketRoute("/_stcore/stream", _stream),
            Route("/{rest:path}", _echo, methods=["GET", "POST", "PUT", "DELETE"]),
        ],
        middleware=[
            Middleware(Headers, https=https),
            Middleware(Gate, resolve=known, public_url=ORIGIN, also_open=frozenset({"/platform/tenants"})),
        ],
    )
    cookies = {paths.COOKIE: SID} if cookie else {}
    return TestClient(app, base_url=ORIGIN, cookies=cookies, follow_redirects=False)


@pytest.mark.parametrize("path", ["/", "/database", "/redis-ratelimits?tier=free", "/nothing", "/platform/other"])
def test_a_page_without_a_session_leads_to_the_sign_in_that_keeps_it(path: str) -> None:
    answer = _client().get(path)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/sign-in")
    if path != "/":
        assert answer.headers["location"].split("next=")[1].startswith("%2F")


@pytest.mark.parametrize("path", ["/media/abc.csv", "/_stcore/host-config", "/_stcore/upload_file/a/b"])
def test_what_is_no_page_needs_a_session_too(path: str) -> None:
    assert _client().get(path).status_code == 401
    assert _client(cookie=True).get(path).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/_stcore/metrics",
        "//_stcore/metrics",
        "/_stcore/agent/openapi.json",
        "/_stcore/script-health-check",
        "/oauth2callback",
    ],
)
@pytest.mark.parametrize("cookie", [True, False])
def test_streamlit_paths_we_do_not_offer_are_absent(path: str, cookie: bool) -> None:
    assert _client(cookie=cookie).get(ORIGIN + path).status_code == 404


@pytest.mark.parametrize("path", ["/sign-in", "/api/v2/health/live", "/app/static/icon.svg", "/platform/tenants"])
def test_open_paths_are_open_and_carry_no_session(path: str) -> None:
    answer = _client().get(path, headers={"x-pilothouse-session": "forged"})
    assert answer.status_code == 200
    assert answer.json()["sid"] == []


def test_a_session_header_sent_by_the_client_is_replaced() -> None:
    answer = _client(cookie=True).get("/database", headers={"X-Pilothouse-Session": "forged"})
    assert answer.json()["sid"] == [SID]


@pytest.mark.parametrize("cookie", ["", "short", "x" * 300, 'a"b;c', "s" * 42 + "é"])
def test_malformed_cookies_are_nobody(cookie: str) -> None:
    answer = _client().get("/database", headers=[(b"cookie", f"{paths.COOKIE}={cookie}".encode())])
    assert answer.status_code == 303


def test_a_store_that_fails_lets_nobody_in() -> None:
    def broken(_sid: str) -> object:
        raise Unreachable("PostgreSQL is away.")

    client = _client(cookie=True, resolve=broken)
    answer = client.get("/database")
    assert answer.status_code == 503
    assert "PostgreSQL is away." in answer.text
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(STREAM):
        pass


def test_the_websocket_needs_a_session() -> None:
    with pytest.raises(WebSocketDisconnect), _client().websocket_connect(STREAM):
        pass
    with _client(cookie=True).websocket_connect(STREAM, headers={"x-pilothouse-session": "forged"}) as socket:
        assert socket.receive_json() == {"sid": [SID]}


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9", "http://127.0.0.1:8501.evil"])
def test_foreign_origins_never_reach_the_websocket_or_a_write(origin: str) -> None:
    client = _client(cookie=True)
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect(STREAM, headers={"origin": origin}),
    ):
        pass
    assert client.put("/_stcore/upload_file/a/b", headers={"origin": origin}).status_code == 403
    assert client.get("/database", headers={"origin": origin}).status_code == 200


def test_foreign_hosts_are_refused_except_for_liveness() -> None:
    client = _client(cookie=True)
    assert client.get("/database", headers={"host": "rebound.example"}).status_code == 421
    assert client.get("/api/v2/health/live", headers={"host": "10.0.0.7:8501"}).status_code == 200


def test_bodies_and_addresses_are_capped() -> None:
    client = _client(cookie=True)
    assert client.post("/x", content=b"a" * (MAX_BODY + 1)).status_code == 413
    assert client.post("/x", content=iter([b"a" * MAX_BODY, b"b"])).status_code == 413
    assert client.post("/x", headers={"content-length": "many"}).status_code == 413
    assert client.get("/x?" + "a" * 9000).status_code == 414
    assert client.post("/x", content=b"abc").json()["size"] == 3


def test_every_answer_carries_the_headers() -> None:
    for path in ("/sign-in", "/", "/_stcore/metrics"):
        headers = _client().get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert "strict-transport-security" not in headers
    assert "strict-transport-security" in _client(https=True).get("/sign-in").headers
    assert "cache-control" not in _client().get("/app/static/icon.svg").headers


def test_the_policy_allows_no_outside_host_and_no_inline_script_but_the_index_pages() -> None:
    policy = content_security_policy()
    assert "http" not in policy
    scripts = next(part for part in policy.split("; ") if part.startswith("script-src"))
    assert "'unsafe-inline'" not in scripts and "'unsafe-eval'" not in scripts
    assert scripts.count("'sha256-") == 1
    assert inline_hashes("<script>a</script><script src=x>b</script>") == [
        "'sha256-ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs='"
    ]


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("/database?face=Monitor", "/database?face=Monitor"),
        (None, "/"),
        ("", "/"),
        ("database", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example/", "/"),
        ("/a\r\nSet-Cookie: x=1", "/"),
        ("/sign-out", "/"),
        ("/auth/login", "/"),
        ("/api/v2/health", "/"),
        ("/" + "a" * 3000, "/"),
    ],
)
def test_only_local_pages_are_wanted(target: str | None, wanted: str) -> None:
    assert paths.wanted(target) == wanted
