"""An SMTP server that delivers nothing: it keeps each mail in a folder and shows it on a page."""

from __future__ import annotations

import asyncio
import email
import email.policy
import html
import itertools
import secrets
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

KEPT = 500
SIZE_LIMIT = 10 * 1024 * 1024


class Mailbox:
    """Mails as files ``<UTC time>-<n>.eml``, the newest ``KEPT`` of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._numbers = itertools.count(1)

    def add(self, content: bytes) -> str:
        """Keep one mail and return its id; the oldest go when there are too many."""
        ident = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{next(self._numbers)}"
        (self.folder / f"{ident}.eml").write_bytes(content)
        for old in self._files()[KEPT:]:
            old.unlink(missing_ok=True)
        return ident

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.eml"), reverse=True)

    def read(self, ident: str) -> dict[str, Any] | None:
        """One mail by id, or None."""
        path = self.folder / f"{Path(ident).name}.eml"
        if not path.is_file():
            return None
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        body = message.get_body(("plain", "html"))
        return {
            "id": ident,
            "received_at": datetime.strptime(ident.split("-")[0], "%Y%m%dT%H%M%S%f").replace(tzinfo=UTC).isoformat(),
            "from": str(message["from"] or ""),
            "to": str(message["to"] or ""),
            "subject": str(message["subject"] or ""),
            "text": body.get_content() if body is not None else "",
        }

    def newest(self, limit: int = 100) -> list[dict[str, Any]]:
        """The newest mails first."""
        return [mail for path in self._files()[:limit] if (mail := self.read(path.stem))]

    def clear(self) -> None:
        """Forget all mails."""
        for path in self._files():
            path.unlink(missing_ok=True)


class _Handler:
    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if any(address.startswith("bounce@") for address in envelope.rcpt_tos):
            return "550 5.1.1 No such mailbox"
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        ident = await asyncio.to_thread(self.mailbox.add, content)
        return f"250 2.0.0 Kept as {ident}"


async def serve_smtp(mailbox: Mailbox, port: int, *, username: str, password: str) -> asyncio.Server:
    """Listen on 127.0.0.1:port. AUTH is offered and checked, but not demanded. ``bounce@…`` is refused."""

    def authenticate(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        known = (
            isinstance(data, LoginPassword)
            and secrets.compare_digest(data.login, username.encode())
            and secrets.compare_digest(data.password, password.encode())
        )
        return AuthResult(success=known, handled=known)

    def factory() -> SMTP:
        return SMTP(
            _Handler(mailbox),
            hostname="mail.pilothouse.test",
            data_size_limit=SIZE_LIMIT,
            enable_SMTPUTF8=True,
            authenticator=authenticate,
            auth_require_tls=False,
        )

    return await asyncio.get_running_loop().create_server(factory, "127.0.0.1", port)


_PAGE = """<!doctype html><meta charset="utf-8"><title>Sandbox mailbox</title>
<style>body{font:15px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.4rem;border-bottom:1px solid #8886}
pre{white-space:pre-wrap}:root{color-scheme:light dark}</style>"""


def mailbox_app(mailbox: Mailbox) -> Starlette:
    """``/`` lists, ``/mails/{id}`` shows, ``/api/mails`` is the same in JSON; DELETE forgets."""

    def page(request: Request) -> Response:
        rows = "".join(
            f"<tr><td>{mail['received_at'][:19].replace('T', ' ')}<td>{html.escape(mail['to'])}"
            f"<td><a href='/mails/{mail['id']}'>{html.escape(mail['subject'] or '(no subject)')}</a>"
            for mail in mailbox.newest()
        )
        table = f"<table><tr><th>UTC<th>To<th>Subject{rows}</table>" if rows else "<p>No mail yet."
        return HTMLResponse(f"{_PAGE}<h1>Sandbox mailbox</h1>{table}")

    def show(request: Request) -> Response:
        mail = mailbox.read(request.path_params["ident"])
        if mail is None:
            return PlainTextResponse("No such mail.", 404)
        return HTMLResponse(
            f"{_PAGE}<p><a href='/'>All mails</a><h1>{html.escape(mail['subject'])}</h1>"
            f"<p>From {html.escape(mail['from'])} to {html.escape(mail['to'])}<pre>{html.escape(mail['text'])}</pre>"
        )

    def api(request: Request) -> Response:
        if request.method == "DELETE":
            mailbox.clear()
            return Response(status_code=204)
        return JSONResponse({"mails": mailbox.newest()})

    app = Starlette(
        routes=[
            Route("/", page),
            Route("/mails/{ident}", show),
            Route("/api/mails", api, methods=["GET", "DELETE"]),
        ]
    )
    app.state.mailbox = mailbox
    return app
