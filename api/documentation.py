"""``/docs``: the API's operations as a plain page drawn on the server, loading nothing from anywhere."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

_STYLE = """
:root{color-scheme:light dark;--line:color-mix(in srgb,currentColor 15%,transparent);font:15px/1.5 system-ui,sans-serif}
body{max-width:60rem;margin:2rem auto;padding:0 1rem}
details{border:1px solid var(--line);border-radius:8px;margin:.4rem 0;padding:.5rem .8rem}
summary{cursor:pointer}summary code{font-weight:600}
.verb{display:inline-block;min-width:4.2rem;font:600 12px ui-monospace,monospace}
table{border-collapse:collapse;margin:.6rem 0}
td,th{border-bottom:1px solid var(--line);padding:.25rem .8rem .25rem 0;text-align:left}
pre{overflow:auto;background:color-mix(in srgb,currentColor 6%,transparent);padding:.6rem;border-radius:6px}
h2{margin-top:2rem}:focus-visible{outline:2px solid #3b82f6;outline-offset:2px}
"""
_VERBS = ("get", "post", "put", "patch", "delete")


def _schema(schema: dict[str, Any], root: dict[str, Any]) -> str:
    name = schema.get("$ref", "").rsplit("/", 1)[-1]
    shown = root.get("components", {}).get("schemas", {}).get(name, schema)
    return f"<pre>{escape(json.dumps(shown, indent=2)[:4000])}</pre>"


def _operation(verb: str, path: str, operation: dict[str, Any], root: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(p['name'])}</code></td><td>{escape(p['in'])}</td>"
        f"<td>{escape(str(p.get('schema', {}).get('type', '')))}</td><td>{'required' if p.get('required') else ''}</td>"
        f"<td>{escape(p.get('description', ''))}</td></tr>"
        for p in operation.get("parameters", [])
    )
    parameters = f"<table><tr><th>parameter<th>in<th>type<th><th></tr>{rows}</table>" if rows else ""
    body = ""
    for media in operation.get("requestBody", {}).get("content", {}).values():
        body += "<p>Body:</p>" + _schema(media.get("schema", {}), root)
    return (
        f'<details><summary><span class="verb">{verb.upper()}</span> <code>{escape(path)}</code> '
        f"{escape(operation.get('summary', ''))}</summary><p>{escape(operation.get('description', ''))}</p>"
        f"{parameters}{body}</details>"
    )


def page(api: FastAPI) -> str:
    """The whole page as HTML."""
    root = api.openapi()
    groups: dict[str, list[str]] = {}
    for path, verbs in root["paths"].items():
        for verb in _VERBS:
            if verb in verbs:
                operation = verbs[verb]
                group = (operation.get("tags") or ["Other"])[0]
                groups.setdefault(group, []).append(_operation(verb, f"/api/v2{path}", operation, root))
    parts = "".join(f"<h2>{escape(group)}</h2>{''.join(items)}" for group, items in groups.items())
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Pilothouse API</title><style>{_STYLE}</style><h1>Pilothouse API</h1>"
        "<p>Send <code>Authorization: Bearer TOKEN</code> with an API token or a Keycloak access token. Errors are "
        "problem details (RFC 9457). Changes carry <code>If-Match</code> with the ETag you read, a list of ETags, or "
        "<code>*</code> for whatever is there; a weak ETag never matches. "
        "What ends runs, stops a queue or removes a tenant or schedule is named once more in <code>confirm</code>; "
        "without it the answer is 422 and says what it has to hold. A rate limit of 0 blocks without being asked. "
        'The machine-readable description is <a href="openapi.json">openapi.json</a>.</p>'
        f"{parts}</html>"
    )


def install(api: FastAPI) -> None:
    """Serve the page at ``/docs``."""

    @api.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(page(api))
