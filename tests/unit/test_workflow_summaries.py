"""Every activity of the platform's own workflows tells in words what it does: a history is read by people."""

from __future__ import annotations

import ast

from tests.support import ROOT

STARTS = {"execute_activity", "start_activity", "execute_local_activity", "start_local_activity"}


def test_every_activity_has_a_summary() -> None:
    calls = [
        (path.name, node.lineno, {keyword.arg for keyword in node.keywords})
        for path in sorted((ROOT / "workflows").glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in STARTS
        if isinstance(node.func.value, ast.Name) and node.func.value.id == "workflow"
    ]
    assert len(calls) >= 12
    assert [call[:2] for call in calls if "summary" not in call[2]] == []
