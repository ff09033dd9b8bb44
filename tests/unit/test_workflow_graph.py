"""The graph of steps: its levels, and nothing of what a step is called becomes markup."""

from __future__ import annotations

from operations.workflow_progress import DONE, RUNNING, Step
from pages.temporal_parts import graph


def names(steps: list[Step]) -> list[list[str]]:
    return [[step.name for step in rank] for rank in graph.levels(steps)]


def test_a_step_stands_after_the_longest_way_to_it() -> None:
    steps = [
        Step("row", "Row"),
        Step("group", "Group", needs=["row"]),
        Step("mail", "Mail", needs=["row", "ready"]),
        Step("ready", "Ready", needs=["group"]),
    ]
    assert names(steps) == [["row"], ["group"], ["ready"], ["mail"]]


def test_unknown_needs_and_circles_do_no_harm() -> None:
    steps = [Step("a", "A", needs=["b", "a"]), Step("b", "B", needs=["a", "gone"])]
    assert sorted(name for rank in names(steps) for name in rank) == ["a", "b"]
    assert "A" in graph.html(steps)
    assert graph.html([]) == ""


def test_names_states_and_details_are_escaped() -> None:
    drawn = graph.html([Step("x", "<b>'x\"</b>", state=DONE, detail="<script>")])
    assert "<b>'x" not in drawn
    assert "<script>" not in drawn
    assert "&lt;b&gt;" in drawn
    assert "Done" in drawn


def test_a_chain_goes_downwards_where_it_would_be_too_wide() -> None:
    chain = [Step(str(n), f"Step {n}", needs=[str(n - 1)] if n else []) for n in range(8)]
    assert f"max-width:{graph.WIDTH}px" in graph.html(chain)
    assert f"max-width:{4 * graph.WIDTH + 3 * graph.GAP_ALONG}px" in graph.html(chain[:4])


def test_a_running_step_tells_how_long_it_has_run() -> None:
    drawn = graph.html([Step("x", "X", state=RUNNING, started_at="2026-01-01T00:00:00+00:00")])
    assert "Running · " in drawn
    assert "Running · " not in graph.html([Step("x", "X", state=RUNNING, started_at="not a moment")])
