"""The page of Kokoro: try-outs, models and voices."""

from pages.widgets import voice
from pages.widgets.page import service_page
from pages.widgets.template import service

PAGE = service_page("kokoro", icon=":material/record_voice_over:")
LIMITS = "Synthesis counts against the policy `voice_minutes`, per tier."


def render() -> None:
    """Draw the page."""
    service(PAGE, monitor=voice.monitor, limits=LIMITS)
