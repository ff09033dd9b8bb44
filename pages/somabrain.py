"""The page of this service: the four faces every service has."""

from pages.widgets.page import service_page
from pages.widgets.template import service

PAGE = service_page("somabrain", icon=":material/neurology:")
LIMITS = "Memory queries are limited by the policy `memory_queries`, per tier and agent."


def render() -> None:
    """Draw the page."""
    service(PAGE, limits=LIMITS)
