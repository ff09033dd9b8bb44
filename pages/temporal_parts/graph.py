"""The graph of a run's steps: what waits for what, and how far each is. Boxes are HTML, the lines an image below."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from urllib.parse import quote

from adapters.core import utcnow
from operations.workflow_progress import RUNNING, Step
from pages.widgets import state

WIDTH, HEIGHT, GAP_ALONG, GAP_ACROSS = 208, 46, 44, 14
WIDE = 4
"""So many columns fit a window of 800 pixels."""
MARKS = {
    "waiting": "○", "running": "◐", "done": "✓", "failed": "✕", "skipped": "–", "compensating": "↶",
    "compensated": "↶", "timed out": "✕", "canceled": "⊘", "unknown": "?", "not needed": "–",
}  # fmt: skip
"""A sign of each state, beside its word and colour."""


def levels(steps: Sequence[Step]) -> list[list[Step]]:
    """Steps by how many others in a row come before them. Needs that are not among the steps count nothing."""
    known = {step.name: step for step in steps}
    depth: dict[str, int] = {}

    def deep(name: str, above: tuple[str, ...]) -> int:
        if name in depth:
            return depth[name]
        needs = [one for one in known[name].needs if one in known and one not in above]
        found = 1 + max((deep(one, (*above, name)) for one in needs), default=-1)
        depth[name] = found
        return found

    rows: list[list[Step]] = []
    for step in known.values():
        level = deep(step.name, ())
        while len(rows) <= level:
            rows.append([])
        rows[level].append(step)
    return [row for row in rows if row]


def html(steps: Sequence[Step]) -> str:
    """The graph as HTML. Runs from left to right, or downwards where that would be too wide."""
    ranks = levels(steps)
    if not ranks:
        return ""
    across = max(len(rank) for rank in ranks)
    down = len(ranks) > WIDE and across <= WIDE
    along_size, across_size = (HEIGHT, WIDTH) if down else (WIDTH, HEIGHT)
    long = len(ranks) * along_size + (len(ranks) - 1) * GAP_ALONG
    broad = across * across_size + (across - 1) * GAP_ACROSS
    place: dict[str, tuple[float, float]] = {}
    for number, rank in enumerate(ranks):
        used = len(rank) * across_size + (len(rank) - 1) * GAP_ACROSS
        for position, step in enumerate(rank):
            along = number * (along_size + GAP_ALONG)
            beside = (broad - used) / 2 + position * (across_size + GAP_ACROSS)
            place[step.name] = (beside, along) if down else (along, beside)
    width, height = (broad, long) if down else (long, broad)
    pairs = [(need, step.name) for step in steps for need in step.needs if need in place and need != step.name]
    edges = "".join(_edge(place[need], place[name], down) for need, name in pairs)
    # An image knows nothing of the theme: its lines are of a grey that shows on light and dark.
    image = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' preserveAspectRatio='none' "
        f"stroke='#8791a3' fill='none' stroke-width='1.2'>{edges}</svg>"
    )
    nodes = "".join(_node(step, place[step.name], width) for step in steps if step.name in place)
    return (
        f"<div class='ph-graph'><div class='in' role='list' style='max-width:{width}px;height:{height}px;"
        f"min-width:{min(width, 112 * (across if down else len(ranks)))}px'>"
        f"<img alt='' src='data:image/svg+xml,{quote(image)}'>{nodes}</div></div>"
    )


def kind(name: str) -> str:
    """The style class of a state."""
    return f"ph-s ph-s-{state.text(name.replace(' ', '-'))}"


def word(name: str) -> str:
    """A state as HTML: sign, word and colour together."""
    return f"<span class='{kind(name)}'>{MARKS.get(name, '?')} {state.text(name[:1].upper() + name[1:])}</span>"


def _node(step: Step, at: tuple[float, float], width: float) -> str:
    x, y = at
    title = step.title or step.name
    tip = f"{title}: {step.state}. {step.detail}".strip()
    box = f"left:{100 * x / width:.3f}%;top:{y:.1f}px;width:{100 * WIDTH / width:.3f}%;height:{HEIGHT}px"
    said = f"{MARKS.get(step.state, '?')} {step.state[:1].upper()}{step.state[1:]}{_took(step)}"
    return (
        f"<div class='n {kind(step.state)}' role='listitem' style='{box}' title='{state.text(tip)}'>"
        f"<b>{state.text(title)}</b><span>{state.text(said)}</span></div>"
    )


def _took(step: Step) -> str:
    began, ended = _moment(step.started_at), _moment(step.ended_at)
    if began is None or (ended is None and step.state != RUNNING):
        return ""
    seconds = ((ended or utcnow()) - began).total_seconds()
    return f" · {seconds:.1f} s" if seconds < 10 else f" · {state.span(seconds)}"


def _moment(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def _edge(start: tuple[float, float], end: tuple[float, float], down: bool) -> str:
    if down:
        x1, y1, x2, y2 = start[0] + WIDTH / 2, start[1] + HEIGHT, end[0] + WIDTH / 2, end[1]
        bend = (y2 - y1) / 2
        curve = f"M{x1:.1f} {y1:.1f}C{x1:.1f} {y1 + bend:.1f} {x2:.1f} {y2 - bend:.1f} {x2:.1f} {y2 - 5:.1f}"
        tip = f"M{x2 - 4:.1f} {y2 - 7:.1f}L{x2:.1f} {y2:.1f}L{x2 + 4:.1f} {y2 - 7:.1f}z"
    else:
        x1, y1, x2, y2 = start[0] + WIDTH, start[1] + HEIGHT / 2, end[0], end[1] + HEIGHT / 2
        bend = (x2 - x1) / 2
        curve = f"M{x1:.1f} {y1:.1f}C{x1 + bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} {x2 - 5:.1f} {y2:.1f}"
        tip = f"M{x2 - 7:.1f} {y2 - 4:.1f}L{x2:.1f} {y2:.1f}L{x2 - 7:.1f} {y2 + 4:.1f}z"
    return f"<path d='{curve}'/><path d='{tip}' fill='#8791a3' stroke='none'/>"
