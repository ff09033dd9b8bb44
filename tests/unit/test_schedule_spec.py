"""When a schedule runs, in words and as cron lines."""

from __future__ import annotations

from datetime import timedelta

import pytest
from temporalio.api.schedule.v1 import Range, ScheduleSpec, StructuredCalendarSpec

from adapters.temporal_client import payloads
from adapters.temporal_client.schedule_spec import length, read
from operations.workflow_schedule_edit import seconds_of

ALL = {
    "second": [(0, 0, 1)], "minute": [(0, 0, 1)], "hour": [(0, 0, 1)],
    "day_of_month": [(1, 31, 1)], "month": [(1, 12, 1)], "day_of_week": [(0, 6, 1)],
}  # fmt: skip


def calendar(comment: str = "", **parts: list[tuple[int, int, int]]) -> ScheduleSpec:
    ranges = {name: [Range(start=a, end=b, step=c) for a, b, c in some] for name, some in {**ALL, **parts}.items()}
    return ScheduleSpec(structured_calendar=[StructuredCalendarSpec(comment=comment, **ranges)])


@pytest.mark.parametrize(
    ("spec", "words", "cron"),
    [
        (calendar(), "at 00:00 every day", "0 0 * * *"),
        (calendar(hour=[(3, 3, 1)], day_of_week=[(1, 5, 1)]), "at 03:00 on Monday to Friday", "0 3 * * 1-5"),
        (calendar(hour=[(0, 23, 1)], minute=[(0, 59, 5)]), "every 5 minutes", "*/5 * * * *"),
        (calendar(hour=[(0, 23, 1)]), "every hour at minute 0", "0 * * * *"),
        (calendar(hour=[(0, 23, 6)]), "every 6 hours at minute 0", "0 */6 * * *"),
        (calendar(hour=[(8, 8, 1), (20, 20, 1)]), "at 08:00, 20:00 every day", "0 8,20 * * *"),
        (calendar("rent", day_of_month=[(1, 1, 1)]), "at 00:00 on day 1 of the month (rent)", "0 0 1 * * # rent"),
        (calendar(month=[(6, 8, 1)]), "at 00:00 in June to August", "0 0 * 6-8 *"),
        (calendar(hour=[(9, 17, 2)]), "cron 0 9-17/2 * * *", "0 9-17/2 * * *"),
        (calendar(second=[(30, 30, 1)]), "cron 30 0 0 * * * *", "30 0 0 * * * *"),
        (calendar(year=[(2027, 2027, 1)]), "cron 0 0 0 * * * 2027", "0 0 0 * * * 2027"),
        (calendar(day_of_week=[(0, 6, 2)]), "cron 0 0 * * */2", "0 0 * * */2"),
        (calendar(month=[(13, 13, 1)]), "cron 0 0 * 13 *", "0 0 * 13 *"),
    ],
)
def test_calendars(spec: ScheduleSpec, words: str, cron: str) -> None:
    found = read(spec)
    assert found.words == words
    assert found.crons == (cron,)


def test_intervals_zone_jitter_and_nothing() -> None:
    spec = calendar(hour=[(3, 3, 1)])
    spec.timezone_name = "Europe/Berlin"
    every = spec.interval.add()
    every.interval.FromTimedelta(timedelta(hours=6))
    every.phase.FromTimedelta(timedelta(minutes=30))
    spec.jitter.FromTimedelta(timedelta(seconds=90))
    said = "every 6 hours, shifted by 30 minutes; at 03:00 every day (Europe/Berlin), moved by up to 90 seconds"
    assert read(spec).words == said
    assert read(ScheduleSpec()).words == "never: it has no times of its own"
    many = ScheduleSpec(cron_string=[f"{n} * * * *" for n in range(9)])
    assert read(many).words.endswith("; and 3 more")


def test_lengths() -> None:
    assert [length(s) for s in (1, 90, 3600, 5400, 86400, 0.5)] == [
        "1 second", "90 seconds", "1 hour", "90 minutes", "1 day", "0.5 seconds",
    ]  # fmt: skip
    assert [seconds_of(t) for t in ("30m", "6 hours", "1.5h", " 1d ", "2w", "", "six", "-1h", "5")] == [
        1800, 21600, 5400, 86400, 1209600, None, None, None, None,
    ]  # fmt: skip


def test_payloads_that_are_no_json_are_described_and_kept() -> None:
    odd = payloads.Payload(metadata={"encoding": b"binary/encrypted"}, data=b"\x00\xff")
    found = payloads.shown([*payloads.written([{"a": 1}]), odd])
    assert not found.editable
    assert "2 bytes of binary/encrypted" in found.text
    assert payloads.shown(payloads.written([1, "ü"])).editable
    assert payloads.shown([]).text == "[]"
    assert payloads.shown(payloads.written(["x" * 70_000])).editable is False
    assert found.hidden().masked and "a" not in found.hidden().text
