"""Tenants on their way in or out, and the dialogs to send one away, end its wait or keep it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import streamlit as st

from operations import tenant_lifecycle, tenant_moving
from operations.access import Permission
from operations.tenant_leaving import AT_WORK
from operations.tenant_moving import Moving
from pages.temporal_parts import common
from pages.tenants_parts import progress
from pages.widgets import forms, session, state
from pages.widgets.cached import live

SHOWN = 10
REFRESH_SECONDS = 5.0
_STATE = "_tenants_leaving"
SETTLES_SECONDS = 20.0
"""So long after a change the page looks whether its run has begun; a worker that is busy may take longer."""


@dataclass(slots=True)
class _Asked:
    """What a dialog was asked for, and what came of the last one; one per browser session."""

    what: str = ""
    tenant: str = ""
    said: str = ""
    until: float = 0.0
    """Moment on the monotonic clock up to which the page waits for the last change to show; 0 when it does not."""
    before: list[Moving] = field(default_factory=list)
    """What the tenant was when the dialog was opened."""


def _asked() -> _Asked:
    found: _Asked = st.session_state.setdefault(_STATE, _Asked())
    return found


def draw(tenant: str = "") -> None:
    """The tenants that come or go, where there are any; of one tenant where it is named."""
    asked = _asked()
    if asked.said:
        st.success(asked.said, icon=":material/check_circle:")
    if asked.until > time.monotonic():
        _settle()
    else:
        # It stays as long as the page waits: a redraw would take it away before it is read.
        asked.said, asked.until = "", 0.0
    if _found(tenant):
        _moving(tenant)
    dialog()


@live(1.0)
def _settle() -> None:
    """Draw the page anew as soon as the run that was begun has changed the tenant."""
    asked = _asked()
    if asked.until and (_found(asked.tenant) != asked.before or asked.until <= time.monotonic()):
        asked.until = 0.0
        st.rerun()


def _found(tenant: str) -> list[Moving]:
    found = tenant_moving.moving(session.platform(), session.actor())
    return [one for one in found if tenant in ("", one.id)]


@live(REFRESH_SECONDS)
def _moving(tenant: str) -> None:
    found = _found(tenant)
    if not found:
        # The last of them arrived: what the page says around this part is old.
        st.rerun()
    if not tenant:
        st.markdown("#### On their way")
    for one in found[:SHOWN]:
        _one(one)
    if len(found) > SHOWN:
        st.markdown(f":gray[and {len(found) - SHOWN} more, under Executions on the Temporal page]")


def _one(one: Moving) -> None:
    with st.container(border=True, gap="xxsmall"):
        doing = "is being made" if one.status == "provisioning" else "leaves"
        st.markdown(f"**{state.plain(one.name)}** `{state.plain(one.id)}` {doing}")
        told = progress.read(one.workflow_id, every=REFRESH_SECONDS, wait=0.1)
        waits = one.ends_at is not None
        if told is not None:
            # The run itself tells the time in UTC; people read it in their own zone.
            ends = f"Waits until {state.moment(one.ends_at)}. Until then the tenant can be kept." if waits else ""
            progress.bar(told, ends)
        with st.container(horizontal=True, vertical_alignment="center"):
            st.html(common.anchor(progress.address(one.workflow_id), "Open the execution"))
            if waits and session.allowed(Permission.TENANTS_MANAGE):
                if st.button("Keep the tenant", key=f"tenants_keep_{one.id}"):
                    _ask("keep", one.id)
                if st.button("End the wait…", key=f"tenants_end_{one.id}", type="tertiary"):
                    _ask("end", one.id)


def button(tenant: str, status: str) -> None:
    """The way to offboard one tenant, for those who may and where it can be."""
    if session.allowed(Permission.TENANTS_MANAGE) and status in (*AT_WORK, "offboarding"):
        words = "Offboard…" if status != "offboarding" else "Go on offboarding…"
        if st.button(words, icon=":material/logout:", key="tenants_offboard"):
            _ask("offboard", tenant)


def _ask(what: str, tenant: str) -> None:
    asked = _asked()
    asked.what, asked.tenant, asked.before = what, tenant, _found(tenant)
    # A dialog opened in a part that redraws itself would be closed by the next redraw.
    st.rerun()


def dialog() -> None:
    """Draw the dialog while one is asked for."""
    asked = _asked()
    # Taken once: an open dialog redraws itself alone, and must not come back after leaving the page.
    what, asked.what = asked.what, ""
    if what:
        {"offboard": _offboard, "end": _end, "keep": _keep}[what](asked.tenant)


@st.dialog("Offboard a tenant")
def _offboard(tenant: str) -> None:
    now = next((one for one in _found(tenant) if one.status == "offboarding"), None)
    hours: float | None = None
    if now is not None and now.removing:
        st.markdown(
            f"The waiting period of **{state.plain(tenant)}** is over: what is left of it is removed from every system "
            "now. There is no way back."
        )
    else:
        st.markdown(
            f"After the waiting period **{state.plain(tenant)}** is removed from every system, with its files, "
            "vectors, memories and people's group. Its subscription ends with a last bill. Until then it can be kept."
        )
        longest = progress.attempt(lambda: tenant_lifecycle.longest_wait(session.platform()))
        if longest is None:
            return
        left = tenant_lifecycle.DEFAULT_WAIT_HOURS if now is None else round(tenant_lifecycle.hours_left(now), 1)
        hours = st.number_input(
            "Waiting period in hours", 0.0, float(longest), min(left, float(longest)), key="tenants_wait",
            format="%g", help=f"From now; 720 hours are thirty days, 0 begins at once. At most {longest:,}, so that "
            "the run's timeout leaves time for removing.",
        )  # fmt: skip
    reason = forms.reason_field("tenants_off_reason")
    if _typed(tenant, "tenants_off_typed", "Offboard"):
        who, platform = session.actor(), session.platform()
        begun = progress.attempt(lambda: tenant_lifecycle.offboard(platform, who, tenant, hours, reason or ""))
        if begun is not None:
            _finish(f"The offboarding of {state.plain(tenant)} has begun.")


@st.dialog("End the waiting period")
def _end(tenant: str) -> None:
    st.markdown(f"**{state.plain(tenant)}** is removed from every system now. There is no way back.")
    reason = forms.reason_field("tenants_end_reason")
    if _typed(tenant, "tenants_end_typed", "Remove it now"):
        who, platform = session.actor(), session.platform()
        if progress.attempt(lambda: tenant_lifecycle.end_wait(platform, who, tenant, reason or "") or True):
            _finish(f"The waiting period of {state.plain(tenant)} has been ended.")


@st.dialog("Keep the tenant")
def _keep(tenant: str) -> None:
    st.markdown(f"The offboarding of **{state.plain(tenant)}** is called off. The tenant is what it was before.")
    reason = forms.reason_field("tenants_keep_reason")
    if st.button("Keep it", key="tenants_keep_go", type="primary"):
        who, platform = session.actor(), session.platform()
        if progress.attempt(lambda: tenant_lifecycle.keep(platform, who, tenant, reason or "") or True):
            _finish(f"{state.plain(tenant)} is kept.")


def _typed(tenant: str, key: str, verb: str) -> bool:
    """Whether the button was pressed with the tenant's id typed."""
    typed = st.text_input(f"Type {tenant} to confirm", key=key, autocomplete="off")
    if not st.button(verb, key=f"{key}_go", type="primary"):
        return False
    if (typed or "").strip() != tenant:
        st.error(f"What was typed is not {state.plain(tenant)}.", icon=":material/error:")
        return False
    return True


def _finish(said: str) -> None:
    asked = _asked()
    asked.said, asked.until = said, time.monotonic() + SETTLES_SECONDS
    st.rerun()
