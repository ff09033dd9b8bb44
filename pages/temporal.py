"""The page of Temporal: the connection, the workflows and everything that is done with them."""

import streamlit as st

from pages.temporal_parts import common, connection, executions, workflows
from pages.widgets.page import service_page
from pages.widgets.template import View, service

PAGE = service_page("temporal", icon=":material/route:")
LIMITS = (
    "How many runs of a type go on at once is set under **Settings**, as “max concurrent”. How fast activities are "
    "handed out is a limit of each task queue."
)


def render() -> None:
    """Draw the page."""
    service(PAGE, status=_status, limits=LIMITS, more={"Executions": executions.draw})


def _status(view: View) -> None:
    st.html(common.sheet())
    connection.draw(view)
    workflows.draw(view)
