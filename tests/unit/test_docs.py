"""What is not written down does not count: settings, services, commands and decisions are documented."""

from __future__ import annotations

import re
from pathlib import Path

from adapters.core import adapter_classes
from docs.settings_table import BEGIN, table, updated
from operations.settings import Settings

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_lists_every_setting_as_it_is() -> None:
    assert BEGIN in README
    assert updated(README) == README, "run `python -m docs.settings_table`"
    assert all(f"PILOTHOUSE_{name.upper()}" in table() for name in Settings.model_fields)


def test_every_setting_says_what_it_is() -> None:
    models = [Settings, *(cls.config_class() for cls in adapter_classes().values())]
    silent = [
        f"{model.__name__}.{name}"
        for model in models
        for name, field in model.model_fields.items()
        if not (field.description or field.title or "").strip()
    ]
    assert not silent


def test_every_service_is_named_to_people() -> None:
    text = README.lower()
    missing = [cls.service.title for cls in adapter_classes().values() if cls.service.title.lower() not in text]
    assert not missing


def test_every_make_target_is_in_the_readme() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("run", "serve", "worker", "test", "check", "bench", "reset"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
        assert f"`make {target}`" in README


def test_local_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_no_index_address_in_the_tree() -> None:
    for name in ("run.txt", "dev.txt"):
        text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
        assert "://" not in text
        assert "--hash=sha256:" in text
