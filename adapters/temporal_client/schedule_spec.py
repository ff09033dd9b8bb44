"""When a schedule runs: what the server stores, as values, in words and as cron lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from temporalio.api.schedule.v1 import Range, ScheduleSpec, StructuredCalendarSpec

from adapters.temporal_client.executions import when

_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_MONTHS = ("", "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")  # fmt: skip
_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
_LISTED = 6


@dataclass(frozen=True, slots=True)
class Interval:
    """Every so many seconds since 1970, shifted by ``offset_seconds``."""

    seconds: float
    offset_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Spec:
    """The times of a schedule. Crons are lines of five fields, or of seven with seconds first and the year last."""

    intervals: tuple[Interval, ...] = ()
    crons: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()
    """The crons in words, in their order."""
    excluded: int = 0
    """Calendars whose times are left out."""
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    jitter_seconds: float = 0.0
    timezone: str = ""
    """Name of the zone the crons are in; empty is UTC."""

    @property
    def words(self) -> str:
        """One line: "every 6 hours", "at 03:00 on Monday to Friday (Europe/Berlin)"."""
        parts = [_every(one) for one in self.intervals] + list(self.sentences)
        said = "; ".join(parts[:_LISTED]) + (f"; and {len(parts) - _LISTED} more" if len(parts) > _LISTED else "")
        if not parts:
            return "never: it has no times of its own"
        if self.crons and self.timezone not in ("", "UTC"):
            said += f" ({self.timezone})"
        if self.jitter_seconds:
            said += f", moved by up to {length(self.jitter_seconds)}"
        if self.excluded:
            said += f", but for {self.excluded} excluded calendar{'s' * (self.excluded > 1)}"
        return said


def length(seconds: float) -> str:
    """A length of time exactly, in the largest unit that divides it: "6 hours", "90 minutes", "1.5 seconds"."""
    for size, unit in _UNITS:
        count = seconds / size
        if count >= 1 and (count == int(count) or size == 1):
            return f"{count:g} {unit}{'s' * (count != 1)}"
    return f"{seconds:g} seconds"


def _every(one: Interval) -> str:
    unit = length(one.seconds)
    said = "every " + (unit.removeprefix("1 ") if unit.startswith("1 ") else unit)
    return said + (f", shifted by {length(one.offset_seconds)}" if one.offset_seconds else "")


def read(spec: ScheduleSpec) -> Spec:
    """The server's spec as values. Cron strings come back from the server as calendars."""
    calendars = list(spec.structured_calendar)
    return Spec(
        tuple(Interval(_seconds(one.interval.ToTimedelta()), _seconds(one.phase.ToTimedelta()))
              for one in spec.interval),
        tuple(cron(one) for one in calendars) + tuple(spec.cron_string),
        tuple(sentence(one) for one in calendars) + tuple(f"cron {line}" for line in spec.cron_string),
        len(spec.exclude_structured_calendar) + len(spec.exclude_calendar),
        when(spec.start_time) if spec.HasField("start_time") else None,
        when(spec.end_time) if spec.HasField("end_time") else None,
        _seconds(spec.jitter.ToTimedelta()),
        spec.timezone_name,
    )  # fmt: skip


def write(spec: ScheduleSpec, intervals: Iterable[Interval], crons: Iterable[str]) -> None:
    """Add intervals and cron lines to the server's spec."""
    for one in intervals:
        added = spec.interval.add()
        added.interval.FromTimedelta(timedelta(seconds=one.seconds))
        if one.offset_seconds:
            added.phase.FromTimedelta(timedelta(seconds=one.offset_seconds))
    spec.cron_string.extend(line.strip() for line in crons)


def _seconds(length_of: timedelta) -> float:
    return length_of.total_seconds()


def cron(calendar: StructuredCalendarSpec) -> str:
    """A calendar as a cron line, with its comment."""
    five = " ".join(
        (
            _field(calendar.minute, 0, 59),
            _field(calendar.hour, 0, 23),
            _field(calendar.day_of_month, 1, 31),
            _field(calendar.month, 1, 12),
            _field(calendar.day_of_week, 0, 6),
        )
    )
    second, year = _field(calendar.second, 0, 59), _field(calendar.year, 1970, 2100) if calendar.year else "*"
    line = five if (second, year) == ("0", "*") else f"{second} {five} {year}"
    return f"{line} # {calendar.comment}" if calendar.comment else line


def _field(ranges: Sequence[Range], low: int, high: int) -> str:
    if not ranges:
        return "*" if low else "0"
    return ",".join(_range(one, low, high) for one in ranges)


def _range(one: Range, low: int, high: int) -> str:
    step, end = max(1, one.step), max(one.start, one.end)
    if (one.start, end) == (low, high):
        return "*" if step == 1 else f"*/{step}"
    if one.start == end:
        return str(one.start)
    return f"{one.start}-{end}" + (f"/{step}" if step > 1 else "")


def sentence(calendar: StructuredCalendarSpec) -> str:
    """A calendar in words where they are short, or as its cron line."""
    line = cron(calendar)
    times = _times(calendar)
    if times is None or calendar.year:
        return f"cron {line}"
    parts = [times]
    if (days := _names(calendar.day_of_week, _DAYS, 0, 6)) is None:
        return f"cron {line}"
    if days:
        parts.append(f"on {days}")
    if _field(calendar.day_of_month, 1, 31) != "*":
        parts.append(f"on day {_field(calendar.day_of_month, 1, 31)} of the month")
    if (months := _names(calendar.month, _MONTHS, 1, 12)) is None:
        return f"cron {line}"
    if months:
        parts.append(f"in {months}")
    if len(parts) == 1 and times.startswith("at "):
        parts.append("every day")
    return " ".join(parts) + (f" ({calendar.comment})" if calendar.comment else "")


def _times(calendar: StructuredCalendarSpec) -> str | None:
    hour, minute = _field(calendar.hour, 0, 23), _field(calendar.minute, 0, 59)
    if _field(calendar.second, 0, 59) != "0":
        return None
    if hour.isdigit() and minute.isdigit():
        return f"at {int(hour):02}:{int(minute):02}"
    if hour == "*" and minute.isdigit():
        return f"every hour at minute {minute}"
    if hour == "*" and minute == "*":
        return "every minute"
    if hour == "*" and minute.startswith("*/"):
        return f"every {minute[2:]} minutes"
    if hour.startswith("*/") and minute.isdigit():
        return f"every {hour[2:]} hours at minute {minute}"
    if minute.isdigit() and all(one.isdigit() for one in hour.split(",")):
        return "at " + ", ".join(f"{int(one):02}:{int(minute):02}" for one in hour.split(","))
    return None


def _names(ranges: Iterable[Range], names: Sequence[str], low: int, high: int) -> str | None:
    """Names of days or months; empty for all of them, None where a step makes words longer than the cron."""
    said = []
    for one in ranges:
        end = max(one.start, one.end)
        if (one.start, end) == (low, high) and one.step <= 1:
            return ""
        if one.step > 1 and one.start != end:
            return None
        if not 0 <= one.start < len(names) or not 0 <= end < len(names):
            return None
        said.append(names[one.start] if one.start == end else f"{names[one.start]} to {names[end]}")
    return ", ".join(said)
