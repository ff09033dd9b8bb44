"""Typing the times of a schedule: an interval, or cron lines."""

from __future__ import annotations

import streamlit as st

from adapters.temporal_client.schedule_spec import Interval, length
from operations.change import FieldError
from operations.workflow_schedule_edit import LENGTHS, seconds_of


def every(first: Interval | None, prefix: str, errors: list[FieldError]) -> Interval:
    """An interval as typed; what is no length of time is added to ``errors``."""
    every_at, offset_at = st.columns(2)
    with every_at:
        typed = st.text_input(
            "Every", _short(first.seconds) if first else "", key=f"{prefix}every", placeholder="6h", help=LENGTHS
        )
    with offset_at:
        shifted = st.text_input(
            "Shifted by", _short(first.offset_seconds) if first and first.offset_seconds else "", key=f"{prefix}offset",
            placeholder="nothing", help="Counted from 1970 in UTC: 6h shifted by 30m runs at 00:30, 06:30, …",
        )  # fmt: skip
    seconds, shift = seconds_of(typed), seconds_of(shifted) if shifted.strip() else 0.0
    if seconds is None:
        errors.append(FieldError("every", f"{typed!r} is no length of time", LENGTHS))
    if shift is None:
        errors.append(FieldError("offset", f"{shifted!r} is no length of time", LENGTHS))
    return Interval(seconds or 0.0, shift or 0.0)


def crons(lines: tuple[str, ...], zone: str, prefix: str) -> tuple[str, ...]:
    """Cron lines as typed; ``zone`` is said to be theirs."""
    text = st.text_area(
        "Cron", "\n".join(lines), key=f"{prefix}cron", placeholder="0 3 * * 1-5", height=90,
        help=f"One line each: minute, hour, day of the month, month, day of the week. {zone}",
    )  # fmt: skip
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _short(seconds: float) -> str:
    said = length(seconds)
    count, _, unit = said.partition(" ")
    return f"{count}{unit[:1]}"
