"""Sessions and locks, and ending a session that holds others up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from adapters.postgresql_stats import advice
from adapters.postgresql_stats.activity import Blocked, Session
from operations.access import Permission, roles_with
from pages.postgresql_parts import ending, read
from pages.postgresql_parts.findings import judged
from pages.widgets import cached, state, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pages.widgets.template import View

TREE_ROWS = 200


def sessions(view: View) -> None:
    """Sessions by state, and those inside a transaction, longest first."""
    st.markdown("#### Sessions")
    ending.result()
    by_state = read.shown(view, "sessions_by_state", "sessions")
    if by_state is not None:
        total = sum(by_state.values())
        words = ", ".join(f"{count} {state.plain(name)}" for name, count in by_state.items())
        st.markdown(f"**{total}** client sessions: {words}." if total else "No client sessions.")
    found: list[Session] | None = read.shown(view, "transactions", "open transactions")
    if found is None:
        return
    judged(advice.sessions(found), "No transaction is long, none is idle.")
    if not found:
        table.empty("No open transactions", "Nobody but this console is inside a transaction now.")
        return
    table.draw(
        ("Session", "In transaction", "State", "Waits for", "Who", "Statement"),
        (_row(session) for session in found),
        quiet=(0, 1),
    )
    st.markdown(cached.age(read.quiet(view, "transactions")))
    _end(view, found)


def locks(view: View) -> None:
    """Who waits for whom as a tree, and locks by mode."""
    st.markdown("#### Locks")
    ending.result()
    held = read.shown(view, "locks", "locks")
    if held is None:
        return
    judged(advice.locks(held), "Nobody waits for a lock.")
    if held.cut:
        st.markdown(":orange[:material/content_cut: More than 100 sessions wait; the first 100 are in the tree.]")
    rows = [row for root in held.roots for row in _branch(root, 0)]
    if rows:
        table.draw(
            ("Session", "Wants", "Holds up", "In transaction", "State", "Who", "Statement"),
            (
                (
                    f"<span style='padding-left:{depth}.2rem'>{'└ ' * (depth > 0)}</span><b>{b.session.pid}</b>",
                    state.text(b.waits_for or "–"),
                    str(b.held_up or "–"),
                    state.span(b.session.transaction_s or 0.0),
                    state.text(b.session.state),
                    _who(b.session),
                    _query(b.session),
                )
                for b, depth in rows[:TREE_ROWS]
            ),
            right=(2,),
        )
        _end(view, [b.session for b, _ in rows[:TREE_ROWS]])
    if held.by_mode:
        st.markdown("##### Locks by mode")
        table.draw(
            ("Mode", "Held", "Waited for"),
            ((f"<code>{state.text(mode)}</code>", str(granted), str(waited)) for mode, granted, waited in held.by_mode),
            right=(1, 2),
        )
    st.markdown(cached.age(read.quiet(view, "locks")))


def _branch(blocked: Blocked, depth: int) -> list[tuple[Blocked, int]]:
    rows = [(blocked, depth)]
    for child in blocked.waiting:
        rows.extend(_branch(child, depth + 1))
    return rows


def _row(s: Session) -> tuple[str, ...]:
    return (
        f"<b>{s.pid}</b>",
        state.span(s.transaction_s or 0.0),
        state.text(s.state) + (f" for {state.span(s.state_s)}" if s.state_s and s.state != "active" else ""),
        state.text(s.wait or "–"),
        _who(s),
        _query(s),
    )


def _who(s: Session) -> str:
    whence = f"<small>{state.text(s.application)} {state.text(s.client)}</small>"
    return f"{state.text(s.user)}@{state.text(s.database)}<br>{whence}"


def _query(s: Session) -> str:
    return f"<code>{state.text(' '.join(s.query.split())[:160])}</code>"


def _end(view: View, found: Sequence[Session]) -> None:
    """Choose one session by what it is, not by its place in a list that moves, then ask to end it."""
    if not view.may(Permission.INFRA_OPERATE):
        roles = ", ".join(role.replace("_", " ") for role in roles_with(Permission.INFRA_OPERATE))
        st.markdown(f":gray[:material/lock: Ending a session needs the role {roles}.]")
        return
    # The label carries the moment the session began, so that one that took over its number is another choice.
    known = {
        f"{s.pid} · {s.user}@{s.database} · {s.application or s.client} · since {s.backend_start:%H:%M:%S.%f}": s
        for s in found
    }
    pick, cancel, terminate = st.columns([4, 1, 1], vertical_alignment="bottom")
    with pick:
        chosen = st.selectbox(
            "End a session", list(known), index=None, placeholder="Choose a session", key="pg_end_pick",
        )  # fmt: skip
    session = known.get(chosen) if chosen else None
    with cancel:
        if st.button("Cancel", key="pg_cancel", icon=":material/stop_circle:", disabled=session is None,
                     help="Ends its running statement; the session stays."):  # fmt: skip
            ending.ask(session, terminate=False)
    with terminate:
        if st.button("Terminate", key="pg_terminate", icon=":material/power_settings_new:", disabled=session is None,
                     help="Ends the session; its transaction is rolled back."):  # fmt: skip
            ending.ask(session, terminate=True)
