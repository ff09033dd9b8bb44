"""The page of this service: the four faces every service has."""

from pages.widgets.page import service_page
from pages.widgets.template import service

PAGE = service_page("mcp", icon=":material/extension:")
LIMITS = "Tool calls count against the policy `api_calls`, per tier."


def render() -> None:
    """Draw the page."""
    service(PAGE, limits=LIMITS)
