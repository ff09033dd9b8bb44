"""The parts of the four faces that every service has."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import streamlit as st
from pydantic import SecretStr

from adapters.core import Metric, Setting, State
from operations import audit, health
from operations.access import Permission
from pages.widgets import cached, charts, config_form, listing, state, table

if TYPE_CHECKING:
    from operations.health import Series, ServiceNow
    from operations.readings import Reading
    from pages.widgets.template import View

SPANS = {"1 h": 1, "24 h": 24, "7 d": 168, "30 d": 720}
CHANGES_SHOWN = 20
CHANGES_READ = 200
HISTORY_POINTS = 300
SETTINGS_SHOWN = 40
SETTINGS_EVERY_S = 60.0
CHARTS_SHOWN = 12


def trouble(now: ServiceNow) -> None:
    """What is wrong: advice, the raw error, and what stands or falls with it."""
    told = now.health
    lines = []
    if told.advice:
        lines.append(f":material/lightbulb: **What to do:** {state.plain(told.advice)}")
    if now.depends_down:
        lines.append(f":material/link_off: It depends on {state.plain(', '.join(now.depends_down))}, which fails.")
    if now.affected:
        lines.append(f":material/account_tree: Depending on it: {state.plain(', '.join(now.affected))}.")
    if told.paused_until is not None:
        lines.append(
            ":material/pause_circle: It failed several times in a row; it is asked again at "
            f"{state.moment(told.paused_until)}."
        )
    if lines:
        st.markdown("  \n".join(lines))
    if told.detail:
        with st.expander(f"Raw error · {told.kind or 'reported by the service'}", icon=":material/terminal:"):
            st.code(told.detail, language=None, wrap_lines=True)


def metric_row(metrics: tuple[Metric, ...], at: datetime | None = None) -> None:
    """Metrics as a row of numbers; the headline stands in the header already. ``at``: what was known then."""
    cells = "".join(
        f'<div title="{state.text(state.exact(m.value, m.unit, m.currency))}"><small>{state.text(m.label)}</small>'
        f"<b>{state.text(state.number(m.value, m.unit, m.currency))}</b>"
        + (f"<em>{state.text(m.note)}</em>" if m.note else "")
        + "</div>"
        for m in metrics
        if not m.headline
    )
    if cells:
        old = "" if at is None else " ph-old"
        st.html(f'<div class="ph-facts row{old}">{cells}</div>')
        if at is not None:
            st.markdown(f":small[:gray[:material/history: What was known {state.since(at)} ago.]]")


def status(view: View) -> None:
    """Numbers of the last visit, and the states of the last day."""
    metric_row(view.now.metrics or view.now.known, view.now.known_at)
    strip(view, hours=24)
    if view.now.health.state is State.UNCONFIGURED:
        table.empty(
            "Not configured",
            f"{view.now.health.message} The Configure face shows every value and where it comes from.",
        )


def reported(view: View) -> None:
    """The service's own settings, as it reports them now."""
    if view.now.health.state is State.UNCONFIGURED:
        return
    title = "Settings as the service reports them"
    found = listing.known(view, "settings", title, view.adapter.settings, every=SETTINGS_EVERY_S)
    if found is not None:
        settings(found, view.slug)
        st.markdown(cached.age(cached.reading(f"{view.slug}:settings", view.adapter.settings, every=SETTINGS_EVERY_S)))


def settings(reported: object, slug: str) -> None:
    """A searchable table of settings, those that differ from the service's default marked."""
    rows = [s for s in reported if isinstance(s, Setting)] if isinstance(reported, (list, tuple)) else []
    wanted = ""
    if len(rows) > 8:
        wanted = st.text_input(
            "Search settings", key=f"settings_{slug}", placeholder="Search settings", label_visibility="collapsed"
        ).casefold()
    matching = [s for s in rows if wanted in f"{s.name} {s.description} {s.group}".casefold()]
    shown = matching[:SETTINGS_SHOWN]
    if not shown:
        st.caption("No setting matches." if rows else "The service reports no settings.")
        return
    columns = {
        "Group": [state.text(s.group) for s in shown],
        "Setting": [f"<code>{state.text(s.name)}</code>" for s in shown],
        "Value": [_value(s) for s in shown],
        "Meaning": [state.text(s.description) for s in shown],
    }
    if len({s.group for s in rows}) == 1:
        del columns["Group"]
    if not any(s.description for s in rows):
        del columns["Meaning"]
    table.draw(list(columns), zip(*columns.values(), strict=True), quiet=(0,) if "Group" in columns else ())
    if len(matching) > len(shown):
        st.caption(f"{len(shown)} of {len(matching)}: search to find the others.")


def _value(setting: Setting) -> str:
    if isinstance(setting.value, SecretStr):
        return "••••"
    if setting.value == "" and not setting.default:
        return "<span class='ph-old' title='empty'>–</span>"
    shown = state.text(setting.value) + (f" {setting.unit.value}" if setting.unit.value else "")
    if setting.default is not None and setting.default != setting.value:
        default = state.text(setting.default or "empty")
        return f"<b>{shown or 'none'}</b> <span class='ph-src' title='default {default}'>changed</span>"
    return shown


def configure(view: View) -> None:
    """The configuration in force with the source of each field, the form to change it, and recent changes."""
    config_form.draw(view)
    if view.may(Permission.AUDIT_READ):
        st.markdown("#### Recent changes")
        change_table(audit.entries(view.platform, view.actor, subject_prefix=view.slug, limit=CHANGES_SHOWN))


def change_table(entries: object) -> None:
    """Who changed what, when and why."""
    rows = list(entries) if isinstance(entries, (list, tuple)) else []
    if not rows:
        table.empty("No changes yet", "Every change made here is recorded with its reason.")
        return
    table.draw(
        ("When", "Who", "What", "Subject", "Change", "Why"),
        (
            (
                table.when(e.at),
                state.text(e.actor_name),
                f"<code>{state.text(e.action)}</code>",
                state.text(e.subject),
                difference(e.before, e.after),
                state.text(e.reason or "–"),
            )
            for e in rows
        ),
        quiet=(0,),
    )


def difference(before: object, after: object) -> str:
    """The fields that differ, old and new, as HTML."""
    old = before if isinstance(before, dict) else {}
    new = after if isinstance(after, dict) else {}
    names = [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
    parts = [
        f"{state.text(name)}: <span class='ph-old'>{_short(old.get(name, '–'))}</span>"
        f" → <b>{_short(new.get(name, '–'))}</b>"
        for name in names[:6]
    ]
    more = f"<br>and {len(names) - 6} more" if len(names) > 6 else ""
    return ("<br>".join(parts) + more) or "–"


def _short(value: object) -> str:
    if value is None:
        return "none"
    words = str(value)
    return state.text(words if len(words) <= 80 else words[:77] + "…")


def monitor(view: View) -> None:
    """Availability, the history of states, and every metric over a span the address keeps."""
    st.markdown("#### History")
    chosen = st.segmented_control(
        "Span",
        list(SPANS),
        default="24 h",
        key="span",
        bind="query-params",
        required=True,
        label_visibility="collapsed",
    )
    hours = SPANS.get(chosen or "24 h", 24)
    changes = strip(view, hours=hours)
    names = {"latency_ms": "Latency of the check"} | {m.name: m.label for m in view.now.metrics}
    found = {label: (name, _history(view, name, hours)) for name, label in list(names.items())[:CHARTS_SHOWN]}
    flat = {label: value for label, (_, reading) in found.items() if (value := _constant(reading.value)) is not None}
    with st.grid(2, min_column_width=320):
        for label, (name, reading) in found.items():
            if label not in flat:
                history(view, name, label, hours, reading)
    if flat:
        words = " · ".join(f"{state.plain(label)} **{state.plain(value)}**" for label, value in flat.items())
        st.markdown(f":small[:gray[:material/horizontal_rule: Unchanged all the time:] {words}]")
    st.markdown("#### Changes of state")
    state_table(changes[:CHANGES_SHOWN])


def strip(view: View, *, hours: int) -> tuple[Any, ...]:
    """The states of the last hours as a strip; returns the changes of state it was drawn from."""
    found = cached.reading(
        f"console:{view.slug}:changes", lambda: health.state_changes(view.platform, view.slug, CHANGES_READ), every=5.0
    )
    cached.failed(found, "the history of states")
    changes = tuple(found.value or ())
    st.html(charts.strip(changes, view.now.health.state, hours=hours))
    return changes


def _history(view: View, name: str, hours: int) -> Reading[Series]:
    # One person looking or fifty: the history is read once, and the longer the span the less often.
    return cached.reading(
        f"console:{view.slug}:history:{name}:{hours}",
        lambda: health.history(view.platform, view.slug, name, hours),
        every=max(10.0, hours * 3600 / HISTORY_POINTS),
    )


def _constant(found: Series | None) -> str | None:
    """The one value a metric had all the time, in its unit; None where it moved or was hardly measured."""
    if found is None or len(found.points) < 2:
        return None
    first = found.points[0].avg
    if any(point.min != first or point.max != first for point in found.points):
        return None
    return state.number(first, found.unit)


def history(view: View, name: str, label: str, hours: int, reading: Reading[Series]) -> None:
    """One metric over time, or a sentence where nothing has been measured."""
    with st.container(border=True, key=f"history_{view.slug}_{name}", gap="xxsmall"):
        found = reading.value
        unit = charts.unit_name(found.unit) if found is not None else ""
        st.markdown(f"**{state.plain(label)}**" + (f" :small[:gray[{unit}]]" if unit else ""))
        cached.failed(reading, label)
        if found is None:
            if reading.pending:
                st.markdown(cached.age(reading))
            return
        if not found.points:
            st.markdown(":gray[Nothing measured in this span yet.]")
            return
        charts.draw(
            charts.series(found.points, found.unit, hours=hours, step_seconds=found.step_seconds),
            key=f"chart_{view.slug}_{name}",
            alt=f"{label} over {hours} hours, average and range",
            height=170,
        )


def state_table(changes: object, *, titles: dict[str, str] | None = None) -> None:
    """Changes of state, newest first."""
    rows = list(changes) if isinstance(changes, (list, tuple)) else []
    if not rows:
        table.empty("No change of state on record")
        return
    heads = ("When", *(("Service",) if titles is not None else ()), "From", "To", "Message")
    table.draw(
        heads,
        (
            (
                table.when(c.at),
                *((state.text(titles.get(c.slug, c.slug)),) if titles is not None else ()),
                state.LABEL[c.before],
                state.pill(c.state),
                state.text(c.message),
            )
            for c in rows
        ),
        quiet=(0, 2 if titles is not None else 1),
    )
