"""How rate limiting stands, as a card of the overview and as the head of the page."""

from __future__ import annotations

from functools import partial

import streamlit as st

from adapters.core import State
from operations import ratelimit_standing
from operations.access import Permission
from operations.ratelimit_standing import Standing
from pages.widgets import cached, charts, session, state
from pages.widgets.page import link

TITLE, PURPOSE = "Rate limits", "What every tenant and agent may use, and who is stopped."


def reading() -> cached.Reading[Standing]:
    """How it stands, read once for everyone who looks."""
    return cached.reading(
        "redis:ratelimits-standing", partial(ratelimit_standing.standing, session.platform()), every=10.0
    )


def pill(told: State) -> str:
    """The state in this subject's words: limits are normal or degraded."""
    word = {State.HEALTHY: "Normal", State.UNKNOWN: "Reading"}.get(told, state.LABEL[told])
    return f'<span class="ph-pill ph-{told.value}">{word}</span>'


def matches(states: set[State], categories: set[str], words: str) -> bool:
    """Whether the overview's filters leave the card in."""
    now = reading().value
    told = now.state if now is not None else State.UNKNOWN
    return (
        session.allowed(Permission.RATELIMIT_VIEW)
        and (not states or told in states)
        and (not categories or "Data" in categories)
        and (not words or words in f"{TITLE} {PURPOSE}".casefold())
    )


def draw() -> None:
    """The overview's card."""
    with st.container(key="card-ratelimits"):
        st.html(card())
        link("ratelimits", "Manage →")


def card() -> str:
    """What the card says, as HTML."""
    found = reading()
    now = found.value
    told = State.UNKNOWN if now is None else now.state
    bad = " bad" if told is State.DEGRADED else ""
    blocked = "–" if now is None or now.blocked_hour is None else f"{now.blocked_hour:,}"
    message = PURPOSE if now is None else now.sentence if bad else PURPOSE
    if now is None and found.error is not None:
        message = found.error.sentence
    minutes = [float(n) for n in now.blocked_by_minute] if now is not None else []
    spark = charts.spark(minutes, told).replace("latency of the last hour", "blocked per minute, last hour")
    foot = ("", "", "") if now is None else (
        f"{now.policies:,} limits", f"{now.overrides:,} overrides",
        "Redis away" if now.active_subjects is None else f"{now.active_subjects:,} active",
    )  # fmt: skip
    cells = "".join(f"<span>{state.text(one)}</span>" for one in foot)
    return (
        f'<div class="ph-card ph-{told.value}{bad}"><header><b>{TITLE}</b>{pill(told)}</header>'
        f'<div class="v">{blocked}<small>blocked last hour</small></div>{spark}'
        f'<div class="m" title="{state.text(message)}">{state.text(message)}</div>'
        f'<div class="f">{cells}</div></div>'
    )


@st.fragment(run_every=5.0)
def banner() -> None:
    """The head of the page, kept fresh."""
    session.actor()
    st.html(head())


def head() -> str:
    """State, sentence and numbers, as HTML."""
    found = reading()
    now = found.value
    told = State.UNKNOWN if now is None else now.state
    sentence = now.sentence if now is not None else found.error.sentence if found.error else "Reading…"
    facts: list[tuple[str, str]] = []
    if now is not None:
        facts = [
            ("Limits", f"{now.policies:,}"), ("Overrides", f"{now.overrides:,}"),
            ("Expire in 7 days", f"{now.expiring:,}"),
            ("Blocked last hour", "–" if now.blocked_hour is None else f"{now.blocked_hour:,}"),
            ("Waiting for Redis", f"{now.waiting:,}"),
        ]  # fmt: skip
    cells = "".join(f"<div><small>{name}</small><b>{value}</b></div>" for name, value in facts)
    return (
        f'<div class="ph-banner ph-{told.value}"><div><h2>{TITLE} &nbsp;{pill(told)}</h2><p>{state.text(sentence)}</p>'
        f"</div><div class='ph-facts'>{cells}</div></div>"
    )
