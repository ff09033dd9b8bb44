"""Which settings each worker holds now, and whether it is behind."""

from __future__ import annotations

import streamlit as st

from adapters.core import AdapterError
from operations import workflow_held, workflow_settings
from operations.workflow_held import HeldBy
from operations.workflow_rules import DEFAULT, FIELDS, NO_PLACE
from operations.workflow_settings import Row
from pages.widgets import session, state, table

EVERY = 3.0
TYPES_SHOWN = 12


@st.fragment(run_every=EVERY)
def draw() -> None:
    """One row per worker and type it runs."""
    platform, actor = session.platform(), session.actor()
    try:
        found = workflow_held.held(platform, actor)
        rows = {row.type: row for row in workflow_settings.listing(platform, actor)}
    except AdapterError as error:
        st.markdown(
            f":orange[:material/help: {state.plain(error.sentence)} Workers go on with the settings they know; changes "
            "reach them as soon as it answers again.]"
        )
        return
    if not found:
        table.empty("No worker has spoken in the last 15 seconds", "A worker says what it holds as soon as it runs.")
        return
    table.draw(
        ("Worker", "Task queue", "From", "Type", "Timeout", "Attempts", "Multiplier", "Max concurrent", "Up to date"),
        [cells for one in found for cells in _worker(one, rows)],
        right=(4, 5, 6, 7),
        quiet=(1, 2),
    )


def _worker(one: HeldBy, rows: dict[str, Row]) -> list[tuple[str, ...]]:
    lines = []
    names = sorted(one.settings, key=lambda name: (name != DEFAULT, name))
    for place, name in enumerate(names[:TYPES_SHOWN]):
        held = one.settings[name]
        head = ("", "", "")
        if not place:
            spoke = f"said {state.since(one.at)} ago"
            head = (
                f"<b>{state.text(one.identity)}</b><br><small>{state.text(one.host)}, process {one.pid}</small>",
                state.text(one.task_queue),
                f"<span title='{state.text(spoke)}'>{state.text(one.source)}</span>",
            )
        lines.append(
            (
                *head,
                state.text("Defaults" if name == DEFAULT else name),
                f"{held.timeout_seconds:,} s",
                str(held.retry_attempts),
                f"{held.backoff_multiplier:g}",
                "any number" if name in NO_PLACE else f"{held.max_concurrent:,}",
                _newest(one, name, rows),
            )
        )
    return lines


def _newest(one: HeldBy, name: str, rows: dict[str, Row]) -> str:
    """Whether a worker's values are those stored."""
    held, stored = one.settings[name], rows.get(name) or rows[DEFAULT]
    stored_version = rows[name].version if name in rows else 0
    same = all(getattr(held, field) == getattr(stored.effective, field) for field in FIELDS)
    if same and (held.version, held.default_version) == (stored_version, rows[DEFAULT].version):
        return "<span class='ph-ws-ok'>yes</span>"
    newest = max(stored_version, rows[DEFAULT].version)
    return f"<b class='ph-ws-warn'>behind: change {newest} has not arrived</b>"
