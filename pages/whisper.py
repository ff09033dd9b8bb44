"""The page of Whisper: try-outs, models."""

from pages.widgets import voice
from pages.widgets.page import service_page
from pages.widgets.template import service

PAGE = service_page("whisper", icon=":material/mic:")
LIMITS = "Transcription counts against the policy `voice_minutes`, per tier."


def render() -> None:
    """Draw the page."""
    service(PAGE, monitor=voice.monitor, limits=LIMITS)
