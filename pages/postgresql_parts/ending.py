"""Ending a session: the dialog in which its number is typed, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from adapters.core import AdapterError
from adapters.postgresql_stats.activity import Session
from operations import change, postgresql
from operations.access import Forbidden
from pages.widgets import forms, session, state

_STATE = "_pg_ending"


@dataclass(slots=True)
class _Ending:
    """What was asked for and what came of it; one per browser session."""

    target: Session | None = None
    terminate: bool = False
    said: str = ""


def _ending() -> _Ending:
    found: _Ending = st.session_state.setdefault(_STATE, _Ending())
    return found


def ask(target: Session | None, *, terminate: bool) -> None:
    """Open the dialog about this very session on the next run of the whole page."""
    if target is None:
        return
    asked = _ending()
    asked.target, asked.terminate = target, terminate
    # A dialog opened in a part that redraws itself would be closed by the next redraw.
    st.rerun()


def dialog() -> None:
    """Draw the dialog while one is asked for; called from the page, outside of the parts that redraw themselves."""
    asked = _ending()
    # Taken once: an open dialog redraws itself alone, and must not come back after leaving the page.
    target, asked.target = asked.target, None
    if target is not None:
        _dialog(target, asked.terminate)


def result() -> None:
    """Say once what came of the last one."""
    asked = _ending()
    if asked.said:
        st.success(asked.said, icon=":material/check_circle:")
        asked.said = ""


@st.dialog("End a session")
def _dialog(target: Session, terminate: bool) -> None:
    verb = "Terminate" if terminate else "Cancel"
    happens = (
        "ends the session. Its open transaction is rolled back, and the client loses its connection."
        if terminate
        else "ends the statement that runs now. The session and its transaction stay open."
    )
    st.markdown(f"**{verb}** {happens}")
    st.markdown(
        f"Session **{target.pid}** of {state.plain(target.user)} in {state.plain(target.database)}, "
        f"{state.plain(target.application or 'no application name')} from {state.plain(target.client)}, "
        f"connected since {state.moment(target.backend_start)}."
    )
    st.code(target.query or "no statement", language="sql", wrap_lines=True)
    typed = st.text_input(f"Type {target.pid} to confirm", key="pg_end_typed", autocomplete="off")
    reason = forms.reason_field("pg_end_reason")
    if not st.button(f"{verb} session {target.pid}", key="pg_end_go", type="primary"):
        return
    if typed.strip() != str(target.pid):
        st.error(f"The number typed is not {target.pid}.", icon=":material/error:")
        return
    act = postgresql.terminate if terminate else postgresql.cancel
    try:
        act(session.platform(), session.actor(), target.pid, target.backend_start, reason)
    except change.Invalid as error:
        st.error(" ".join(state.plain(field.message) for field in error.errors), icon=":material/error:")
        return
    except change.NotFound:
        _finish(f"Session {target.pid} had ended already; nothing was done.")
    except Forbidden as error:
        st.error(state.plain(str(error)), icon=":material/lock:")
        return
    except AdapterError as error:
        st.error(f"{state.plain(error.sentence)} {state.plain(error.advice)}", icon=":material/error:")
        return
    done = "has been terminated" if terminate else "has had its statement cancelled"
    _finish(f"Session {target.pid} {done}. It is in the record of changes.")


def _finish(said: str) -> None:
    _ending().said = said
    st.rerun()
