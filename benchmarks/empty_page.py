"""A page without content: what the shell alone costs."""

from operations.access import Permission
from pages.widgets.page import Page

PAGE = Page(
    slug="empty", title="Empty", section="", path="/empty", permission=Permission.INFRA_VIEW, icon=":material/square:"
)


def render() -> None:
    """Draw nothing."""
