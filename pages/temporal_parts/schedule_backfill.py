"""Running a schedule for a past time: a preview of the runs, then their start."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import streamlit as st

from adapters.core import AdapterError, utcnow
from adapters.temporal_client.schedules import Schedule
from operations import change, workflow_schedule_runs
from operations.change import Invalid
from operations.workflow_schedule_runs import BACKFILL_MOST
from pages.temporal_parts import common, schedule_state
from pages.temporal_parts.schedule_state import key, run
from pages.widgets import forms, state
from pages.widgets.template import View


def draw(view: View, seen: Schedule) -> None:
    """Choose the time, see what it holds, and start it."""
    made = schedule_state.opened()
    st.markdown(
        "Starts the runs of a past time now, as if it passed again. "
        f"At most {BACKFILL_MOST:,} at once; times are in UTC."
    )
    now = utcnow().replace(second=0, microsecond=0, tzinfo=None)
    first, second, third = st.columns(3, vertical_alignment="bottom")
    with first:
        start: datetime | None = st.datetime_input("From", now - timedelta(days=1), key=key("from"))
    with second:
        end: datetime | None = st.datetime_input("To", now, key=key("to"))
    with third:
        overlap = schedule_state.overlap("If one still runs", "BufferAll", "backfill_overlap")
    span = (start.replace(tzinfo=UTC), end.replace(tzinfo=UTC)) if start and end else None
    if st.button("Preview", key=key("preview"), icon=":material/visibility:", disabled=span is None) and span:
        made.preview = made.span = None
        try:
            made.preview, made.span = workflow_schedule_runs.preview(view.platform, view.actor, seen.id, *span), span
        except Invalid as error:
            common.wrong(error.errors)
        except (AdapterError, change.NotFound) as error:
            st.error(state.plain(getattr(error, "sentence", str(error))), icon=":material/error:")
    if made.preview is None or made.span is None or made.span != span:
        return
    found = made.preview
    named = ", ".join(state.moment(at) for at in found.first)
    last = f" … {state.moment(found.last)}" if found.count > len(found.first) else ""
    st.markdown(f"**{found.count:,}** run{'s' * (found.count != 1)}: {named}{last}")
    typed = schedule_state.confirmed(seen, overlap, "backfill_typed")
    reason = forms.reason_field(key("backfill_reason"))
    many = f"{found.count:,} run{'s' * (found.count != 1)}"
    pressed = st.button(f"Start {many}", key=key("backfill"), type="primary", icon=":material/history:")
    if not pressed or not typed():
        return
    start_at, end_at = made.span
    if run(
        lambda: workflow_schedule_runs.backfill(
            view.platform, view.actor, seen.id, start_at, end_at, reason=reason, overlap=overlap
        ),
        f"Asked for {many}.",
    ):
        st.rerun()
