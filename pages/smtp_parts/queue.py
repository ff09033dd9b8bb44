"""The queue of mails: what waits, what was sent, what failed and why, and sending a failed one again."""

from __future__ import annotations

from functools import partial

import streamlit as st

from operations import change, mail
from operations.access import Permission
from operations.mail import Letter
from pages.widgets import charts, forms, listing, session, state, table
from pages.widgets.template import View

NOTE = "smtp_retry_note"
SHOWN = 30
LIVE_SECONDS = 5.0
TONES = {"failed": "ph-bad", "queued": "ph-warnings", "sent": "", "canceled": "ph-inherits"}
FILTERS = {"All": None, "Waiting": "queued", "Sent": "sent", "Failed": "failed", "Canceled": "canceled"}
WORDS = {"queued": "waiting", "sent": "sent", "failed": "failed", "canceled": "canceled"}


def draw(view: View) -> None:
    """Numbers and list redraw themselves; the form for sending again stands still."""
    forms.result(NOTE)
    st.segmented_control(
        "Mails", list(FILTERS), default="All", required=True, key="mails", bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    _live()
    _again(view)


@st.fragment(run_every=LIVE_SECONDS)
def _live() -> None:
    platform, actor = session.platform(), session.actor()
    try:
        now = mail.state(platform, actor)
        rows = mail.recent(platform, actor, FILTERS.get(st.session_state.get("mails", "All")), limit=SHOWN)
    except change.StoreUnavailable as error:
        st.error(f"The queue cannot be read. {state.plain(str(error))}", icon=":material/database_off:")
        return
    _numbers(now)
    if not rows:
        table.empty("No mails", "Nothing matches. What the console and its workers send passes through here.")
        return
    table.draw(
        ("Queued", "To", "Subject", "State", "Attempts", "Last error"),
        [_row(one) for one in rows],
        quiet=(0,),
        right=(4,),
    )
    if len(rows) == SHOWN:
        st.caption(f"The newest {SHOWN}. Mails are kept for 90 days.")


def _numbers(now: mail.Queue) -> None:
    rate = "–" if now.rate is None else f"{now.rate:.1f} %"
    since = f"oldest {state.since(now.waiting_since)}" if now.waiting_since else "nothing waits"
    listing.facts(
        (
            ("Waiting", f"{now.waiting:,}", since),
            ("Sent", f"{now.sent_day:,}", "last 24 hours"),
            ("Failed", f"{now.failed:,}", "refused for good or given up after 3 days; kept for 90 days"),
            ("Delivered", rate, "sent among sent and failed, last 24 hours"),
        )
    )
    if now.last_error:
        age = f" ({state.since(now.last_error_at)} ago)" if now.last_error_at else ""
        st.markdown(f":orange-badge[:material/error: Last error{age}] {state.plain(now.last_error)}")
    hours = [f"{at:%H}:00" for at, _, _ in now.hours]
    spec = charts.bars(
        hours, {"sent": [float(one[1]) for one in now.hours], "failed": [float(one[2]) for one in now.hours]}
    )
    for one, colour in zip(spec["series"], ("#3e8bff", "#dc4b4b"), strict=True):
        one["itemStyle"] = {"color": colour}
    sent, failed = sum(one[1] for one in now.hours), sum(one[2] for one in now.hours)
    st.markdown("**Delivered per hour** :small[:gray[UTC]]")
    charts.draw(spec, key="mails_hours", alt=f"Mails of the last 24 hours: {sent} sent, {failed} failed", height=140)


def _row(one: Letter) -> tuple[str, ...]:
    return (
        table.when(one.created_at),
        f"{state.text(one.recipient)}<br><small>{state.text(one.tenant or one.kind)}</small>",
        state.text(one.subject),
        f"<b class='{TONES.get(one.status, '')}'>{WORDS.get(one.status, one.status)}</b>",
        f"{one.attempts:,}",
        state.text(one.last_error or "–"),
    )


def _again(view: View) -> None:
    try:
        failed = mail.recent(view.platform, view.actor, "failed", limit=50)
    except change.StoreUnavailable:  # said above
        return
    if not failed:
        return
    st.markdown("#### Send again")
    if not view.may(Permission.INFRA_OPERATE):
        st.caption("Only those who operate the platform may send a failed mail again.")
        return
    known = {one.id: f"{one.recipient} · {one.subject}" for one in failed}
    with st.form("mail_retry", border=False):
        choice, why, go = st.columns([3, 3, 1], vertical_alignment="bottom")
        with choice:
            chosen = st.selectbox(
                "Failed mail", list(known), index=None, key="mail_retry_which", placeholder="Choose a mail",
                format_func=lambda one: known.get(one, ""),
            )  # fmt: skip
        with why:
            reason = forms.reason_field("mail_retry_reason")
        with go:
            asked = st.form_submit_button("Send again", icon=":material/redo:", width="stretch")
    if not asked:
        return
    if chosen is None:
        st.error("Choose the mail to send again.", icon=":material/error:")
        return
    operation = partial(mail.retry, view.platform, view.actor, chosen, reason=reason)
    if forms.run(operation, done="The mail is handed over again.", note=NOTE) is not None:
        st.rerun()
