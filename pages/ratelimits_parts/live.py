"""Live: what happens now, who is near a limit, what was blocked, and forgetting one subject's use."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import streamlit as st

from adapters.core import utcnow
from operations import ratelimit_standing, ratelimit_usage, ratelimits
from operations.access import SYSTEM
from operations.ratelimit_usage import BlockedCall, KeyNow, Live, Subject
from pages.ratelimits_parts import common, naming, resetting, signalled
from pages.ratelimits_parts.common import View
from pages.widgets import cached, charts, session, state, table

LIVE_SECONDS = 2.0
MINUTES = 15
ROWS = 10
EACH = 3
"""Top consumers of each key while none is chosen."""
LOGGED = 15
SINCE = {"Last 5 minutes": 5, "Last hour": 60, "All kept": 0}


def draw(view: View) -> None:
    """The filters stand still; what they filter redraws itself."""
    keys = [policy.target.key for policy in ratelimits.policies(view.platform, view.actor)]
    resetting.dialog()
    resetting.result()  # not in a part that redraws itself: it would be gone within two seconds
    _now()
    signalled.draw()
    _blocked(keys)


def reading() -> Any:
    """What happens now, read once for everyone who looks."""
    platform = session.platform()
    # From one percent on: each person's own level is applied to what all share.
    read = partial(ratelimit_usage.live, platform, SYSTEM, near_percent=1, minutes=MINUTES)
    return cached.reading("redis:ratelimits-live", read, every=LIVE_SECONDS)


@st.fragment(run_every=LIVE_SECONDS)
def _now() -> None:
    view = View(session.platform(), session.actor())
    found = reading()
    cached.failed(found, "live usage")
    now: Live | None = found.value
    if now is None:
        if found.pending:
            st.markdown(cached.age(found))
        return
    _numbers(view, now)
    _keys(now)
    with st.container(border=True, gap="xxsmall", key="rl_minutes"):
        st.markdown("**Decisions per minute**")
        _chart(now)
    level = st.session_state.get("rl_near", 80)
    near = [one for one in now.near if one.share is not None and one.share >= level]
    top = _top(now, st.session_state.get("rl_top"))
    names = naming.named_by(view, [*near[:50], *top[:50]])
    with st.grid(2, min_column_width=430, gap=32):
        near_at, top_at = st.container(), st.container()
    with near_at:
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            st.markdown("#### Near a limit", width="content")
            st.select_slider("From", (50, 60, 70, 80, 90, 95, 100), 80, format_func=lambda n: f"{n} %", key="rl_near",
                             width=190, label_visibility="collapsed",
                             help="Subjects at or above this share of their limit")  # fmt: skip
        _subjects(near, names, "Nobody is near a limit", f"No tenant or agent is at {level} % of its limit or above.")
    with top_at:
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            st.markdown("#### Top consumers", width="content")
            st.selectbox("Of", [one.key for one in now.keys], index=None, key="rl_top", placeholder="Every key",
                         width=190, label_visibility="collapsed", help="Units of two keys do not compare")  # fmt: skip
        _subjects(top, names, "Nothing used", "Nobody used anything within its present window.")
    if view.edits:
        resetting.choose(list(dict.fromkeys([*near[:50], *top[:50]])), names)
    st.markdown(cached.age(found))


def _top(now: Live, key: str | None) -> list[Subject]:
    """Who used most: of one key, or the first few of each."""
    if key:
        return [one for one in now.top if one.key == key]
    by_key = {one.key: [row for row in now.top if row.key == one.key][:EACH] for one in now.keys}
    return [row for rows in by_key.values() for row in rows]


def _numbers(view: View, now: Live) -> None:
    """The SRS's three numbers and what stands behind them."""
    hour = cached.reading(
        "redis:ratelimits-standing", partial(ratelimit_standing.standing, view.platform), every=10.0
    ).value
    shares = [one.top_share for one in now.keys if one.top_share is not None]
    blocked = None if hour is None else hour.blocked_hour
    common.big(
        (
            ("Highest use", f"{max(shares):.0f} %" if shares else "–", "of its limit"),
            ("Active keys", f"{sum(one.active_subjects for one in now.keys):,}", "counters this hour"),
            ("Blocked", "–" if blocked is None else f"{blocked:,}", "last hour"),
            ("Decisions", f"{sum(k.allowed + k.soft + k.warned + k.blocked for k in now.keys):,}", "last minute"),
            ("Limiters", f"{now.subscribers:,}", "hear of changes at once"),
        )
    )


def _keys(now: Live) -> None:
    if not now.keys:
        table.empty("No limits yet", "Every call passes until an admin sets one.")
        return
    gone = any(one.without_redis for one in now.keys)
    heads = ("Key", "Highest share", "Allowed", "Soft", "Warned", "Blocked", "Active")
    table.draw(
        (*heads, "Without Redis") if gone else heads,
        [_key(one) if gone else _key(one)[:-1] for one in now.keys],
        right=(2, 3, 4, 5, 6, 7),
    )
    st.markdown(":small[:gray[Decisions of the last full minute; active are the tenants and agents of this hour.]]")


def _key(one: KeyNow) -> tuple[str, ...]:
    def rate(n: int, tone: str = "") -> str:
        return f"<b class='{tone}'>{n:,}</b>" if n and tone else f"{n:,}"

    return (
        f"<b>{state.text(one.key)}</b> {common.mode(one.policy)}<br><small>{common.amount(one.limit)} per "
        f"{common.per(one.window_seconds)} for everyone</small>",
        common.meter(one.top_share) if one.top_share is not None else "<span class='ph-inherits'>unused</span>",
        rate(one.allowed),
        rate(one.soft, "ph-warnings"),
        rate(one.warned, "ph-warnings"),
        rate(one.blocked, "ph-bad"),
        f"{one.active_subjects:,}",
        rate(one.without_redis, "ph-warnings"),
    )


def _chart(now: Live) -> None:
    full = now.minutes[:-1] or now.minutes
    stacks = {
        outcome: [float(sum(count.get(outcome, 0) for count in keys.values())) for _, keys in full]
        for outcome in ("allowed", "soft", "warned", "blocked")
    }
    spec = charts.bars([f"{at:%H:%M}" for at, _ in full], stacks)
    colours = ("#3e8bff", "#d9902f", "#8f6fd8", "#dc4b4b")
    for one, colour in zip(spec["series"], colours, strict=True):
        one["itemStyle"] = {"color": colour}
    words = ", ".join(f"{sum(values):,.0f} {outcome}" for outcome, values in stacks.items())
    charts.draw(spec, key="rl_minutes_chart", alt=f"Decisions of the last {len(full)} minutes: {words}", height=180)


def _subjects(rows: list[Subject], names: dict[str, str], empty: str, words: str) -> None:
    if not rows:
        table.empty(empty, words)
        return
    table.draw(
        ("Who", "Share of limit", "Used", "Limit"),
        [
            (
                f"{naming.who(row.tenant, row.agent, names)}<br><small>{state.text(row.key)}</small>",
                common.meter(row.share),
                f"{row.used:,}",
                f"{common.amount(row.limit)}<br><small>{state.text(row.source.partition(':')[0])}</small>",
            )
            for row in rows[:ROWS]
        ],
        right=(2, 3),
    )
    if len(rows) > ROWS:
        common.hint(f"and {len(rows) - ROWS} more")


def _blocked(keys: list[str]) -> None:
    st.markdown("#### Blocked calls")
    first, second, third = st.columns([2, 3, 2], vertical_alignment="bottom")
    with first:
        st.selectbox("Key", keys, index=None, key="bl_key", bind="query-params", placeholder="Any key")
    with second:
        st.text_input("Tenant or agent", key="bl_who", bind="query-params", placeholder="Part of a name or id")
    with third:
        st.selectbox("Since", list(SINCE), index=1, key="bl_since", bind="query-params")
    _log()


@st.fragment(run_every=LIVE_SECONDS)
def _log() -> None:
    view = View(session.platform(), session.actor())
    read = partial(ratelimit_usage.blocked, view.platform, SYSTEM, limit=ratelimit_usage.BLOCKED_MOST)
    found = cached.reading("redis:ratelimits-blocked", read, every=LIVE_SECONDS)
    cached.failed(found, "blocked calls")
    if found.value is None:
        return
    chosen = st.session_state
    rows = since(found.value, chosen.get("bl_key"), SINCE.get(chosen.get("bl_since"), 60))
    words = chosen.get("bl_who") or ""
    names = naming.named_by(view, rows if words.strip() else rows[:LOGGED])
    rows = about(rows, words, names)
    if not rows:
        table.empty("Nothing was blocked", "No blocked call matches. The newest of each part of Redis are kept.")
        return
    table.draw(
        ("When", "Tenant", "Agent", "Key", "Limit", "Used", "Asked for", "Decided by"),
        [
            (
                table.when(row.at), naming.named(row.tenant, names), naming.named(row.agent, names),
                state.text(row.key),
                f"{row.limit:,}", f"{row.used:,}", f"{row.cost:,}", state.text(row.source.partition(":")[0]),
            )
            for row in rows[:LOGGED]
        ],
        quiet=(0,), right=(4, 5, 6),
    )  # fmt: skip
    count = "1 blocked call matches" if len(rows) == 1 else f"{len(rows):,} blocked calls match"
    st.markdown(f":gray[{count}; the newest {LOGGED} are shown.] {cached.age(found)}")


def since(rows: list[BlockedCall], key: str | None, minutes: int) -> list[BlockedCall]:
    """The calls of a key (None: any), of the last minutes (0: all)."""
    start = utcnow() - timedelta(minutes=minutes)
    return [row for row in rows if (not key or row.key == key) and (not minutes or row.at >= start)]


def about(rows: list[BlockedCall], words: str, names: dict[str, str]) -> list[BlockedCall]:
    """The calls of tenants or agents whose id or name contains ``words``."""
    wanted = words.strip().lower()
    if not wanted:
        return rows
    return [
        row
        for row in rows
        if any(wanted in f"{one} {names.get(one, '')}".lower() for one in (row.tenant, row.agent or ""))
    ]
