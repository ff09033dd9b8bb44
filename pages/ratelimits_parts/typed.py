"""What somebody typed into a grid and has not saved, kept while another face is looked at.

Streamlit forgets what is typed into a widget that is not drawn. So a copy is kept in the session; when the grid
is drawn again, it is drawn with the copy in it, and what is typed from then on is laid over it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import streamlit as st

from pages.ratelimits_parts.review import Draft

Delta = dict[str, Any]
"""As st.data_editor tells it: edited_rows by position, added_rows, deleted_rows."""


def laid_over(kept: Delta, delta: Delta, count: int) -> Delta:
    """Both as one delta against the first ``count`` rows, where ``delta`` was typed over rows that show ``kept``."""
    edited = {int(place): dict(cells) for place, cells in kept.get("edited_rows", {}).items()}
    added: list[dict[str, Any] | None] = [dict(cells) for cells in kept.get("added_rows", ())]
    deleted = {int(place) for place in kept.get("deleted_rows", ())}
    places = _places(kept, count)
    for position, cells in delta.get("edited_rows", {}).items():
        place = places[int(position)] if int(position) < len(places) else -1
        if 0 <= place < count:
            edited[place] = {**edited.get(place, {}), **cells}
        elif place >= count:
            added[place - count] = {**(added[place - count] or {}), **cells}
    for position in delta.get("deleted_rows", ()):
        place = places[int(position)] if int(position) < len(places) else -1
        if 0 <= place < count:
            deleted.add(place)
        elif place >= count:
            added[place - count] = None
    rows = [cells for cells in added if cells is not None] + [dict(cells) for cells in delta.get("added_rows", ())]
    return {"edited_rows": edited, "added_rows": rows, "deleted_rows": sorted(deleted)}


def shown(rows: Sequence[Mapping[str, Any]], kept: Delta, blank: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows with what was kept in them, as the grid is to show them."""
    edited, added = kept.get("edited_rows", {}), kept.get("added_rows", ())
    whole = [{**row, **edited.get(place, {})} for place, row in enumerate(rows)]
    whole += [{**blank, **cells} for cells in added]
    return [whole[place] for place in _places(kept, len(rows))]


def _places(kept: Delta, count: int) -> list[int]:
    """For each row shown, which it is: below ``count`` a stored one, from there on an added one."""
    gone = {int(place) for place in kept.get("deleted_rows", ())}
    return [*(place for place in range(count) if place not in gone),
            *range(count, count + len(kept.get("added_rows", ())))]  # fmt: skip


def recall(made: Draft, key: Callable[[], str], count: int) -> None:
    """Before a grid is drawn: take over what was typed into one that was not drawn meanwhile."""
    if key() not in st.session_state and _any(made.live):
        made.kept = laid_over(made.kept, made.live, count)
        made.live = {}
        made.generation += 1


def remember(made: Draft, key: Callable[[], str], count: int) -> Delta:
    """After a grid was drawn: keep a copy of what is typed; all of it as one delta against the stored rows."""
    made.live = deepcopy(dict(st.session_state.get(key()) or {}))
    return laid_over(made.kept, made.live, count)


def unsaved(made: Draft) -> int:
    """How many rows hold typing that is not saved."""
    return sum(
        len(delta.get(kind, ()))
        for delta in (made.kept, made.live)
        for kind in ("edited_rows", "added_rows", "deleted_rows")
    )


def idle(made: Draft, key: Callable[[], str]) -> bool:
    """Whether nothing is typed, neither kept, nor seen, nor just sent by the browser."""
    return not any(_any(delta) for delta in (made.kept, made.live, st.session_state.get(key()) or {}))


def hint(made: Draft) -> None:
    """Say that something is not saved; thrown away on one's word."""
    if not unsaved(made) or made.edits:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            ":orange[:material/edit_note: Unsaved changes.] "
            ":small[:gray[They stay while you look at other faces, until you save or discard them.]]"
        )
        if st.button("Discard", key=f"rl_unsaved_{made.name}", icon=":material/undo:"):
            made.reset()
            st.rerun(scope="app")


def _any(delta: Delta) -> bool:
    return any(delta.get(kind) for kind in ("edited_rows", "added_rows", "deleted_rows"))
