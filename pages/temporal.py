"""The page of Temporal: workflows that failed, that run, and that ended lately."""

from typing import cast

from adapters.temporal import Temporal, Workflow
from pages.widgets import listing, state, table
from pages.widgets.page import service_page
from pages.widgets.template import View, service

PAGE = service_page("temporal", icon=":material/route:")
LIMITS = "Limits per workflow type and task queue are set at Temporal itself, under Status as the server reports them."
HEADS = ("Started", "Workflow", "Type", "Status", "Task queue", "Took")


def render() -> None:
    """Draw the page."""
    service(PAGE, monitor=_monitor, limits=LIMITS)


def _monitor(view: View) -> None:
    adapter = cast(Temporal, view.adapter)
    for status, title, nothing in (
        ("Failed", "Failed workflows, latest", "None failed within the namespace's retention."),
        ("Running", "Running workflows, newest", "None runs at the moment."),
        ("Completed", "Completed workflows, latest", "None completed within the namespace's retention."),
    ):
        listing.draw(
            view,
            f"workflows:{status}",
            title,
            lambda status=status: adapter.workflows(status, 10),  # type: ignore[misc]
            HEADS,
            _row,
            nothing=nothing,
            quiet=(0, 4),
            right=(5,),
        )


def _row(one: Workflow) -> tuple[str, ...]:
    took = "–" if one.closed_at is None else state.span((one.closed_at - one.started_at).total_seconds())
    return (
        table.when(one.started_at),
        f"<code>{state.text(one.id)}</code>",
        state.text(one.kind),
        state.text(one.status),
        state.text(one.task_queue),
        took,
    )
