"""Who changed what, when and why, and whether the record is whole."""

from __future__ import annotations

import streamlit as st

from operations import audit
from operations.access import Permission
from pages.widgets import cached, faces, session, state
from pages.widgets.page import Page

PAGE = Page(
    slug="audit",
    title="Recent changes",
    section="Governance",
    path="/platform/audit",
    permission=Permission.AUDIT_READ,
    icon=":material/history:",
    order=10,
    summary="Every change people and programs made through the console, with its reason.",
)
SHOWN = 50
SUBJECTS = 12


def render() -> None:
    """Draw the page: the seal, the filters, one page of entries, and the way to older ones."""
    who, platform = session.actor(), session.platform()
    _seal()
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        subject = st.text_input(
            "Subject",
            key="subject",
            bind="query-params",
            placeholder="Subject begins with…",
            icon=":material/filter_list:",
            width=260,
        )
        words = st.text_input(
            "Containing", key="words", bind="query-params", placeholder="Person, action or reason", width=260
        )
    before = st.session_state.get("audit_before")
    entries = list(audit.entries(platform, who, subject_prefix=subject or None, limit=SHOWN, before_id=before))
    wanted = (words or "").strip().casefold()
    shown = [e for e in entries if wanted in f"{e.actor_name} {e.action} {e.subject} {e.reason}".casefold()]
    faces.change_table(shown)
    if wanted and len(shown) < len(entries):
        st.markdown(f":gray[{len(shown)} of the {len(entries)} entries on this page contain it.]")
    with st.container(horizontal=True):
        if before is not None and st.button("Newest", icon=":material/first_page:"):
            st.session_state.pop("audit_before", None)
            st.rerun()
        if len(entries) == SHOWN and st.button("Older", icon=":material/chevron_right:"):
            st.session_state["audit_before"] = entries[-1].id
            st.rerun()


def _seal() -> None:
    """Each entry carries the hash of the one before; a removed or altered entry breaks the chain."""
    platform = session.platform()
    found = cached.reading("console:audit-chain", lambda: audit.verify_chain(platform), every=300.0)
    if found.error is not None:
        cached.failed(found, "the seal of the record")
    elif found.value is None:
        st.markdown(cached.age(found))
    elif found.value.ok:
        st.markdown(
            f":green-badge[:material/verified: Record is whole] :gray[{found.value.checked} entries verified, "
            f"{state.since(found.fetched_at)} ago]"
        )
    else:
        st.markdown(
            ":red-badge[:material/gpp_bad: Record was tampered with] An entry was altered or removed. "
            "Compare with a backup and ask who had access to the database."
        )
