"""What the faces of Temporal share: the address they keep, links between them, how a status looks."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

import streamlit as st

from operations.change import FieldError
from operations.workflow_executions import PLACES_MOST
from pages.widgets import state

FACE = "face_temporal"
SPANS: dict[str, int | None] = {"1 h": 1, "24 h": 24, "7 d": 168, "All kept": None}
CUT = (
    f"More than {PLACES_MOST:,} runs wait for a place of their type: those that wait longest are here, with all that "
    "no worker has begun. A type chosen narrows it."
)
"""Said where not all pending executions are found."""
_WORDS = {"TimedOut": "Timed out", "ContinuedAsNew": "Continued as new"}


def parameter(name: str) -> str:
    """A parameter of the page's address; empty where it is not given."""
    return st.query_params.get(name, "")


def keep(**values: object) -> None:
    """Put values into the page's address; empty ones are taken out."""
    for name, value in values.items():
        wanted = "" if value is None else str(value)
        if st.query_params.get(name, "") == wanted:
            continue
        if wanted:
            st.query_params[name] = wanted
        else:
            st.query_params.pop(name, None)


def executions(**filters: object) -> str:
    """Address of the executions that match: type, status, id, hours, attribute, run, run_id."""
    given = {name: str(value) for name, value in filters.items() if value not in (None, "")}
    return "?" + urlencode({FACE: "Executions", **given})


def anchor(address: str, words: object, tip: str = "") -> str:
    """A link within the console as HTML, opened in the same tab."""
    title = f' title="{state.text(tip)}"' if tip else ""
    return f'<a href="{state.text(address)}" target="_self"{title}>{state.text(words)}</a>'


def wrong(errors: Sequence[FieldError]) -> None:
    """Name every bad field with what is allowed."""
    lines = [
        f"- **{state.plain(one.field)}**: {state.plain(one.message.removesuffix('.'))}."
        + (f" Allowed: {state.plain(one.allowed)}." if one.allowed else "")
        for one in errors
    ]
    st.error("\n".join(lines), icon=":material/error:")


def length(seconds: float) -> str:
    """A length of time, short ones exactly."""
    if seconds < 1:
        return f"{1000 * max(0.0, seconds):.0f} ms"
    return f"{seconds:.1f} s" if seconds < 10 else state.span(seconds)


def words(status: str) -> str:
    """A status as people write it; takes "TimedOut", "TIMED_OUT" and "timed out"."""
    plain = status.replace("_", " ").strip()
    return _WORDS.get(plain) or plain[:1].upper() + plain[1:].lower()


def badge(status: str) -> str:
    """A status as an HTML badge: word and colour, the colour by the kind of end."""
    said = words(status)
    return f"<span class='ph-run {said.lower().replace(' ', '-')}'>{state.text(said)}</span>"
