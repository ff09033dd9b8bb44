"""The page of PostgreSQL: all four faces, as the model for the pages of the other services."""

from pages.postgresql_parts import configure, ending, monitor, status
from pages.widgets.page import service_page
from pages.widgets.template import service

PAGE = service_page("postgresql", icon=":material/database:")
LIMITS = (
    "Not applicable. PostgreSQL knows no limits per tenant or caller that could be set from here: everything reaches "
    "it through the platform's services, and their limits are where load is kept away from it. What bounds it is its "
    "number of connections, the pools of its clients and the time a statement may take, all under Configure."
)


def render() -> None:
    """Draw the page."""
    # The server's settings stand under Configure, with a search of their own.
    service(PAGE, status=status.draw, configure=configure.draw, monitor=monitor.draw, limits=LIMITS, settings=False)
    ending.dialog()
