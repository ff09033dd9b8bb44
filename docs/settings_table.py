"""Write the tables of every setting into the README: ``python -m docs.settings_table``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from adapters.core import adapter_classes
from operations.settings import Settings

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- settings -->", "<!-- /settings -->"


def _default(field: FieldInfo) -> str:
    required = isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("required")
    if field.is_required() or required:
        return "**required**"
    value = field.get_default(call_default_factory=True)  # type: ignore[call-arg]
    return "–" if value in (None, "", (), []) else f"`{value}`"


def _rows(prefix: str, fields: dict[str, FieldInfo]) -> list[str]:
    meanings = {name: " ".join((field.description or field.title or "").split()) for name, field in fields.items()}
    return [f"| `{prefix}{name.upper()}` | {_default(field)} | {meanings[name]} |" for name, field in fields.items()]


def table() -> str:
    """The Markdown of all settings: the console's own, then each service's."""
    head = ["| variable | default | what it is |", "|---|---|---|"]
    parts = ["### The console", "", *head, *_rows("PILOTHOUSE_", Settings.model_fields)]
    for slug, cls in adapter_classes().items():
        fields: dict[str, Any] = cls.config_class().model_fields
        parts += ["", f"### {cls.service.title}", "", *head, *_rows(f"PILOTHOUSE_{slug.upper()}_", fields)]
    return "\n".join(parts)


def updated(text: str) -> str:
    """``text`` with the part between the markers replaced by the present table."""
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    return pattern.sub(lambda _: f"{BEGIN}\n\n{table()}\n\n{END}", text)


if __name__ == "__main__":
    README.write_text(updated(README.read_text(encoding="utf-8")), encoding="utf-8")
