"""SomaBrain's sleep, the runs that care for its memories, and sending lost writes again."""

from __future__ import annotations

from typing import cast

import streamlit as st

from adapters.core import AdapterError
from adapters.somabrain import SomaBrain
from adapters.somabrain_records import OutboxEvent
from operations import change, somabrain_care
from operations.access import Permission
from operations.workflow_catalogue import CONSOLIDATION, SLEEP_CYCLE
from pages.widgets import cached, forms, runs, state
from pages.widgets.template import View

NOTE = "somabrain_replay_note"
FACE = "Care"


def draw(view: View) -> None:
    """The face "Care": runs redraw themselves, the form stands still."""
    forms.result(NOTE)
    _runs(view)
    _again(view)


@cached.live(15.0)
def _runs(view: View) -> None:
    runs.draw(view, SLEEP_CYCLE, CONSOLIDATION, title="Latest sleep cycles and consolidations")


def _again(view: View) -> None:
    st.markdown("#### Send failed writes again")
    adapter = cast(SomaBrain, view.adapter)
    found = cached.reading("somabrain:outbox:failed", lambda: _failed(adapter), every=30.0)
    if found.value is None:
        st.caption("Not known while SomaBrain does not answer." if found.error else "Reading…")
        return
    offered, failed = found.value
    if not failed:
        st.caption("No write has failed." if offered else "This version of SomaBrain keeps no list of failed writes.")
        return
    if not view.may(Permission.INFRA_OPERATE):
        st.caption("Only those who operate the platform may send failed writes again.")
        return
    known: dict[int, OutboxEvent] = {one.id: one for one in failed}
    with st.form("somabrain_replay", border=False):
        chosen = st.multiselect(
            "Failed writes", list(known), key="somabrain_replay_which", placeholder="All of them",
            format_func=lambda ident: _label(known.get(ident), ident),
        )  # fmt: skip
        why, go = st.columns([5, 1], vertical_alignment="bottom")
        with why:
            reason = forms.reason_field("somabrain_replay_reason")
        with go:
            asked = st.form_submit_button("Send again", icon=":material/redo:", width="stretch")
    if asked:
        _replay(view, chosen or list(known), reason)


def _failed(adapter: SomaBrain) -> tuple[bool, tuple[OutboxEvent, ...]]:
    """Whether this version keeps a list of failed writes, and the list."""
    found = adapter.outbox("failed")
    return found is not None, found or ()


def _replay(view: View, ids: list[int], reason: str) -> None:
    def operation() -> change.Outcome:
        somabrain_care.replay_failed(view.platform, view.actor, ids, reason=reason)
        return change.Outcome()

    count = f"{len(ids)} write{'' if len(ids) == 1 else 's'}"
    try:
        done = forms.run(operation, done=f"{count} sent again.", note=NOTE)
    except AdapterError as error:
        st.error(f"Not sent. {state.plain(error.sentence)} {state.plain(error.advice)}", icon=":material/error:")
        return
    if done is not None:
        view.platform.readings.forget("somabrain:outbox")
        st.rerun()


def _label(one: OutboxEvent | None, ident: int) -> str:
    return f"{ident}" if one is None else f"{ident} · {one.tenant} · {one.topic} · {one.last_error[:60]}"
