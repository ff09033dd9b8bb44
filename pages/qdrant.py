"""The page of this service: the four faces every service has."""

from pages.widgets.page import service_page
from pages.widgets.template import service

PAGE = service_page("qdrant", icon=":material/hub:")
LIMITS = "Qdrant limits requests per collection by its strict mode, shown under Status as the server reports it."


def render() -> None:
    """Draw the page."""
    service(PAGE, limits=LIMITS)
