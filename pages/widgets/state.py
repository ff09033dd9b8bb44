"""How states, numbers and moments are written. State is always icon, word and colour together."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from functools import cache
from html import escape
from zoneinfo import ZoneInfo

import streamlit as st

from adapters.core import Metric, State, Unit, utcnow

LABEL = {
    State.HEALTHY: "Healthy",
    State.DEGRADED: "Degraded",
    State.NO_ANSWER: "No answer",
    State.DOWN: "Down",
    State.UNCONFIGURED: "Not configured",
    State.UNKNOWN: "Not checked yet",
}
ICON = {
    State.HEALTHY: ":material/check_circle:",
    State.DEGRADED: ":material/warning:",
    State.NO_ANSWER: ":material/timer_off:",
    State.DOWN: ":material/error:",
    State.UNCONFIGURED: ":material/settings:",
    State.UNKNOWN: ":material/help:",
}
COLOR = {
    State.HEALTHY: "green",
    State.DEGRADED: "orange",
    State.NO_ANSWER: "violet",
    State.DOWN: "red",
    State.UNCONFIGURED: "gray",
    State.UNKNOWN: "gray",
}
_SYMBOL = {"USD": "$", "EUR": "€", "GBP": "£"}
_STEPS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K"))


def badge(state: State) -> str:
    """Markdown badge of a state: icon, word, colour."""
    return f":{COLOR[state]}-badge[{ICON[state]} {LABEL[state]}]"


def pill(state: State) -> str:
    """HTML pill of a state, the same three signs: the style sheet adds the icon."""
    return f'<span class="ph-pill ph-{state.value}">{LABEL[state]}</span>'


def _compact(value: float) -> str:
    for size, suffix in _STEPS:
        if abs(value) >= size:
            return f"{value / size:.1f}".removesuffix(".0") + suffix
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.3g}"


def number(value: float, unit: Unit = Unit.COUNT, currency: str | None = None) -> str:
    """A value in its unit, short enough for a card: 1240000 cents is ``$12.4K``."""
    if unit is Unit.CENTS:
        sign = "-" if value < 0 else ""
        amount = abs(value) / 100
        short = _compact(amount) if amount >= 1000 else f"{amount:.2f}".removesuffix(".00")
        symbol = _SYMBOL.get(currency or "USD", f"{currency} ")
        return f"{sign}{symbol}{short}"
    if unit is Unit.BYTES:
        for size, suffix in ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
            if abs(value) >= size:
                return f"{value / size:.1f}".removesuffix(".0") + f" {suffix}"
        return f"{value:.0f} B"
    if unit is Unit.MILLISECONDS:
        if value >= 999.5:
            return f"{value / 1000:.2f} s"
        return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"
    if unit is Unit.SECONDS:
        return span(value) if value >= 120 else f"{value:.3g} s"
    if unit is Unit.PERCENT:
        return f"{value:.1f}".removesuffix(".0") + " %"
    if unit is Unit.RATIO:
        return f"{value * 100:.1f}".removesuffix(".0") + " %"
    if unit in (Unit.PER_SECOND, Unit.PER_MINUTE):
        return f"{_compact(value)}{unit.value}"
    return _compact(value)


def exact(value: float, unit: Unit = Unit.COUNT, currency: str | None = None) -> str:
    """The same value in full, for the tooltip."""
    if unit is Unit.CENTS:
        return f"{value / 100:,.2f} {currency or 'USD'}"
    if unit is Unit.BYTES:
        return f"{value:,.0f} bytes"
    return (
        f"{value:,.6g} {unit.value}".strip() if not float(value).is_integer() else f"{value:,.0f} {unit.value}".strip()
    )


def metric(m: Metric) -> str:
    """A metric's value as the card writes it, with its qualification."""
    return number(m.value, m.unit, m.currency) + (f" ({m.note})" if m.note else "")


def span(seconds: float) -> str:
    """A length of time in its largest sensible unit: ``45 s``, ``12 min``, ``3 h``, ``9 d``."""
    seconds = max(0.0, seconds)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} d"


def since(at: datetime | None) -> str:
    """How long ago, as a span; a dash when nobody knows."""
    return "–" if at is None else span((utcnow() - at).total_seconds())


def zone() -> tzinfo:
    """The viewer's time zone as the browser tells it; UTC where there is none, or none known here."""
    name = st.context.timezone
    return _zone(name) if name else UTC


@cache
def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        return UTC


def moment(at: datetime | None) -> str:
    """A moment to the second in the viewer's zone, which it names; a dash when there is none."""
    return "–" if at is None else f"{at.astimezone(zone()):%Y-%m-%d %H:%M:%S %Z}"


def short(at: datetime) -> str:
    """A moment to the minute in the viewer's zone, without year and zone, for narrow columns."""
    return f"{at.astimezone(zone()):%d %b %H:%M}"


_ACRONYMS = {"api": "API", "llm": "LLM", "gb": "GB", "mb": "MB", "url": "URL", "id": "ID"}


def words(name: str) -> str:
    """A name of the code as people write it: ``api_calls`` is ``API calls``, ``past_due`` is ``Past due``."""
    said = " ".join(_ACRONYMS.get(word, word) for word in name.split("_"))
    return said[:1].upper() + said[1:]


def text(value: object) -> str:
    """Escaped for HTML."""
    return escape(str(value), quote=True)


_MARKDOWN = str.maketrans({c: f"\\{c}" for c in "\\`*_[]<>#$:|~"})


def plain(value: object) -> str:
    """Escaped for Markdown: what a service or a person wrote is shown as written."""
    return str(value).translate(_MARKDOWN).replace("\n", " ")
