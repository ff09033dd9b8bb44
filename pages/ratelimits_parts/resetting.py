"""Forgetting what one tenant or agent used: chosen, confirmed with a reason, on the record."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from adapters.core import AdapterError
from operations import change, ratelimit_explain
from operations.access import Forbidden
from operations.ratelimit_usage import Subject
from pages.widgets import session, state

_STATE = "_rl_resetting"


@dataclass(slots=True)
class _Asked:
    """What was asked for and what came of it; one per browser session."""

    target: Subject | None = None
    label: str = ""
    said: str = ""


def _asked() -> _Asked:
    found: _Asked = st.session_state.setdefault(_STATE, _Asked())
    return found


def choose(rows: list[Subject], names: dict[str, str]) -> None:
    """Choose one counter among those shown, by what it is and not by its place."""
    known = {_label(row, names): row for row in rows}
    pick, go = st.columns([4, 1], vertical_alignment="bottom")
    with pick:
        chosen = st.selectbox(
            "Reset a counter", list(known), index=None, key="rl_reset_pick", placeholder="Choose a tenant or agent"
        )
    target = known.get(chosen) if chosen else None
    with go:
        if st.button("Reset", key="rl_reset", icon=":material/restart_alt:", disabled=target is None, width="stretch",
                     help="Forgets what it used in its present window. Asked again first."):  # fmt: skip
            asked = _asked()
            asked.target, asked.label = target, chosen or ""
            # A dialog opened in a part that redraws itself would be closed by the next redraw.
            st.rerun()


def _label(row: Subject, names: dict[str, str]) -> str:
    agent = f" / {names.get(row.agent, row.agent)}" if row.agent else ""
    return f"{names.get(row.tenant, row.tenant)}{agent} · {row.key}"


def dialog() -> None:
    """Draw the dialog while one is asked for; outside of the parts that redraw themselves."""
    asked = _asked()
    target, asked.target = asked.target, None
    if target is not None:
        _dialog(target, asked.label)


def result() -> None:
    """Say once what came of it."""
    asked = _asked()
    if asked.said:
        st.success(asked.said, icon=":material/check_circle:")
        asked.said = ""


@st.dialog("Reset a counter")
def _dialog(target: Subject, label: str) -> None:
    limit = "no limit" if target.limit is None else f"a limit of {target.limit:,}"
    st.markdown(
        f"**{state.plain(label)}** has used **{target.used:,}** of {limit}. After the reset it starts at nought and "
        "may use its whole limit again at once."
    )
    reason = st.text_input("Reason", key="rl_reset_reason", max_chars=300,
                           placeholder="Why? It is kept in the record of changes.")  # fmt: skip
    if not st.button("Reset the counter", key="rl_reset_go", type="primary"):
        return
    if not reason.strip():
        st.error("A reason is asked for: a few words on why.", icon=":material/error:")
        return
    try:
        forgotten = ratelimit_explain.reset(
            session.platform(), session.actor(), target.key, target.tenant, target.agent, reason=reason
        )
    except (change.NotFound, change.Invalid, Forbidden) as error:
        st.error(state.plain(str(error)), icon=":material/error:")
        return
    except AdapterError as error:
        st.error(f"{state.plain(error.sentence)} {state.plain(error.advice)}", icon=":material/error:")
        return
    _asked().said = f"{state.plain(label)}: {forgotten:,} used forgotten. It is in the record of changes."
    st.rerun()
