"""Policies: the limit of every key, edited in one grid."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from operations import ratelimits
from operations.change import FieldError
from operations.ratelimit_rules import window_text
from operations.ratelimits import Edit, Policy, Target
from pages.ratelimits_parts import common, review, stale, typed
from pages.ratelimits_parts.common import View
from pages.ratelimits_parts.review import Draft
from pages.widgets import forms, state, table

NAME = "policies"
COLUMNS = ("key", "limit", "window", "policy", "warn_percent", "on_redis_failure", "active", "description", "owner")
NEW = {"window": "1 hour", "policy": "HARD", "warn_percent": 80, "on_redis_failure": "allow", "active": True}


def editor_key() -> str:
    """Name of the grid's state in the session."""
    return f"rl_policies_{review.draft(NAME).generation}"


def draw(view: View) -> None:
    """The grid for those who may edit, a table for the others."""
    made = review.draft(NAME)
    rows = ratelimits.policies(view.platform, view.actor)
    if not view.edits:
        _table(rows)
        return
    forms.result(made.note)
    now = {policy.target: policy for policy in rows}
    behind = stale.behind(made, editor_key, now)
    if made.rows is None:
        made.rows = rows
        made.seen = {policy.target: policy.version for policy in rows}
    typed.recall(made, editor_key, len(made.rows))
    _grid(view, made)
    review.draw(view, made)
    stale.notice(view, made, behind, now)


@st.fragment
def _grid(view: View, made: Draft) -> None:
    """The grid alone is drawn again with each cell typed; whoever looks elsewhere meanwhile finds it as it was."""
    columns = [*COLUMNS, "changed"]
    stored = [dict(zip(columns, _row(policy), strict=True)) for policy in made.rows]
    with st.container(key="rl_policies"):
        c = st.column_config
        st.data_editor(
            pd.DataFrame(typed.shown(stored, made.kept, dict.fromkeys(columns)), columns=columns),
            key=editor_key(),
            num_rows="dynamic",
            hide_index=True,
            height="auto",
            disabled=["changed"],
            column_config={
                "key": c.TextColumn("Key", help="a-z first, then a-z 0-9 . _ -", required=True, pinned=True, width=150),
                "limit": c.TextColumn("Limit", help=common.LIMIT_HELP, alignment="right", required=True, width=105),
                "window": c.TextColumn("Window", help=common.WINDOW_HELP, default="1 hour", width=95),
                "policy": c.SelectboxColumn(
                    "Policy", options=common.MODES, default="HARD", help=common.MODE_HELP, required=True, width=95
                ),
                "warn_percent": c.NumberColumn(
                    "Warn %", help="Share of the limit from which a use is near", default=80, width=95
                ),
                "on_redis_failure": c.SelectboxColumn(
                    "Without Redis", options=("allow", "deny"), default="allow", required=True, width=135,
                    help="What a call gets while Redis does not answer",
                ),
                "active": c.CheckboxColumn("Active", default=True, width=85),
                "description": c.TextColumn("Description", width=190),
                "owner": c.TextColumn("Owner", width=100),
                "changed": c.TextColumn("Last changed", width=140),
            },
            alt="The limit of every key",
        )  # fmt: skip
        with st.container(horizontal=True, vertical_alignment="center"):
            asked = st.button("Review changes", key="rl_policies_ask", type="primary", icon=":material/fact_check:")
            common.hint("Nothing is saved before you have seen what it does. Add a key in the last row.")
    delta = typed.remember(made, editor_key, len(made.rows))
    typed.hint(made)
    if asked:
        edits, errors = wishes(made.rows, delta, made.seen)
        review.begin(view, made, edits, errors)
        if edits or errors:
            st.rerun(scope="app")
        st.info("Nothing was changed in the grid.", icon=":material/info:")


def _row(policy: Policy) -> tuple[Any, ...]:
    by = f"{policy.updated_by}, " if policy.updated_by else ""
    return (
        policy.target.key, common.amount(policy.limit), window_text(policy.window_seconds), policy.policy,
        policy.warn_percent, policy.on_redis_failure, policy.active, policy.description, policy.owner,
        f"{by}{state.short(policy.updated_at)}",
    )  # fmt: skip


def wishes(
    rows: list[Policy], delta: dict[str, Any], seen: dict[Target, int]
) -> tuple[list[Edit], list[FieldError]]:  # fmt: skip
    """What the grid's changes ask for, by the rows it was drawn from; bad values are named, not guessed at."""
    errors: list[FieldError] = []
    edits: list[Edit] = []
    gone = {int(index) for index in delta.get("deleted_rows", ())}
    for index in sorted(gone):
        target = rows[index].target
        edits.append(Edit(target, None, seen.get(target, 0)))
    for index, cells in sorted((int(index), cells) for index, cells in delta.get("edited_rows", {}).items()):
        if index in gone or index >= len(rows):
            continue
        policy = rows[index]
        key = policy.target.key
        if cells.get("key", key) != key:
            errors.append(FieldError(f"{key}: key", "cannot be renamed", "a new row with the new name"))
        values = _values(key, cells, errors)
        old = policy.values()
        changed = {name: value for name, value in values.items() if old[name] != value}
        if changed:
            edits.append(Edit(policy.target, changed, seen.get(policy.target, 0)))
    taken = {policy.target.key for policy in rows}
    for cells in delta.get("added_rows", ()):
        given = {name: value for name, value in cells.items() if value not in (None, "") and name in COLUMNS}
        if not set(given) - set(NEW):
            continue  # an empty last row, with nothing but defaults in it
        key = str(given.get("key") or "").strip()
        if not key:
            errors.append(FieldError("key", "is missing in the new row", "a-z first, then a-z 0-9 . _ -, at most 64"))
        elif key in taken:
            errors.append(FieldError(f"{key}: key", "is there already", "a name not yet used"))
        else:
            taken.add(key)
            values = _values(key, {"limit": None, **NEW, **given}, errors)
            edits.append(Edit(Target(key), values, 0))
    return edits, errors


def _values(key: str, cells: dict[str, Any], errors: list[FieldError]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in cells.items():
        if name == "limit":
            values["limit"] = common.limit_of(value, f"{key}: limit", errors)
        elif name == "window":
            seconds = common.window_of(value, f"{key}: window", errors)
            if seconds is not None:
                values["window_seconds"] = seconds
        elif name in COLUMNS and name != "key":
            values[name] = value if name not in ("description", "owner") else value or ""
    return values


def _table(rows: list[Policy]) -> None:
    if not rows:
        table.empty("No limits yet", "Every call passes until an admin sets one.")
        return
    table.draw(
        ("Key", "Limit", "Window", "Policy", "Warns at", "Without Redis", "Last changed"),
        [_read(policy) for policy in rows],
        right=(1,),
        quiet=(2, 4, 5, 6),
    )


def _read(p: Policy) -> tuple[str, ...]:
    off = "" if p.active else " <span class='ph-mode none'>INACTIVE</span>"
    return (
        f"<b>{state.text(p.target.key)}</b>{off}<br><small>{state.text(p.description)}</small>",
        f"<b>{common.amount(p.limit)}</b>",
        common.window(p.window_seconds),
        common.mode(p.policy),
        f"{p.warn_percent} %",
        state.text(p.on_redis_failure or ""),
        f"{table.when(p.updated_at)}<br><small>{state.text(p.updated_by)}</small>",
    )
