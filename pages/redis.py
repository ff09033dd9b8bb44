"""The page of this service: the four faces every service has."""

from pages.widgets.page import service_page
from pages.widgets.template import service

PAGE = service_page("redis", icon=":material/bolt:")
LIMITS = "Redis carries the rate limits of the whole platform; the policies themselves are set on the rate limits page."


def render() -> None:
    """Draw the page."""
    service(PAGE, limits=LIMITS)
