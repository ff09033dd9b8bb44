"""What is wrong with the server now, on top of everything else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from adapters.postgresql_stats import advice
from adapters.postgresql_stats.advice import Finding, Level
from pages.postgresql_parts import read
from pages.widgets import state

if TYPE_CHECKING:
    from operations.readings import Reading
    from pages.widgets.template import View

_JUDGED: tuple[tuple[tuple[str, ...], Callable[..., list[Finding]]], ...] = (
    (("server",), advice.connections),
    (("transactions",), advice.sessions),
    (("locks",), advice.locks),
    (("replication",), advice.replication),
    (("wraparound",), lambda found: advice.wraparound(found[0])),
    (("counters",), advice.counters),
    (("unindexed_tables", "dead_rows", "bloat"), advice.tables),
    (("unused_indexes",), advice.indexes),
)
"""Readings, and the function that judges them."""
NEEDS = tuple(name for names, _ in _JUDGED for name in names)


def gather(view: View) -> tuple[list[Finding], int]:
    """All findings, worst first, and how many subjects could not be judged."""
    found: list[Finding] = []
    unknown = 0
    for names, judge in _JUDGED:
        readings: list[Reading[Any]] = [read.quiet(view, name) for name in names]
        # What an old value says may be over: where the last question failed, nothing is known now.
        if any(reading.value is None or reading.error is not None for reading in readings):
            unknown += 1
        else:
            found.extend(judge(*(reading.value for reading in readings)))
    return sorted(found, key=lambda finding: finding.level is not Level.BAD), unknown


def draw(view: View) -> None:
    """The findings as a list; says so when there are none, and when not everything could be judged."""
    found, unknown = gather(view)
    rest = f" {unknown} of {len(_JUDGED)} subjects cannot be judged now." if unknown else ""
    st.markdown("#### What needs attention")
    if unknown == len(_JUDGED):
        st.markdown(":gray[:material/help: Nothing is known yet: the server has not answered.]")
        return
    if not found:
        st.markdown(f":green-badge[:material/check_circle: Nothing]{rest}")
        return
    st.markdown(listed(found) + (f"\n\n:gray[{rest.strip()}]" if rest else ""))


def listed(found: Sequence[Finding]) -> str:
    """Findings as Markdown: what is wrong, then what to do."""
    badge = {
        Level.BAD: ":red-badge[:material/error: Act now]",
        Level.WARN: ":orange-badge[:material/warning: Look at it]",
    }
    return "\n".join(
        f"- {badge[f.level]} **{state.plain(f.sentence)}**  \n  {state.plain(f.advice)}" for f in found[:20]
    )


def judged(found: Sequence[Finding], well: str) -> None:
    """One section's findings, or the sentence that all is well."""
    st.markdown(listed(found) if found else f":green-badge[:material/check_circle: Well] {state.plain(well)}")
