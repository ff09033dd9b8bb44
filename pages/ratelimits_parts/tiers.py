"""Tiers: what each tier gets of each key, and where it inherits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from limiter import Scope
from operations import ratelimit_impact, ratelimit_usage, ratelimits
from operations.access import SYSTEM
from operations.change import FieldError
from operations.ratelimit_impact import Cell, Unfair
from operations.ratelimit_rules import window_text
from operations.ratelimits import Edit, Policy, Target
from pages.ratelimits_parts import common, naming, review, stale, typed
from pages.ratelimits_parts.common import View
from pages.ratelimits_parts.review import Draft
from pages.widgets import cached, forms, session, state, table

NAME = "tiers"
Matrix = tuple[list[tuple[str, str]], list[Policy], dict[tuple[str, str], Policy]]


def editor_key() -> str:
    """Name of the grid's state in the session."""
    return f"rl_tiers_{review.draft(NAME).generation}"


def draw(view: View) -> None:
    """The grid for those who may edit; below it what is in force, with where it comes from."""
    made = review.draft(NAME)
    tiers, own = ratelimits.matrix(view.platform, view.actor)
    policies = ratelimits.policies(view.platform, view.actor)
    if not tiers or not policies:
        table.empty("Nothing to arrange yet", "The matrix needs a tier and a key with a limit.")
        return
    if view.edits:
        forms.result(made.note)
        now = {policy.target: policy for policy in (*policies, *own.values())}
        behind = stale.behind(made, editor_key, now, moved=made.rows is not None and made.rows[0] != tiers)
        if made.rows is None:
            made.rows = (tiers, policies, own)
            made.seen = {target: policy.version for target, policy in now.items()}
        typed.recall(made, editor_key, len(made.rows[0]))
        _grid(view, made)
        review.draw(view, made)
        stale.notice(view, made, behind, now)
        st.markdown("#### In force")
    found = ratelimit_impact.cells(tiers, policies, own)
    _matrix(tiers, policies, found)
    _warnings(ratelimit_impact.unfair(tiers, found))


@st.fragment
def _grid(view: View, made: Draft) -> None:
    tiers, policies, own = made.rows
    keys = [policy.target.key for policy in policies]
    stored = [
        {"Tier": name, **{key: common.amount(own[code, key].limit) if (code, key) in own else None for key in keys}}
        for code, name in tiers
    ]
    frame = pd.DataFrame(typed.shown(stored, made.kept, {}), columns=["Tier", *keys])
    c = st.column_config
    with st.container(key="rl_tiers"):
        st.data_editor(
            frame,
            key=editor_key(),
            hide_index=True,
            disabled=["Tier"],
            placeholder="inherits",
            column_config={
                "Tier": c.TextColumn("Tier", pinned=True, width=120),
                **{
                    key: c.TextColumn(key, alignment="right", help=f"{common.LIMIT_HELP} Blank inherits.")
                    for key in keys
                },
            },
            alt="The limit of each tier for each key",
        )
        with st.container(horizontal=True, vertical_alignment="center"):
            asked = st.button("Review changes", key="rl_tiers_ask", type="primary", icon=":material/fact_check:")
            common.hint("A number, 0 (blocks everything) or Unlimited; blank inherits from everyone's limit.")
    delta = typed.remember(made, editor_key, len(tiers))
    typed.hint(made)
    if asked:
        edits, errors = wishes(made.rows, delta, made.seen)
        # What the note says is of what is stored now, not of what was when the grid was drawn.
        matrix = ratelimits.matrix(view.platform, view.actor)
        now = (matrix[0], ratelimits.policies(view.platform, view.actor), matrix[1])
        review.begin(view, made, edits, errors, lambda wanted: _notes(*now, wanted))
        if edits or errors:
            st.rerun(scope="app")
        st.info("Nothing was changed in the grid.", icon=":material/info:")


def wishes(rows: Matrix, delta: dict[str, Any], seen: dict[Target, int]) -> tuple[list[Edit], list[FieldError]]:
    """What the grid's changes ask for; blank takes the tier's own limit away."""
    tiers, policies, own = rows
    keys = {policy.target.key for policy in policies}
    errors: list[FieldError] = []
    edits: list[Edit] = []
    for index, cells in sorted((int(index), cells) for index, cells in delta.get("edited_rows", {}).items()):
        if index >= len(tiers):
            continue
        code, name = tiers[index]
        for key, value in cells.items():
            if key not in keys:
                continue
            target, stored = Target(key, Scope.TIER, code), own.get((code, key))
            if value is None or not str(value).strip():
                if stored is not None:
                    edits.append(Edit(target, None, seen.get(target, 0)))
                continue
            before = len(errors)
            limit = common.limit_of(value, f"{name} / {key}: limit", errors)
            if len(errors) == before and (stored is None or stored.limit != limit):
                edits.append(Edit(target, {"limit": limit}, seen.get(target, 0)))
    return edits, errors


def _notes(
    tiers: list[tuple[str, str]], policies: list[Policy], own: dict[tuple[str, str], Policy], edits: Sequence[Edit]
) -> list[str]:
    then = ratelimit_impact.cells(tiers, *ratelimit_impact.proposed(policies, own, edits))
    return [f"Afterwards {_unfair(one)}." for one in ratelimit_impact.unfair(tiers, then)]


def _unfair(one: Unfair) -> str:
    return (
        f"<b>{state.text(one.higher)}</b> gets less {state.text(one.key)} than <b>{state.text(one.lower)}</b> "
        f"({common.amount(one.higher_limit)} against {common.amount(one.lower_limit)})"
    )


def _matrix(tiers: list[tuple[str, str]], policies: list[Policy], found: dict[tuple[str, str], Cell]) -> None:
    keys = [policy.target.key for policy in policies]
    table.draw(
        ("Tier", *keys),
        [
            (f"<b>{state.text(name)}</b>", *(_cell(found[code, policy.target.key], policy) for policy in policies))
            for code, name in tiers
        ],
        right=tuple(range(1, len(keys) + 1)),
    )  # fmt: skip


def _cell(cell: Cell, everyone: Policy) -> str:
    words = common.amount(cell.limit)
    if cell.window_seconds != everyone.window_seconds:
        words += f"<br><small>per {state.text(window_text(cell.window_seconds))}</small>"
    if cell.source.startswith("tier:"):
        return f"<b>{words}</b>"
    whence = "from everyone" if cell.source == "global" else "no rule in force"
    off = " · own limit inactive" if cell.own is not None else ""
    return f"<span class='ph-inherits'>{words}</span><br><small>{whence}{off}</small>"


def _warnings(wrong: list[Unfair]) -> None:
    """A higher tier with less than a lower one, and limits below present use."""
    lines = [f"{_unfair(one)}." for one in wrong]
    platform = session.platform()
    now = cached.reading("redis:ratelimits-near", lambda: ratelimit_usage.live(platform, SYSTEM, minutes=1), every=10.0)
    if now.value is not None:
        above = [s for s in now.value.near if s.limit is not None and s.used > s.limit and s.source.startswith("tier:")]
        known = naming.named_by(View(platform, session.actor()), above[:10])
        lines += [
            f"<b>{naming.named(s.tenant, known)}</b> uses {s.used:,} {state.text(s.key)}, above its tier's {s.limit:,}."
            for s in above[:10]
        ]
    if lines:
        items = "".join(f"<li class='ph-warnings'>{line}</li>" for line in lines)
        st.html(f"<div class='ph-change'><h5>Worth a look</h5><ul>{items}</ul></div>")
    elif now.value is None and now.error is None:
        st.markdown(":gray[:material/hourglass_empty: Reading present use…]")
    elif now.value is None:
        common.hint("Redis does not answer, so limits cannot be compared with present use.")
    else:
        st.markdown(
            ":green[:material/check_circle:] :gray[No higher tier gets less than a lower one, and no tier's limit is "
            "below present use.]"
        )
