"""The page of this service: the four faces every service has."""

from pages.widgets.page import service_page
from pages.widgets.template import service

PAGE = service_page("s3", icon=":material/inventory_2:")
LIMITS = "Uploads are limited by the policy `file_uploads`; the storage a tier may hold is its `storage_gb` quota."


def render() -> None:
    """Draw the page."""
    service(PAGE, limits=LIMITS)
