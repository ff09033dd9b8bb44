"""A service is one adapter and one page under one name, with tests and documentation; anything less fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.core import adapter_classes, services
from pages.widgets.page import all_pages, modules

ROOT = Path(__file__).parent.parent.parent
SRS = {
    "postgresql": "/platform/infrastructure/database",
    "redis": "/platform/infrastructure/redis",
    "temporal": "/platform/infrastructure/temporal",
    "qdrant": "/platform/infrastructure/qdrant",
    "keycloak": "/platform/infrastructure/auth",
    "lago": "/platform/infrastructure/billing",
    "somabrain": "/platform/infrastructure/somabrain",
    "whisper": "/platform/infrastructure/voice/stt",
    "kokoro": "/platform/infrastructure/voice/tts",
    "mcp": "/platform/infrastructure/mcp",
    "s3": "/platform/infrastructure/storage",
    "smtp": "/platform/infrastructure/email",
}


def test_the_twelve_services_are_there_on_their_routes() -> None:
    assert {slug: service.path for slug, service in services().items()} == SRS


@pytest.mark.parametrize("slug", adapter_classes())
def test_an_adapter_has_a_page_tests_and_documentation(slug: str) -> None:
    module = adapter_classes()[slug].__module__
    assert module == f"adapters.{slug}", "the adapter's file carries the service's name"
    assert all_pages()[slug].service == slug
    assert (ROOT / "tests" / "contract" / f"test_adapter_{slug}.py").is_file()
    assert (ROOT / "docs" / "pages" / f"{slug}.md").is_file()


@pytest.mark.parametrize("slug", all_pages())
def test_a_page_is_documented_and_named_after_its_file(slug: str) -> None:
    assert modules()[slug].__name__ == f"pages.{slug}"
    assert (ROOT / "docs" / "pages" / f"{slug}.md").is_file()
    assert all_pages()[slug].summary


def test_every_service_says_what_it_is_for() -> None:
    known = set(services())
    for service in services().values():
        assert service.purpose
        assert service.affects
        assert set(service.depends_on) <= known


def test_pages_have_distinct_addresses() -> None:
    urls = [page.url for page in all_pages().values()]
    assert len(urls) == len(set(urls))
