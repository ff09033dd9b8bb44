"""The pages of the services a tenant lives in, once it does."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from operations import health
from operations.access import SYSTEM
from operations.platform import Platform
from operations.tenant_systems import SYSTEMS, TenantSpec
from tests.pages.driver import opened, signed_in, texts
from tests.support import poll

pytestmark = pytest.mark.engines
SHOWN = {
    "qdrant": ("tenant_acme-labs", "1536 Cosine", "Endpoint"),
    "keycloak": ("Brute-force protection", "Sessions of pilothouse"),
    "lago": ("acme-labs", "Plans"),
    "s3": ("Buckets", "pilothouse-uploads"),
}


def test_pages_show_what_was_made_for_a_tenant(platform: Platform) -> None:
    with platform.database.session() as session:
        session.execute(text("INSERT INTO tiers (code, name, rank) VALUES ('team', 'Team', 3) ON CONFLICT DO NOTHING"))
    for system in SYSTEMS.values():
        system.make(platform, TenantSpec("acme-labs", "Acme <b>Labs</b> & Söhne", "team", "ops@acme.test"))
    health.refresh(platform, SYSTEM)
    sid = signed_in(platform, "platform_admin")

    def drawn(slug: str) -> bool:
        app = opened(slug, sid, {f"face_{slug}": "Monitor"})
        assert not app.exception
        words = texts(app)
        return all(part in words for part in SHOWN[slug]) and "reading…" not in words

    for slug in SHOWN:
        poll(lambda slug=slug: drawn(slug), 20, every=0.2)


def test_a_list_of_collections_that_is_cut_off_says_so(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.qdrant.Qdrant.collections.__defaults__", (1,))
    for number in range(3):
        SYSTEMS["qdrant"].make(platform, TenantSpec(f"t{number}", "T", "team", ""))
    health.refresh(platform, SYSTEM)
    sid = signed_in(platform, "platform_admin")

    def captions() -> list[str]:
        return [one.value for one in opened("qdrant", sid, {"face_qdrant": "Monitor"}).caption]

    poll(lambda: any(one.startswith("1 of ") and one.endswith("collections, by name.") for one in captions()), 20)
