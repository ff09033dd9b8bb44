"""Configure: the console's own pool as it is now, and the server's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st
from pydantic import SecretStr

from adapters.core import Setting
from pages.postgresql_parts import read
from pages.widgets import cached, state, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pages.widgets.template import View

ROWS_SHOWN = 100
CHANGED, ALL, WAITING = "Different from default", "All", "Waiting for a restart"


def draw(view: View) -> None:
    """The pool's present use, then pg_settings with search."""
    pool(view)
    server_settings(view)


def pool(view: View) -> None:
    """How many connections this process of the console has and uses."""
    st.markdown("#### The console's own pool")
    in_force, used = view.platform.database.pool, view.platform.database.pool_status()
    st.markdown(
        f"Pool size **{in_force.pool_size}**, overflow **{in_force.max_overflow}**, wait at most "
        f"**{in_force.pool_timeout_s:g} s** for a connection, end a statement after "
        f"**{in_force.statement_timeout_ms} ms**. A change above is applied at once, without cutting off what runs.  \n"
        f":gray[This process now: {used['checked_out']} in use, {used['idle']} idle, "
        f"{used['overflow']} beyond the pool.]"
    )


def server_settings(view: View) -> None:
    """Settings of the server: those that differ from the default first, all by search."""
    st.markdown("#### The server's own settings")
    read.ahead(view, "settings")
    found = read.shown(view, "settings", "the server's settings")
    if found is None:
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="pg_settings"):
        which = st.segmented_control(
            "Which", [CHANGED, ALL, WAITING], default=CHANGED, key="pg_settings_which", required=True,
            label_visibility="collapsed",
        )  # fmt: skip
        wanted = st.text_input(
            "Search the server's settings", key="pg_settings_search", placeholder="Search name, group or meaning",
            label_visibility="collapsed",
        )  # fmt: skip
    shown = select(found, which or CHANGED, wanted)
    if not shown:
        table.empty("No setting matches", "Search among all of them, or change the words.")
        return
    table.draw(
        ("Setting", "Value", "Default", "Meaning"),
        (
            (
                f"<code>{state.text(s.name)}</code><br><small>{state.text(s.group)}</small>",
                f"<b>{_value(s)}</b>" if differs(s) else _value(s),
                state.text(s.default if s.default is not None else "–"),
                state.text(s.description),
            )
            for s in shown[:ROWS_SHOWN]
        ),
    )
    more = f" The first {ROWS_SHOWN} are shown; search for others." if len(shown) > ROWS_SHOWN else ""
    st.markdown(f":gray[{len(shown)} of {len(found)} settings.{more}] {cached.age(read.quiet(view, 'settings'))}")
    st.markdown(
        ":gray[These belong to the server: change them there, with ALTER SYSTEM or in postgresql.conf, then reload. "
        "The console only reads them.]"
    )


def differs(setting: Setting) -> bool:
    """Whether a setting is not what PostgreSQL ships with."""
    return setting.default is not None and setting.value != setting.default


def select(settings: Sequence[Setting], which: str, wanted: str) -> list[Setting]:
    """The settings of a selection that contain every word searched for."""
    words = wanted.casefold().split()
    chosen = {CHANGED: differs, ALL: lambda s: True, WAITING: lambda s: "waits for a restart" in s.description}[which]
    return [
        s
        for s in settings
        if chosen(s) and all(word in f"{s.name} {s.group} {s.description}".casefold() for word in words)
    ]


def _value(setting: Setting) -> str:
    return "••••" if isinstance(setting.value, SecretStr) else state.text(setting.value)
