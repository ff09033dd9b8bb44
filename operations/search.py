"""One search box over what the console knows: pages, handed in by whoever draws them, and tenants."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from operations import tenants
from operations.access import Actor, Permission
from operations.platform import Platform

LIMIT = 8
LONGEST = 100


@dataclass(frozen=True, slots=True)
class Hit:
    """Something found: ``kind`` is "page" or "tenant", ``key`` the page's slug or the tenant's id."""

    kind: str
    key: str
    title: str
    detail: str


def search(
    platform: Platform, actor: Actor, words: str, pages: Iterable[tuple[str, str, str]], limit: int = LIMIT
) -> list[Hit]:
    """At most ``limit`` pages and ``limit`` tenants that contain ``words``; those beginning with them first.

    ``pages`` are (slug, title, section). Tenants are left out for people who may not see them.
    """
    wanted = words.strip().casefold()[:LONGEST]
    if not wanted:
        return []
    found = [Hit("page", slug, title, section) for slug, title, section in pages
             if wanted in f"{title} {section} {slug}".casefold()]  # fmt: skip
    found.sort(key=lambda hit: (not hit.title.casefold().startswith(wanted), wanted not in hit.title.casefold()))
    hits = found[:limit]
    if actor.may(Permission.TENANTS_VIEW):
        rows = tenants.search(platform, actor, wanted, limit).rows
        hits += [Hit("tenant", row.id, row.name, row.tier) for row in rows]
    return hits
