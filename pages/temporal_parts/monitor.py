"""Monitor: the workflows that failed, that run, and that ended lately."""

from __future__ import annotations

from operations import workflow_executions
from operations.workflow_executions import Execution
from operations.workflow_filters import Filters
from pages.temporal_parts import common
from pages.widgets import listing, state, table
from pages.widgets.template import View

SHOWN = 10
LISTS = (
    ("Failed", "Failed workflows, latest", "None failed within the namespace's retention."),
    ("Running", "Running workflows, newest", "None runs at the moment."),
    ("Completed", "Completed workflows, latest", "None completed within the namespace's retention."),
)


def draw(view: View) -> None:
    """Ten of each; the Executions face has them all."""
    for status, title, nothing in LISTS:
        listing.draw(
            view,
            f"latest:{status}",
            title,
            lambda status=status: workflow_executions.page(  # type: ignore[misc]
                view.platform, view.actor, Filters(status=status)
            ).rows[:SHOWN],
            ("Started", "Workflow", "Type", "Task queue", "Took"),
            _row,
            nothing=nothing,
            quiet=(0, 3),
            right=(4,),
        )


def _row(one: Execution) -> tuple[str, ...]:
    took = "–"
    if one.closed_at and one.started_at:
        took = common.length((one.closed_at - one.started_at).total_seconds())
    return (
        table.when(one.started_at),
        f"<code>{common.anchor(common.executions(run=one.id, run_id=one.run_id), one.id)}</code>",
        state.text(one.type),
        state.text(one.task_queue),
        took,
    )
