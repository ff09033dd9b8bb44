"""Rows of the benchmark table, and how they are printed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One measured line: what, the figure, and what it is to be held against."""

    what: str
    figure: str
    aim: str = ""
    met: bool | None = None


def quantile(values: Sequence[float], q: float) -> float:
    """The q-quantile (0 … 1) by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(q * (len(ordered) - 1)))]


def milliseconds(seconds: float) -> str:
    """A time for reading."""
    return f"{seconds * 1000:.1f} ms" if seconds < 10 else f"{seconds:.1f} s"


def heading(title: str) -> None:
    """Begin a section."""
    print(f"\n{title}\n{'-' * len(title)}", flush=True)


def emit(row: Row) -> None:
    """Print one line; a missed aim is marked."""
    mark = "" if row.met is None else ("  ok" if row.met else "  MISSED")
    print(f"{row.what:<46} {row.figure:<44} {row.aim}{mark}".rstrip(), flush=True)


def show(title: str, rows: Iterable[Row]) -> None:
    """Print one section."""
    heading(title)
    for row in rows:
        emit(row)
