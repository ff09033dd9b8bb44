"""What the pages of the voice servers share: the last try-out, a new one, models and voices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import streamlit as st

from adapters.core import AdapterError, Unit
from adapters.voice.server import VoiceServer
from operations import change, voice
from operations.access import Forbidden, Permission
from pages.widgets import listing, session, state

if TYPE_CHECKING:
    from adapters.voice.records import TryOut
    from pages.widgets.template import View


def monitor(view: View) -> None:
    """The last try-out with a button for another; models, the loaded ones marked; voices where there are any."""
    adapter = cast("VoiceServer[Any]", view.adapter)
    st.markdown("#### Try-out")
    tried = adapter.last_try_out
    if tried is None:
        st.caption("None yet: one real piece of work is tried every ten minutes.")
    else:
        _tried(tried)
    if view.may(Permission.INFRA_OPERATE):
        st.button(
            "Try it now",
            icon=":material/play_arrow:",
            key=f"try_{view.slug}",
            help="One real piece of work, on record",
            on_click=_try,
            args=(view.slug,),
        )
    loaded = listing.known(view, "models", "Models", lambda: (adapter.models(), adapter.loaded()), every=60.0)
    if loaded is not None:
        models, inside = loaded
        # Servers that do not tell what is in memory get no column for it.
        heads = ("Model", "From") if inside is None else ("Model", "From", "In memory")
        listing.shown(
            models,
            heads,
            lambda one: (
                f"<code>{state.text(one.name)}</code>",
                state.text(one.owner or "–"),
                "yes" if one.name in (inside or ()) else "no",
            )[: len(heads)],
            nothing="It lists none.",
        )
    if view.slug == "kokoro":
        voices = listing.known(view, "voices", "Voices", adapter.voices, every=60.0)
        if voices is not None:
            told = any(one.language for one in voices)
            listing.shown(
                voices,
                ("Voice", "Language") if told else ("Voice",),
                lambda one: (f"<code>{state.text(one.name)}</code>", state.text(one.language or "–"))[: 1 + told],
                nothing="It lists none.",
            )


def _tried(tried: TryOut) -> None:
    if not tried.ok:
        st.markdown(f":red-badge[:material/error: Failed {state.since(tried.at)} ago] {state.plain(tried.error)}")
        return
    factor = tried.real_time_factor
    listing.facts(
        (
            ("Worked", f"{state.since(tried.at)} ago", state.moment(tried.at)),
            ("Took", state.number(tried.latency_ms, Unit.MILLISECONDS), "from asking to the whole answer"),
            ("Sound", f"{tried.audio_seconds:.1f} s", "that went in or came out"),
            (
                "Of real time",
                "–" if factor is None else f"{factor * 100:.1f} %",
                "below 100 % is faster than real time",
            ),
            ("Text", tried.text[:60] or "–", "what was heard or said"),
        )
    )


def _try(slug: str) -> None:
    # Asked anew: the roles may have changed since the button was drawn.
    try:
        tried = voice.try_out(session.platform(), session.actor(), slug)
    except (AdapterError, Forbidden, change.StoreUnavailable) as error:
        st.toast(state.plain(str(error)), icon=":material/error:")
        return
    if tried.ok:
        st.toast(f"It worked in {tried.latency_ms:.0f} ms.", icon=":material/check_circle:")
