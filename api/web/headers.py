"""The headers every answer carries, and the access log."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import logging
import re
import time
from functools import cache
from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.web.paths import is_asset

log = logging.getLogger("pilothouse.access")

_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def inline_hashes(html: str) -> list[str]:
    """CSP sources for the inline scripts of a page."""
    digests = (hashlib.sha256(body.encode()).digest() for body in _INLINE_SCRIPT.findall(html))
    return [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]


@cache
def content_security_policy() -> str:
    """The policy, with the hash of the inline script of the index page that is installed."""
    spec = importlib.util.find_spec("streamlit")
    index = Path(spec.origin or "").parent / "static" / "index.html" if spec else None
    hashes = inline_hashes(index.read_text(encoding="utf-8")) if index and index.is_file() else []
    return "; ".join(
        (
            "default-src 'self'",
            " ".join(("script-src 'self'", *hashes, "'wasm-unsafe-eval'")),
            "style-src 'self' 'unsafe-inline'",
            "connect-src 'self'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "worker-src 'self' blob:",
            "frame-src 'none'",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=(), interest-cohort=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Headers:
    """ASGI middleware: security headers on every answer, one access log line without query or cookies."""

    def __init__(self, app: ASGIApp, *, https: bool) -> None:
        self.app = app
        self.https = https

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and dress the answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path, started, status = scope["path"], time.perf_counter(), 0

        async def dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._dress(MutableHeaders(scope=message), path)
            await send(message)

        try:
            await self.app(scope, receive, dressed)
        finally:
            if not is_asset(path):
                took = (time.perf_counter() - started) * 1000
                log.info("%s %s %s %.0f ms", scope["method"], _printable(path), status or "-", took)

    def _dress(self, headers: MutableHeaders, path: str) -> None:
        for name, value in _ALWAYS.items():
            headers[name] = value
        headers.setdefault("Content-Security-Policy", content_security_policy())
        if self.https:
            headers["Strict-Transport-Security"] = "max-age=31536000"
        if is_asset(path):
            # Other sites have no business with our fonts and scripts.
            if "access-control-allow-origin" in headers:
                del headers["access-control-allow-origin"]
        else:
            headers["Cache-Control"] = "no-store"
        cookies = headers.getlist("set-cookie")
        if cookies and self.https:
            del headers["set-cookie"]
            for cookie in cookies:
                headers.append("set-cookie", cookie if "secure" in cookie.lower() else f"{cookie}; Secure")


def _printable(path: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in path[:200])
