"""SomaBrain's register of tenants (``/api/aaas/tenants``). Without it a tenant is known by its first memory.

A tenant is known by its slug, which is our tenant's id; SomaBrain gives it an id of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from adapters.core.deadline import deadline
from adapters.core.errors import Rejected, Unexpected
from adapters.core.http import NotSupported, request

PATH = "/api/aaas/tenants"
PER_PAGE = 200
MAX_PAGES = 50
"""The register has no search: at most 10,000 tenants are looked through."""
SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class BrainTenant:
    """One tenant as SomaBrain knows it; ``status`` is its word."""

    id: str
    slug: str
    status: str
    name: str = ""
    email: str = ""


def find(http: httpx.Client, slug: str) -> BrainTenant | None:
    """The tenant with this slug; None where there is none.

    Raises AdapterError, NotSupported where this SomaBrain keeps no register.
    """
    with deadline(SECONDS):
        seen = 0
        for page in range(1, MAX_PAGES + 1):
            params = {"page": page, "page_size": PER_PAGE}
            body = request(http, "GET", PATH, expect=dict, service="SomaBrain", params=params)
            rows = body.get("tenants")
            if not isinstance(rows, list):
                raise _wrong(body)
            for one in map(_tenant, rows):
                if one.slug == slug:
                    return one
            seen += len(rows)
            if not rows or seen >= _total(body):
                return None
    raise Rejected(
        f"SomaBrain has more than {PER_PAGE * MAX_PAGES:,} tenants.",
        detail=f"{slug} is not among the first {seen}",
        advice="Look for the tenant in SomaBrain's own console.",
    )


def create(http: httpx.Client, slug: str, *, name: str, tier: str, email: str) -> BrainTenant:
    """Register a tenant, or find the one there is. Raises AdapterError, NotSupported without a register."""
    given = {"slug": slug, "name": name, "tier_slug": tier, "admin_email": email}
    try:
        row = request(http, "POST", PATH, expect=dict, service="SomaBrain", seconds=SECONDS, json=given)
    except NotSupported:
        raise
    except Rejected as error:
        if "already exists" in error.detail:
            found = find(http, slug)
            if found is not None:
                return found
        if "HTTP 405" in error.detail:
            raise NotSupported("SomaBrain registers no tenants.", detail=error.detail) from error
        if "Unknown tier" in error.detail:
            raise Rejected(
                f"SomaBrain has no tier {tier!r}.",
                detail=error.detail,
                advice="Make that tier at SomaBrain, or set one for new tenants on SomaBrain's page.",
            ) from error
        raise
    return _tenant(row)


def delete(http: httpx.Client, ident: str) -> bool:
    """Delete a tenant and what SomaBrain remembers of it; False where there is none. Raises AdapterError."""
    path, params = f"{PATH}/{quote(ident, safe='')}", {"hard_delete": "true"}
    try:
        body = request(http, "DELETE", path, expect=dict, service="SomaBrain", seconds=SECONDS, params=params)
    except NotSupported:
        return False
    if body.get("status") != "deleted":
        raise _wrong(body)
    return True


def _tenant(row: Any) -> BrainTenant:
    if not isinstance(row, dict) or not all(isinstance(row.get(name), str) and row[name] for name in ("id", "slug")):
        raise _wrong(row)
    told = (str(row.get(name) or "") for name in ("status", "name", "admin_email"))
    return BrainTenant(row["id"], row["slug"], *told)


def _total(body: dict[str, Any]) -> int:
    total = body.get("total")
    if isinstance(total, bool) or not isinstance(total, int):
        raise _wrong(body)
    return total


def _wrong(row: Any) -> Unexpected:
    return Unexpected("SomaBrain answered its tenants in an unexpected shape.", detail=str(row)[:300])
