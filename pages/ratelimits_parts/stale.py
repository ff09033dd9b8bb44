"""A grid that is behind what is stored: drawn anew while nobody types into it, else said, and nothing taken away."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import streamlit as st

from operations.ratelimits import Policy, Target
from pages.ratelimits_parts import common, typed
from pages.ratelimits_parts.common import View
from pages.ratelimits_parts.review import Draft
from pages.widgets import state

NAMED = 5


def behind(made: Draft, key: Callable[[], str], now: Mapping[Target, Policy], *, moved: bool = False) -> set[Target]:
    """What changed, came or went since the grid's snapshot, where typing keeps the grid from being drawn anew.

    ``moved``: something else the grid is made of changed.
    """
    if made.rows is None:
        return set()
    found = {
        target
        for target in made.seen.keys() | now.keys()
        if made.seen.get(target, 0) != (now[target].version if target in now else 0)
    }
    if (found or moved) and not made.edits and typed.idle(made, key):
        made.reset()
        return set()
    return found


def notice(view: View, made: Draft, found: set[Target], now: Mapping[Target, Policy]) -> None:
    """Say what changed meanwhile, by whom, and offer it."""
    if not found or made.edits:
        return
    gone = sorted(_name(target) for target in found if target not in now)
    changed = [now[target] for target in found if target in now]
    by = {policy.updated_by for policy in changed}
    said = []
    if changed:
        who = "by yourself, elsewhere," if by == {view.actor.name} else "by somebody else"
        names = sorted(_name(policy.target) for policy in changed)
        said.append(f"Changed {who} meanwhile: {_few(names)}.")
    if gone:
        said.append(f"Deleted meanwhile: {_few(gone)}.")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f":orange[:material/update: {' '.join(said)}]")
        if st.button("Show what is stored", key=f"rl_fresh_{made.name}", icon=":material/refresh:",
                     help="Empties the grid of what you typed"):  # fmt: skip
            made.reset()
            st.rerun()


def _name(target: Target) -> str:
    return target.key if not target.reference else f"{target.key} for {common.whose(target)}"


def _few(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return state.plain(", ".join(names[:NAMED])) + more
