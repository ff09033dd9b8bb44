"""The sign-in page: plain HTML, so that nothing of the application is sent to people it does not know."""

from __future__ import annotations

from html import escape
from urllib.parse import quote

from api.web.paths import START

_STYLE = """
@font-face{font-family:Inter;src:url(/app/static/inter-latin-wght-normal.woff2) format('woff2');font-weight:100 900}
:root{color-scheme:light dark}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:grid;place-items:center;font:15px/1.55 Inter,system-ui,sans-serif;
background:light-dark(#f3f5f8,#0a0e15);color:light-dark(#1c2330,#e6eaf2);padding:1.5rem}
main{width:100%;max-width:25rem;background:light-dark(#fff,#121823);border:1px solid light-dark(#e2e6ec,#262d3a);
border-radius:14px;padding:2.2rem 2.2rem 1.9rem;box-shadow:0 12px 40px light-dark(rgba(20,30,50,.08),rgba(0,0,0,.4))}
.brand{display:flex;align-items:center;gap:.7rem;font-weight:680;font-size:1.18rem;letter-spacing:-.02em}
.brand img{width:36px;height:36px}
.env{font-size:.66rem;font-weight:600;letter-spacing:.05em;text-transform:uppercase;padding:.12rem .5rem;
border-radius:99px;border:1px solid currentColor;color:light-dark(#94540a,#f0ad4e);margin-left:auto}
h1{font-size:1.28rem;letter-spacing:-.015em;margin:1.7rem 0 .3rem}
p{margin:.2rem 0 0;color:light-dark(#5b6474,#97a1b3)}
code{font-size:.88em;
background:light-dark(#f0f3f6,#1a2230);padding:.1rem .4rem;border-radius:5px;overflow-wrap:anywhere}
.go{display:block;margin-top:1.6rem;text-align:center;padding:.68rem 1rem;border-radius:9px;background:#1f6feb;
color:#fff;
font-weight:620;text-decoration:none}
.go:hover{background:#1a62d6}.go:focus-visible{outline:3px solid light-dark(#9cc2ff,#6ea8fe);outline-offset:2px}
.note{margin-top:1.2rem;padding:.7rem .9rem;border-radius:9px;border-left:3px solid light-dark(#c22f2f,#ff7b72);
background:light-dark(#fdf1f1,#2a171b);color:inherit}
footer{margin-top:1.4rem;font-size:.8rem;color:light-dark(#7a8494,#7b8596)}
"""


def render(
    *, wanted: str, title: str | None, problem: str = "", sandbox: bool = False, signed_out: bool = False
) -> str:
    """The page. ``title`` is that of the page the person wanted, None when it is no page of ours or the first one."""
    target = f"?next={quote(wanted, safe='')}" if wanted != "/" else ""
    words = (
        "You are signed out."
        if signed_out
        else f"You will come to <b>{escape(title)}</b> afterwards."
        if title
        else "One console for every service the platform stands on."
    )
    note = f'<p class="note" role="alert">{escape(problem)}</p>' if problem else ""
    environment = '<span class="env">sandbox</span>' if sandbox else ""
    hint = (
        "<footer>The demo people and their passwords are in <code>people.json</code> of the sandbox folder.</footer>"
        if sandbox
        else ""
    )
    return _document(
        environment,
        f"<h1>Sign in</h1><p>{words}</p>{note}"
        f'<a class="go" href="{START}{target}">{"Try again" if problem else "Sign in"}</a>{hint}',
    )


def notice(title: str, words: str) -> str:
    """A page in the same dress that only says something, and tries again when asked."""
    return _document(
        "", f'<h1>{escape(title)}</h1><p role="alert">{escape(words)}</p><a class="go" href="">Try again</a>'
    )


def _document(environment: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Sign in · Pilothouse</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="robots" content="noindex">'
        f'<link rel="icon" href="/app/static/icon.png"><style>{_STYLE}</style></head><body><main>'
        f'<div class="brand"><img src="/app/static/icon.svg" alt="">Pilothouse{environment}</div>'
        f"{body}</main></body></html>"
    )
