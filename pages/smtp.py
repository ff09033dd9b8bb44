"""The page of this service: the four faces every service has."""

from pages.widgets.page import service_page
from pages.widgets.template import service

PAGE = service_page("smtp", icon=":material/mail:")
LIMITS = (
    "The console itself sends only what people ask it to; the mail server applies its own limits to everything else."
)


def render() -> None:
    """Draw the page."""
    service(PAGE, limits=LIMITS)
