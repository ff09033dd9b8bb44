"""What a page is, and how pages are found: every module of ``pages`` with a ``PAGE``."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import streamlit as st

from adapters.core import services
from operations.access import Permission

SECTIONS = (
    "",
    "Platform",
    "Data",
    "Orchestration",
    "Identity",
    "Billing",
    "AI",
    "Delivery",
    "Governance",
    "Sandbox",
)
"""Sections of the navigation in order; pages of the first stand above all headings."""

_PREFIXES = ("/platform/infrastructure/", "/platform/")


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its place in the navigation and the permission it needs."""

    slug: str
    """Name of the module under ``pages``."""
    title: str
    section: str
    path: str
    """The SRS route, redirected to the page's flat address."""
    permission: Permission
    icon: str = ":material/web_asset:"
    order: int = 100
    service: str | None = None
    """Slug of the service the page administers, if it is a service's page."""
    sandbox: bool = False
    """Only there while the console runs on a sandbox."""
    summary: str = ""
    """What the page is for, for search and for people who may not enter."""

    @property
    def url(self) -> str:
        """The flat address: the distinct last segments of the route joined by dashes."""
        for prefix in _PREFIXES:
            if self.path.startswith(prefix):
                return self.path.removeprefix(prefix).replace("/", "-")
        return self.path.strip("/").replace("/", "-")


def service_page(slug: str, *, icon: str) -> Page:
    """The ``Page`` of a service, from what its adapter says of itself."""
    service = services()[slug]
    return Page(
        slug=slug,
        title=service.title,
        section=service.category.value,
        path=service.path,
        permission=Permission.INFRA_VIEW,
        icon=icon,
        order=service.order,
        service=slug,
        summary=service.purpose,
    )


@cache
def modules() -> dict[str, ModuleType]:
    """Every page module by slug, in navigation order."""
    import pages

    found: dict[str, ModuleType] = {}
    for info in pkgutil.iter_modules(pages.__path__):
        if info.ispkg or info.name == "main":
            continue
        module = importlib.import_module(f"pages.{info.name}")
        found[module.PAGE.slug] = module
    return dict(
        sorted(found.items(), key=lambda item: (SECTIONS.index(item[1].PAGE.section), item[1].PAGE.order, item[0]))
    )


@cache
def all_pages() -> dict[str, Page]:
    """Every page by slug, in navigation order."""
    return {slug: module.PAGE for slug, module in modules().items()}


def renderer(slug: str) -> Callable[[], None]:
    """The page's ``render``."""
    render: Callable[[], None] = modules()[slug].render
    return render


_REGISTRY = "_pages"


def register(pages: dict[str, Any]) -> None:
    """Keep the session's Streamlit pages, so that fragments can link to them too."""
    st.session_state[_REGISTRY] = pages


def target(slug: str) -> Any | None:
    """The Streamlit page to link or switch to; None where this session has no such page."""
    return st.session_state.get(_REGISTRY, {}).get(slug)


def slug_at(url: str) -> str:
    """Slug of the page at a flat address; empty where there is none."""
    return next((page.slug for page in all_pages().values() if page.url == url), "")


def link(slug: str, label: str, *, icon: str | None = None, tip: str | None = None) -> None:
    """A link to a page, drawn only where the session has it."""
    page = target(slug)
    if page is not None:
        st.page_link(page, label=label, icon=icon, help=tip)
