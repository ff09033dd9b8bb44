"""Chart specifications: plain dictionaries for ECharts, cheap to build and coloured by the theme."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

import streamlit as st

from adapters.core import State, Unit, utcnow
from pages.widgets import state

ACCENT = "#3e8bff"
STATE_COLOR = {
    State.HEALTHY: "#2fa36b",
    State.DEGRADED: "#d9902f",
    State.NO_ANSWER: "#8f6fd8",
    State.DOWN: "#dc4b4b",
    State.UNCONFIGURED: "#8b94a5",
    State.UNKNOWN: "#8b94a5",
}
_INK = "#8b94a5"
_GRID = "rgba(139,148,165,.16)"
_SCALES: dict[Unit, tuple[float, str]] = {
    Unit.CENTS: (0.01, ""),
    Unit.BYTES: (1 / (1 << 20), "MiB"),
    Unit.RATIO: (100.0, "%"),
}


def unit_name(unit: Unit) -> str:
    """The unit a chart of this metric counts in; empty for plain counts and money."""
    return _SCALES.get(unit, (1.0, unit.value if unit is not Unit.COUNT else ""))[1]


def _millis(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _base(hours: float | None) -> dict[str, Any]:
    now = utcnow()
    axis: dict[str, Any] = {
        "type": "time",
        "axisLine": {"lineStyle": {"color": _GRID}},
        "axisTick": {"show": False},
        "axisLabel": {"color": _INK, "fontSize": 11, "hideOverlap": True},
        "splitLine": {"show": False},
    }
    if hours is not None:
        end = _millis(now)
        axis |= {"min": end - int(hours * 3_600_000), "max": end}
    return {
        "useUTC": False,  # the axis is in the viewer's zone
        "animation": False,
        "grid": {"left": 8, "right": 26, "top": 10, "bottom": 4, "containLabel": True},
        "tooltip": {"trigger": "axis", "confine": True, "axisPointer": {"type": "line"}},
        "xAxis": axis,
        "yAxis": {
            "type": "value",
            "scale": False,
            "axisLabel": {"color": _INK, "fontSize": 11},
            "splitLine": {"lineStyle": {"color": _GRID}},
            "splitNumber": 3,
        },
    }


def series(points: Iterable[Any], unit: Unit, *, hours: float, step_seconds: float) -> dict[str, Any]:
    """The average as a line over the band from minimum to maximum; gaps where nothing was measured.

    ``points`` have ``at``, ``avg``, ``min`` and ``max``.
    """
    scale = _SCALES.get(unit, (1.0, ""))[0]
    low: list[list[float | None]] = []
    band: list[list[float | None]] = []
    line: list[list[float | None]] = []
    before: int | None = None
    for point in points:
        at = _millis(point.at)
        if before is not None and at - before > step_seconds * 3000:
            for rows in (low, band, line):
                rows.append([before + 1, None])
        bottom, top = round(point.min * scale, 4), round(point.max * scale, 4)
        low.append([at, bottom])
        band.append([at, round(top - bottom, 4)])
        line.append([at, round(point.avg * scale, 4)])
        before = at
    spec = _base(hours)
    quiet = {"type": "line", "stack": "band", "symbol": "none", "silent": True, "lineStyle": {"opacity": 0}}
    spec["series"] = [
        {**quiet, "name": "min", "data": low, "tooltip": {"show": False}},
        {
            **quiet,
            "name": "range",
            "data": band,
            "areaStyle": {"color": ACCENT, "opacity": 0.16},
            "tooltip": {"show": False},
        },
        {
            "type": "line",
            "name": "average",
            "data": line,
            "symbol": "none",
            "lineStyle": {"color": ACCENT, "width": 1.75},
            "itemStyle": {"color": ACCENT},
        },
    ]
    return spec


def bars(labels: Sequence[str], stacks: dict[str, Sequence[float]]) -> dict[str, Any]:
    """Bars per label, stacked by name."""
    spec = _base(None)
    spec["xAxis"] = {
        "type": "category",
        "data": list(labels),
        "axisLabel": {"color": _INK, "fontSize": 11, "hideOverlap": True},
        "axisTick": {"show": False},
        "axisLine": {"lineStyle": {"color": _GRID}},
    }
    spec["yAxis"]["minInterval"] = 1  # what is counted has no halves
    spec["series"] = [
        {"type": "bar", "name": name, "stack": "all", "data": list(values), "barMaxWidth": 22}
        for name, values in stacks.items()
    ]
    spec["tooltip"] = {"trigger": "axis", "confine": True}
    if len(stacks) > 1:
        spec["legend"] = {"bottom": 0, "textStyle": {"color": _INK, "fontSize": 11}, "icon": "roundRect"}
        spec["grid"]["bottom"] = 30
    return spec


def draw(spec: dict[str, Any], *, key: str, alt: str, height: int = 190) -> None:
    """Draw a specification; ``alt`` says in words what the chart shows."""
    st.echarts_chart(spec, height=height, key=key, alt=alt)


def strip(changes: Sequence[Any], now: State, *, hours: float) -> str:
    """The states of the last ``hours`` as one HTML strip.

    ``changes`` are newest first, with ``at``, ``before`` and ``state``.
    """
    end = utcnow().timestamp()
    start = end - hours * 3600
    pieces: list[tuple[float, float, State]] = []
    right, current = end, now
    for change in changes:
        at = change.at.timestamp()
        if at <= start:
            break
        pieces.append((at, right, current))
        right, current = at, change.before
    pieces.append((start, right, current))
    width = end - start
    cells = "".join(
        f'<i class="ph-{piece.value}" style="width:{max(0.15, (b - a) / width * 100):.2f}%" '
        f'title="{state.LABEL[piece]} for {state.span(b - a)}"></i>'
        for a, b, piece in reversed(pieces)
    )
    words = ", ".join(f"{state.LABEL[piece]} {state.span(b - a)}" for a, b, piece in reversed(pieces[:6]))
    ends = f"<small><span>{state.span(hours * 3600)} ago</span><span>now</span></small>"
    label = state.text(words)
    return f'<div class="ph-strip" role="img" aria-label="{label}">{cells}</div><div class="ph-ends">{ends}</div>'


def spark(values: Sequence[float], now: State, *, width: int = 240, height: int = 30) -> str:
    """A line of the last values as an inline image; an empty one where fewer than two are known."""
    color = STATE_COLOR[now]
    alt, drawing = "no latency measured yet", ""
    if len(values) >= 2:
        low, high = min(values), max(values)
        # A single spike must not flatten the hour: it is cut at twice what nearly all values stay below.
        top = min(high, 2 * sorted(values)[int(len(values) * 0.95) - 1])
        reach, step = (top - low) or 1.0, width / (len(values) - 1)
        dots = " ".join(
            f"{i * step:.0f},{height - 3 - (min(v, top) - low) / reach * (height - 7):.1f}"
            for i, v in enumerate(values)
        )
        alt = f"latency of the last hour, {low:.0f} to {high:.0f} ms"
        drawing = (
            f"<polygon points='0,{height} {dots} {width},{height}' fill='{color}' fill-opacity='.13'/>"
            f"<polyline points='{dots}' fill='none' stroke='{color}' stroke-width='1.5' "
            "vector-effect='non-scaling-stroke'/>"
        )
    image = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' preserveAspectRatio='none' "
        f"width='{width}' height='{height}'>{drawing}</svg>"
    )
    return f'<img class="ph-spark" alt="{alt}" title="{alt}" src="data:image/svg+xml,{quote(image)}">'
