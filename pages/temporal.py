"""The page of Temporal: the connection, the workflows and everything that is done with them."""

from pages.temporal_parts import (
    connection,
    executions,
    monitor,
    queues,
    schedules,
    settings,
    workers,
    workflows,
)
from pages.widgets.page import service_page
from pages.widgets.template import View, service

PAGE = service_page("temporal", icon=":material/route:")
FACES = {"Executions": executions.draw, "Schedules": schedules.draw, "Workers": workers.draw, "Settings": settings.draw}


def render() -> None:
    """Draw the page."""
    service(PAGE, status=_status, monitor=monitor.draw, limits=queues.draw, more=FACES)


def _status(view: View) -> None:
    connection.draw(view)
    workflows.draw(view)
