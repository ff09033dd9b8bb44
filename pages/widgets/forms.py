"""Forms: what they all do with a change on its way through the door."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from operations import change
from operations.access import Forbidden
from pages.widgets import state


def reason_field(key: str) -> str:
    """Ask why. The reason stands in the record of changes."""
    return st.text_input(
        "Reason", key=key, max_chars=300, placeholder="Why this change? It is kept in the record of changes."
    )


def run(operation: Callable[[], change.Outcome], *, done: str, note: str) -> change.Outcome | None:
    """Perform a change and say what became of it; None when it was refused (the page says why).

    ``done`` is the sentence after success; ``note`` is the session-state key under which the message waits
    for the next run, for callers that rerun after success.
    """
    try:
        outcome = operation()
    except change.Invalid as error:
        for field in error.errors:
            allowed = f" Allowed: {state.plain(field.allowed)}." if field.allowed else ""
            st.error(f"**{state.plain(field.field)}**: {state.plain(field.message)}{allowed}", icon=":material/error:")
        return None
    except change.Conflict as error:
        conflict(error)
        return None
    except Forbidden as error:
        st.error(state.plain(str(error)), icon=":material/lock:")
        return None
    except change.StoreUnavailable as error:
        st.error(f"Not saved. {state.plain(str(error))}", icon=":material/database_off:")
        return None
    except change.NotFound as error:
        st.error(f"It is no longer there: {state.plain(str(error))}", icon=":material/search_off:")
        return None
    st.session_state[note] = (done, outcome)
    return outcome


def result(note: str) -> None:
    """Show what the last change under ``note`` came to, once: saved, or saved and still waiting for delivery."""
    found = st.session_state.pop(note, None)
    if found is None:
        return
    done, outcome = found
    if outcome.delivered:
        st.success(done, icon=":material/check_circle:")
    else:
        # A sentence that promises the effect at once would contradict the wait.
        said = "" if done.startswith("Saved") else f"{done} "
        st.warning(
            f"{said}Saved, waiting for {state.plain(outcome.waiting_for or 'delivery')}: "
            "it is delivered as soon as that answers again.",
            icon=":material/schedule_send:",
        )


def conflict(error: change.Conflict) -> None:
    """Somebody else was faster: show both values and keep what was typed."""
    current, yours = _flat(error.current), _flat(error.yours)
    rows = "\n".join(
        f"| {state.plain(name)} | {state.plain(current.get(name, '–'))} | {state.plain(yours.get(name, '–'))} |"
        for name in sorted(yours)
        if name != "version" and str(current.get(name)) != str(yours.get(name))
    )
    st.warning(
        "Somebody changed this while you were typing. Your entries are kept below. "
        "Compare, then save again to put yours in place of theirs.",
        icon=":material/call_merge:",
    )
    st.markdown(f"| Field | Now stored | Yours |\n|---|---|---|\n{rows}")


def _flat(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {"value": value}
