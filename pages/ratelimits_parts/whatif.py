"""What if: a proposed limit replayed on what was really used."""

from __future__ import annotations

import streamlit as st

from operations import change, ratelimit_impact, ratelimit_subjects, ratelimit_usage, ratelimits
from operations.change import FieldError
from operations.ratelimit_usage import WhatIf
from pages.ratelimits_parts import common
from pages.ratelimits_parts.common import View
from pages.widgets import charts, state, table

DAYS = {"Last day": 1, "Last 3 days": 3, "Last 7 days": 7, "Last 14 days": 14, "Last 31 days": 31}
EVERYONE = "Everyone without a narrower limit"
ROWS = 50
_VERB = {
    "HARD": "would have been blocked",
    "SOFT": "would have been billed as overage",
    "WARN": "would have been reported",
}


def draw(view: View) -> None:
    """The proposal, and what it would have done."""
    policies = common.by_key(ratelimits.policies(view.platform, view.actor))
    if not policies:
        table.empty("No limits yet", "There is nothing to compare a proposal with.")
        return
    tiers = dict(ratelimit_impact.tier_names(view.platform, view.actor))
    with st.form("rl_whatif", border=True):
        a, b, c, d = st.columns([3, 2, 2, 2], vertical_alignment="bottom")
        key = a.selectbox("Key", list(policies), key="wi_key")
        typed = b.text_input(
            "Proposed limit", key="wi_limit", placeholder="500, 0 or Unlimited", help=common.LIMIT_HELP
        )
        width = c.text_input("Window", key="wi_window", placeholder="as it is", help=common.WINDOW_HELP)
        mode = d.selectbox("Policy", common.MODES, index=None, key="wi_mode", placeholder="as it is")
        e, f, g = st.columns([3, 2, 2], vertical_alignment="bottom")
        whom = e.selectbox(
            "For", [EVERYONE, *tiers], key="wi_tier", format_func=lambda t: f"Tier {tiers[t]}" if t in tiers else t
        )
        days = f.selectbox("Replayed on", list(DAYS), index=2, key="wi_days")
        asked = g.form_submit_button("Replay", type="primary", icon=":material/replay:", width="stretch")
    if asked:
        _replay(view, key, typed, width, mode, whom if whom in tiers else None, DAYS.get(days or "", 7))
    found: WhatIf | None = st.session_state.get("_rl_whatif")
    if found is None:
        table.empty("No proposal yet", "Recorded usage shows whom a limit would have touched, how much and when.")
        return
    _result(view, found, policies[found.key].limit if found.key in policies else None)


def _replay(
    view: View, key: str | None, typed: str, width: str, mode: str | None, tier: str | None, days: int
) -> None:  # fmt: skip
    wrong: list[FieldError] = []
    limit = common.limit_of(typed, "proposed limit", wrong)
    seconds = common.window_of(width, "window", wrong) if width.strip() else None
    if wrong:
        _refused(wrong)
        return
    try:
        st.session_state["_rl_whatif"] = ratelimit_usage.simulate(
            view.platform, view.actor, key or "", limit=limit, window_seconds=seconds, policy=mode, days=days, tier=tier
        )
    except change.Invalid as error:
        _refused(error.errors)
    except change.NotFound as error:
        st.warning(state.plain(str(error)), icon=":material/search_off:")


def _refused(wrong: list[FieldError]) -> None:
    for one in wrong:
        name = common.FIELD_NAMES.get(one.field, one.field)
        st.error(
            f"**{state.plain(name)}** {state.plain(one.message)}. Allowed: {state.plain(one.allowed)}.",
            icon=":material/error:",
        )


def _result(view: View, found: WhatIf, today: int | None) -> None:
    proposal = f"{common.amount(found.limit)} {state.plain(found.key)} per {common.per(found.window_seconds)}"
    st.markdown(f"#### {proposal}, {found.policy}\n:gray[replayed from {state.moment(found.since)} until now]")
    common.big(
        (
            ("Tenants and agents touched", f"{found.affected_total:,}", f"of {found.subjects:,} seen"),
            ("Units over", f"{found.over_total:,}", _VERB.get(found.policy, "")),
            ("Everyone's limit now", common.amount(today), ""),
        )
    )
    if found.granularity == "day":
        common.hint(":material/info: Only daily sums were recorded for these days, so hours are not told apart.")
    if not found.subjects:
        table.empty("No recorded usage", "Nobody whom this limit would decide for used the key in these days.")
        return
    if not found.affected:
        st.success("Nobody would have been touched.", icon=":material/check_circle:")
        return
    if found.granularity == "hour":
        with st.container(border=True, gap="xxsmall", key="wi_hours"):
            st.markdown("**At what hours (UTC)**")
            charts.draw(
                charts.bars([f"{hour:02}" for hour in range(24)], {"over": [float(n) for n in found.by_hour]}),
                key="wi_chart", alt="Units over the proposed limit by hour of the day", height=170,
            )  # fmt: skip
    shape = "%d %b %H:%M" if found.granularity == "hour" else "%d %b"
    names = ratelimit_subjects.names(
        view.platform, view.actor, [one.tenant for one in found.affected], [one.agent or "" for one in found.affected]
    )
    table.draw(
        ("Who", "Used", "Over the limit", "Share over", "Worst moments (UTC)"),
        [
            (
                f"<b>{state.text(names.get(one.tenant, one.tenant))}</b>"
                + (f"<br><small>agent {state.text(names.get(one.agent, one.agent))}</small>" if one.agent else ""),
                f"{one.used:,}",
                f"<b>{one.over:,}</b>",
                common.meter(100 * one.over / one.used if one.used else None, 20),
                f"<small>{', '.join(f'{at:{shape}}' for at in one.hours[:5])}</small>",
            )
            for one in found.affected[:ROWS]
        ],
        right=(1, 2),
    )  # fmt: skip
    if found.affected_total > ROWS:
        common.hint(f"The {ROWS} most touched of {found.affected_total:,}.")
