"""The page of this service: the four faces every service has."""

from pages.widgets.page import service_page
from pages.widgets.template import service

PAGE = service_page("temporal", icon=":material/route:")
LIMITS = "Limits per workflow type and task queue are set at Temporal itself, under Status as the server reports them."


def render() -> None:
    """Draw the page."""
    service(PAGE, limits=LIMITS)
