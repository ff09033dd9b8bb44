"""The next times of a schedule that is not there yet: intervals and cron lines, counted as the server counts them."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from temporalio.api.schedule.v1 import Range, StructuredCalendarSpec

from adapters.temporal_client.schedule_spec import Interval

FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day_of_month", 1, 31), ("month", 1, 12), ("day_of_week", 0, 6))
LOOKED_DAYS = 8 * 366
"""How far ahead a time is looked for: 29 February may be eight years away."""
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NAMES = {
    "month": {name: number for number, name in enumerate(_MONTHS, 1)},
    "day_of_week": {name: number for number, name in enumerate(_DAYS)},
}


class NotCron(ValueError):
    """A line that is no cron of five fields; says which field is wrong."""


def calendar(line: str) -> StructuredCalendarSpec:
    """A cron line of five fields, with a comment after # or without, as the server keeps it. Raises NotCron."""
    times, _, comment = line.partition("#")
    parts = times.split()
    if len(parts) != len(FIELDS):
        raise NotCron(f"has {len(parts)} fields")
    made = StructuredCalendarSpec(comment=comment.strip(), second=[Range()])
    for text, (name, low, high) in zip(parts, FIELDS, strict=True):
        getattr(made, name).extend(_range(piece, name, low, high) for piece in text.split(","))
    return made


def _range(text: str, name: str, low: int, high: int) -> Range:
    span, slash, step = text.partition("/")
    first, dash, last = span.partition("-")

    def number(said: str) -> int:
        found = _NAMES.get(name, {}).get(said.lower()[:3] if said.isalpha() else "", None)
        if found is None and said.isascii() and said.isdigit():
            found = int(said)
        if found is None or not low <= found <= high:
            raise NotCron(f"{name.replace('_', ' ')} {text!r} is not in {low} to {high}")
        return found

    if span == "*":
        start, end = low, high
    else:
        start = number(first)
        # As the server has it, 5/15 goes from 5 to the end.
        end = number(last) if dash else high if slash else start
    if end < start or (slash and not (step.isascii() and step.isdigit() and int(step) > 0)):
        raise NotCron(f"{name.replace('_', ' ')} {text!r} is no range")
    return Range(start=start, end=end, step=int(step) if slash else 1)


def following(
    intervals: Sequence[Interval], crons: Sequence[str], timezone: str, after: datetime, count: int = 5
) -> list[datetime]:
    """The next times after a moment, in UTC, at most ``count``. Raises NotCron; KeyError for an unknown zone."""
    zone = ZoneInfo(timezone or "UTC")
    streams = [_every(one, after) for one in intervals] + [_matching(calendar(line), zone, after) for line in crons]
    found: list[datetime] = []
    for at in heapq.merge(*(islice(stream, count) for stream in streams)):
        if at not in found:
            found.append(at)
    return found[:count]


def _every(one: Interval, after: datetime) -> Iterator[datetime]:
    done = (after.timestamp() - one.offset_seconds) // one.seconds
    while True:
        done += 1
        yield datetime.fromtimestamp(done * one.seconds + one.offset_seconds, UTC)


def _matching(spec: StructuredCalendarSpec, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    minutes, hours, days, months, weekdays = (_all(getattr(spec, name)) for name, _, _ in FIELDS)
    begin: date = after.astimezone(zone).date()
    for ahead in range(LOOKED_DAYS):
        day = begin + timedelta(days=ahead)
        # Unlike in crontab, day of the month and day of the week have to match both.
        if day.month not in months or day.day not in days or day.isoweekday() % 7 not in weekdays:
            continue
        for hour in sorted(hours):
            for minute in sorted(minutes):
                local = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
                at = local.astimezone(UTC)
                # A time that the clocks jump over in spring is none.
                if at > after and at.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
                    yield at


def _all(ranges: Iterable[Range]) -> set[int]:
    return {number for one in ranges for number in range(one.start, one.end + 1, one.step or 1)}
