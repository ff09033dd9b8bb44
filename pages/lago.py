"""The page of this service: the four faces every service has."""

from pages.widgets.page import service_page
from pages.widgets.template import service

PAGE = service_page("lago", icon=":material/receipt_long:")
LIMITS = "Not applicable: billing calls are not limited by the console. Quotas per tier are on the subscriptions page."


def render() -> None:
    """Draw the page."""
    service(PAGE, limits=LIMITS)
