"""The page of this service: the four faces every service has."""

from pages.widgets.page import service_page
from pages.widgets.template import service

PAGE = service_page("keycloak", icon=":material/key:")
LIMITS = "Sign-in attempts are limited by the realm's brute-force protection, under Status as Keycloak reports it."


def render() -> None:
    """Draw the page."""
    service(PAGE, limits=LIMITS)
