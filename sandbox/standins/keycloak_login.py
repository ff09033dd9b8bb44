"""The pages of the Keycloak stand-in that a person sees."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from sandbox.people import Person

HEADERS = {
    "Cache-Control": "no-store, must-revalidate, max-age=0",
    "X-Frame-Options": "SAMEORIGIN",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'",
}

_STYLE = """
:root{color-scheme:light dark;--bg:#eef2f6;--card:#fff;--ink:#16202c;--soft:#5a6878;--line:#d4dce5;--accent:#0b6aa8;
--on:#fff;--bad:#b3261e;--hover:#f2f7fb}
@media(prefers-color-scheme:dark){:root{--bg:#0e151d;--card:#17212c;--ink:#e7edf4;--soft:#9db0c3;--line:#2c3a49;
--accent:#5db4ec;--on:#06121c;--bad:#ff8a80;--hover:#1f2c3a}}
*{box-sizing:border-box}body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1.5rem;
background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{width:100%;max-width:26rem;background:var(--card);border:1px solid var(--line);border-radius:14px;padding:2rem}
h1{font-size:1.35rem;margin:0 0 .25rem}h2{font-size:.95rem;margin:1.75rem 0 .5rem;color:var(--soft);font-weight:600}
p{margin:.25rem 0 1rem;color:var(--soft)}label{display:block;font-weight:600;font-size:.9rem;margin:.9rem 0 .3rem}
input{width:100%;padding:.6rem .7rem;border:1px solid var(--line);border-radius:8px;background:var(--bg);
color:var(--ink);font:inherit}
button{width:100%;padding:.65rem .8rem;border-radius:8px;border:1px solid var(--line);background:transparent;
color:var(--ink);font:inherit;cursor:pointer;margin-top:.4rem;text-align:left}
button:hover{background:var(--hover)}button.go{background:var(--accent);border-color:var(--accent);color:var(--on);
font-weight:600;text-align:center;margin-top:1.2rem}button.go:hover{filter:brightness(1.08)}
:focus-visible{outline:3px solid var(--accent);outline-offset:2px}.bad{color:var(--bad);font-weight:600}
small{color:var(--soft)}
"""


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>{body}</main></body></html>"
    )


def login(realm: str, action: str, people: Sequence[Person], *, username: str = "", error: str = "") -> str:
    """The sign-in form, and below it one button for each demo person."""
    where = escape(action, quote=True)
    message = f'<p class="bad" role="alert" id="input-error">{escape(error)}</p>' if error else ""
    body = (
        f"<h1>Sign in to {escape(realm)}</h1><p>Keycloak · sandbox</p>{message}"
        f'<form id="kc-form-login" method="post" action="{where}">'
        '<label for="username">Username or email</label>'
        '<input id="username" name="username" autocomplete="username" autofocus'
        f' value="{escape(username, quote=True)}">'
        '<label for="password">Password</label>'
        '<input id="password" name="password" type="password" autocomplete="current-password">'
        '<button class="go" id="kc-login" type="submit">Sign in</button></form>'
    )
    if people:
        body += f'<h2>Demo people</h2><form method="post" action="{where}" id="demo-people">'
        for person in people:
            label = f"Sign in as {person.first_name} · {', '.join(person.roles)}"
            body += (
                f'<button type="submit" name="demo" value="{escape(person.username, quote=True)}">'
                f"{escape(label)}</button>"
            )
        body += "</form>"
    return _page(f"Sign in to {realm}", body)


def error(message: str) -> str:
    """Keycloak's "We are sorry" page."""
    return _page("We are sorry...", f'<h1>We are sorry…</h1><p class="bad" id="kc-error-message">{escape(message)}</p>')


def confirm_logout(url: str) -> str:
    """The question before a sign-out that carries no proof of who asks."""
    body = (
        f'<h1>Do you want to sign out?</h1><form method="post" action="{escape(url, quote=True)}">'
        '<input type="hidden" name="confirm" value="yes"><button class="go" id="kc-logout">Sign out</button></form>'
    )
    return _page("Signing out", body)


def signed_out() -> str:
    """What remains after a sign-out without a place to return to."""
    return _page("Signed out", "<h1>You are signed out</h1><p>You may close this window.</p>")
