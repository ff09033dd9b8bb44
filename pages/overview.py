"""All services at a glance: what fails first, what it touches, and what changed lately."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from adapters.core import Category, State, Unit, services
from operations import health, report
from operations.access import Actor, Permission
from operations.platform import Platform
from pages.ratelimits_parts import card
from pages.widgets import charts, faces, session, state, table
from pages.widgets.page import Page, all_pages, link

if TYPE_CHECKING:
    from operations.health import Overview, ServiceNow

PAGE = Page(
    slug="overview",
    title="Overview",
    section="",
    path="/platform/infrastructure",
    permission=Permission.INFRA_VIEW,
    icon=":material/space_dashboard:",
    order=0,
    summary="The state of every service the platform stands on.",
)
LIVE_SECONDS = 5.0
CHANGES_SHOWN = 12
SHORT_NOTE = 10
"""Letters of a note that fit beside a card's number."""
_FILTER_STATES = (State.DOWN, State.NO_ANSWER, State.DEGRADED, State.UNCONFIGURED, State.HEALTHY)


def first(platform: Platform, who: Actor) -> str:
    """What the page shows before its scripts run: the banner and every card."""
    seen = health.overview(platform)
    shown = [(now.service.slug, _card(now)) for now in seen.services]
    if who.may(Permission.RATELIMIT_VIEW):
        shown.append(("ratelimits", card.card()))
    cards = "".join(
        f'<a class="ph-first-card" href="/{all_pages()[slug].url}">{html}<span>Manage →</span></a>'
        for slug, html in shown
    )
    return f'{_banner(seen)}<div class="ph-first-bar"></div><div class="ph-first-cards">{cards}</div>'


def render() -> None:
    """Draw the page: the filters stand still, everything below redraws itself."""
    _live()


@st.fragment(run_every=LIVE_SECONDS)
def _live() -> None:
    who, platform = session.actor(), session.platform()
    seen = health.overview(platform)
    st.html(_banner(seen))
    states, categories, words = _filters(seen)
    shown = [
        now
        for now in seen.services
        if (not states or now.health.state in states)
        and (not categories or now.service.category.value in categories)
        and (not words or words in f"{now.service.title} {now.service.purpose} {now.health.message}".casefold())
    ]
    limits = card.matches(states, categories, words)
    if shown or limits:
        with st.grid("auto", min_column_width=216, gap=14):
            for now in shown:
                with st.container(key=f"card-{now.service.slug}"):
                    st.html(_card(now))
                    link(now.service.slug, "Manage →")
            if limits:
                card.draw()
    else:
        table.empty("No service matches", "Clear the filters to see all of them.")
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="bottom", key="changes"):
        st.markdown("#### Recent changes of state", width="content")
        with st.popover("Report", icon=":material/download:"):
            _report(seen)
    faces.state_table(seen.changes[:CHANGES_SHOWN], titles={slug: s.title for slug, s in services().items()})
    if who.may(Permission.AUDIT_READ):
        link("audit", "Changes people made", icon=":material/history:")


def _banner(seen: Overview) -> str:
    counts = "".join(
        f'<span class="ph-{s.value}">{state.pill(s)} <span class="n">{seen.counts[s]}</span></span>'
        for s in sorted(seen.counts, key=lambda s: -s.severity)
        if seen.counts[s]
    )
    old = " · these values are old: nobody has measured since" if seen.stale else ""
    return (
        f'<div class="ph-banner ph-{seen.state.value}"><div><h2>{state.text(seen.sentence)}</h2>'
        f'<p title="{state.moment(seen.as_of)}">As of {state.since(seen.as_of)} ago, measured by the '
        f"{'sampler' if seen.source == 'sampler' else 'console itself'}{old}</p></div>"
        f'<div class="ph-counts">{counts}</div></div>'
    )


def _filters(seen: Overview) -> tuple[set[State], set[str], str]:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="filters"):
        words = st.text_input(
            "Filter",
            key="q",
            bind="query-params",
            placeholder="Filter services",
            icon=":material/filter_list:",
            label_visibility="collapsed",
            width=230,
        )
        states = st.multiselect(
            "States",
            [state.LABEL[s] for s in _FILTER_STATES],
            key="state",
            bind="query-params",
            placeholder="Any state",
            label_visibility="collapsed",
            width=200,
        )
        categories = st.multiselect(
            "Kinds",
            [c.value for c in Category],
            key="kind",
            bind="query-params",
            placeholder="Any kind",
            label_visibility="collapsed",
            width=200,
        )
        st.button(
            "Refresh all",
            icon=":material/refresh:",
            key="refresh",
            help="Ask every service now",
            on_click=health.refresh,
            args=(session.platform(), session.actor()),
        )
    chosen = {s for s in _FILTER_STATES if state.LABEL[s] in states}
    return chosen, set(categories), (words or "").strip().casefold()


def _card(now: ServiceNow) -> str:
    told, service = now.health, now.service
    bad = " bad" if told.state.failing or told.state is State.DEGRADED else ""
    value, label = _headline(now)
    if told.state.failing and now.affected:
        message = f"{told.message} Affects {', '.join(now.affected)}."
    elif now.depends_down:
        message = f"Depends on {', '.join(now.depends_down)}, which fails."
    else:
        message = told.message if bad or told.state is State.UNCONFIGURED else service.purpose
    note = now.headline.note if now.headline else ""
    if len(note) > SHORT_NOTE and message == service.purpose:
        message = f"{note[:1].upper()}{note[1:]}. {message}"
    took = "" if told.latency_ms is None else f" in {state.number(told.latency_ms, Unit.MILLISECONDS)}"
    return (
        f'<div class="ph-card ph-{told.state.value}{bad}"><header><b>{state.text(service.title)}</b>'
        f"{state.pill(told.state)}</header>"
        f'<div class="v">{value}<small>{label}</small></div>{charts.spark(now.spark, told.state)}'
        f'<div class="m" title="{state.text(told.message)}">{state.text(message)}</div>'
        f'<div class="f"><span title="in this state since {state.moment(now.since)}">for {state.since(now.since)}'
        f'</span><span title="{state.moment(told.checked_at)}">checked {state.since(told.checked_at)} ago'
        f"{took}</span></div></div>"
    )


def _headline(now: ServiceNow) -> tuple[str, str]:
    m = now.headline or next((m for m in now.known if m.headline), None)
    if m is None:
        return "–", ""
    if now.headline is None:
        value = state.text(state.number(m.value, m.unit, m.currency))
        label = f"{m.label}, {state.since(now.known_at)} ago"
        return f'<span class="ph-old" title="{state.moment(now.known_at)}">{value}</span>', state.text(label)
    full = state.text(f"{state.exact(m.value, m.unit, m.currency)} {m.label} {m.note}".strip())
    # What is too long to stand beside the number opens the card's sentence instead.
    label = f"{m.label}, {m.note}" if m.note and len(m.note) <= SHORT_NOTE else m.label
    return (
        f'<span title="{full}">{state.text(state.number(m.value, m.unit, m.currency))}</span>',
        state.text(label.replace(", of ", " of ")),
    )


def _json(platform: Platform, who: Actor) -> str:
    return json.dumps(report.as_json(platform, who), indent=2)


def _report(seen: Overview) -> None:
    """The state of everything as a file, made when somebody asks for it."""
    who, platform = session.actor(), session.platform()
    stamp = f"{seen.as_of:%Y%m%d-%H%M}" if seen.as_of else "now"
    kinds = (("CSV", report.as_csv, "text/csv"), ("JSON", _json, "application/json"))
    for name, make, kind in kinds:
        st.download_button(
            name,
            partial(make, platform, who),
            f"pilothouse-{stamp}.{name.lower()}",
            kind,
            key=name.lower(),
            on_click="ignore",
            width="stretch",
        )
